//! Tests `pmon top` on captures that are built here.

use pmon_core::accounting::LossCause;
use pmon_core::capture::{Loss, ProcessState, Usage};
use pmon_core::{Cpu, Seq};

use super::*;

/// Runs `pmon top` and returns the groups and the last interval.
#[track_caller]
fn interval(file: &str, args: &[&str]) -> (Vec<Value>, Value) {
    let mut lines = pmon(&[&["top", file, "--json"], args].concat()).expect(0).json_lines();
    assert_eq!(lines.pop().expect("a line")["kind"], "coverage");
    let interval = lines.pop().expect("a line");
    assert_eq!(interval["kind"], "interval");
    assert!(lines.iter().all(|line| line["kind"] == "group"), "{lines:#?}");
    (lines, interval)
}

/// Returns the key, the starts, the ends and the running processes of each group.
fn counts(groups: &[Value]) -> String {
    let counts = groups.iter().map(|group| {
        let key = if group["pid"].is_null() { &group["key"] } else { &group["pid"] };
        format!("{}:{}+{}-{}", key, group["running"], group["started"], group["ended"]).replace('"', "")
    });
    counts.collect::<Vec<_>>().join(" ")
}

#[test]
fn top_shows_the_interval_that_ends_at_a_time() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    for (args, expected) in [
        (&["--at", "+1s", "--interval", "10s"][..], "sh:2+1-0"),
        (&["--at", "+2s"], "cc:1+2-1"),
        (&["--at", "2026-01-02T03:04:07Z"], "cc:1+2-1"),
        (&["--at", "03:04:07"], "cc:1+2-1"),
        (&["--at", "-4s"], "cc:1+2-1"),
        (&["--at", "+5s", "--interval", "3s"], "sh:2+1-0 cc:0+0-1 make:0+0-1"),
        (&["--at", "+5s", "--interval", "3s", "--sort", "failed"], "cc:0+0-1 make:0+0-1 sh:2+1-0"),
        (&["--at", "+5s", "--interval", "3s", "--sort", "starts"], "sh:2+1-0 cc:0+0-1 make:0+0-1"),
        (&["--at", "+5s", "--interval", "3s", "--by", "parent"], "10:1+1-1 20:0+0-1"),
        (&["--at", "+5s", "--interval", "3s", "--comm", "cc"], "cc:0+0-1"),
        (&["--at", "+5s", "--interval", "3s", "--limit", "1"], "sh:2+1-0"),
        // The start of an interval belongs to the one before.
        (&["--at", "+6s", "--interval", "1s"], "ls:0+0-1"),
        (&["--interval", "1s", "--idle", "--sort", "key"], "init:1+0-0 ls:0+0-1 sh:1+0-0"),
        (&["--interval", "1h", "--sort", "key"], "cc:0+2-2 ls:0+1-1 make:0+1-1"),
    ] {
        assert_eq!(counts(&interval(&file, args).0), expected, "{args:?}");
    }
}

#[test]
fn top_sums_up_each_interval() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    let (groups, all) = interval(&file, &["--at", "+5s", "--interval", "4s"]);
    assert_eq!((&all["started"], &all["ended"], &all["failures"]), (&3.into(), &3.into(), &3.into()));
    // `init`, `sh` and the process that becomes `ls`.
    assert_eq!((&all["running"], &all["events"]), (&3.into(), &9.into()));
    assert_eq!((&all["length_ns"], &all["cpu_ns"]), (&4_000_000_000u64.into(), &Value::Null));
    assert_eq!(
        (&all["complete"], &all["missing"], &all["running_cpu"]),
        (&true.into(), &Value::Null, &false.into())
    );
    assert_eq!((&all["until"], &all["host"]), (&"2026-01-02T03:04:10.000000000Z".into(), &"box".into()));
    assert_eq!(groups[0]["duration_max_ns"], 2_500_000_000u64);
    assert_eq!(groups[0]["rate"], 0.5);
    // The recording begins within the interval.
    let (_, first) = interval(&file, &["--at", "+2s", "--interval", "5s"]);
    assert_eq!((&first["length_ns"], &first["complete"]), (&2_000_000_000u64.into(), &true.into()));
}

#[test]
fn top_prints_a_block_per_interval_and_states_what_is_missing() {
    let dir = Dir::new();
    let mut records = build();
    let (first, last, cause) = (Seq(1), Seq(3), LossCause::Socket);
    let at = |us: u64| MonoNs(START + us * 1_000);
    let (after, before) = (at(1_600_000), at(1_700_000));
    records.insert(13, Record::Loss(Loss { cpu: Cpu(1), first, last, after, before, cause }));
    let file = dir.file("x.pmon", &ticking_capture(&records));
    let ran = pmon(&["top", &file, "--at", "+3s", "--interval", "1s", "-n", "3"]).expect(0);
    assert_eq!(ran.err, "");
    let blocks: Vec<_> = ran.out.split_terminator("\n\n").collect();
    assert_eq!(blocks.len(), 3, "{}", ran.out);
    let lines: Vec<_> = blocks[1].lines().collect();
    assert_eq!(lines[0], "box, 2026-01-02 03:04:07.000, 1.00s: 4 running, 6 events (6.0/s)");
    assert_eq!(lines[1], "2 starts (2.0/s), 1 end (1.0/s), 1 failed, CPU at exit unknown");
    assert!(lines[2].starts_with("incomplete: 3 events lost on cpu 1 at 03:04:06"), "{}", lines[2]);
    assert_eq!(lines[3], "STARTS ENDS FAILED RUN     CPU     P50     MAX MEMORY RATE/S COMM");
    assert_eq!(lines[4], "     2    1      1   1       - 297.7ms 300.0ms      -    2.0 cc");
    assert_eq!(blocks[2].lines().nth(2), Some("complete"));
    assert_eq!(blocks[2].lines().count(), 4, "{}", blocks[2]);
    // Of intervals before the start, there is none.
    let ran = pmon(&["top", &file, "--at", "+1s", "--interval", "1s", "-n", "4294967295"]).expect(0);
    assert_eq!(ran.out.split_terminator("\n\n").count(), 2, "{}", ran.out);
}

#[test]
fn top_reads_standard_input_and_refuses_times_outside() {
    let dir = Dir::new();
    let bytes = ticking_capture(&build());
    let file = dir.file("x.pmon", &bytes);
    let piped = pmon_with_input(&["top", "-", "--at", "+2s"], &bytes).expect(0);
    assert_eq!(piped.out, pmon(&["top", &file, "--at", "+2s"]).expect(0).out);
    let early = pmon(&["top", &file, "--at", "2026-01-02T03:04:04Z"]).expect(2);
    assert!(early.err.contains("--at is before the recording"), "{}", early.err);
    let late = pmon(&["top", &file, "--at", "2026-01-02T03:05:00Z"]).expect(0);
    assert!(late.out.contains("\nincomplete: the recording ends at 03:04:11\n"), "{}", late.out);
    for args in [&["--for", "1s", "x.pmon"][..], &["--at", "+1s"], &["--host", "a"], &["-n", "0"]] {
        pmon(&[&["top"], args].concat()).expect(2);
    }
}

#[test]
fn the_tables_of_a_synthetic_capture_fit_80_columns() {
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    pmon(&["synth", "-o", &file, "--events", "5k", "--rate", "5000", "--seed", "7"]).expect(0);
    for by in ["comm", "user", "unit"] {
        let ran = pmon(&["top", &file, "--by", by, "--interval", "200ms", "-n", "2"]).expect(0);
        assert_eq!(ran.out.lines().filter(|line| line.starts_with("STARTS")).count(), 2);
        assert!(ran.out.lines().all(|line| line.len() <= 80 && !line.contains('\x1b')), "{}", ran.out);
    }
}

#[test]
fn top_of_a_capture_without_an_event_shows_an_empty_interval() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &parts(&build(), 4)[0]);
    let ran = pmon(&["top", &file]).expect(0);
    assert!(ran.out.contains("0 running, 0 events (0.0/s)\n"), "{}", ran.out);
    assert!(ran.out.contains("\nincomplete: the recorder was killed after 03:04:05\n"), "{}", ran.out);
}

#[test]
fn the_cpu_time_of_a_first_thread_that_has_exited_does_not_count() {
    let dir = Dir::new();
    let leader = |us, seq, pid, threads| {
        let state = if threads > 0 { ProcessState::Alive } else { ProcessState::Ended { status: 0 } };
        let usage = Usage { cpu_us: 700, threads, process: state, ..Usage::default() };
        match exit(us, seq, (pid, pid), 0) {
            Record::Event(datagram, _) => Record::Event(datagram, Some(Box::new(usage))),
            record => record,
        }
    };
    let file = dir.file(
        "x.pmon",
        &ticking_capture(&[
            fork(100_000, 1, 1, (20, 20)),
            fork(100_100, 2, 20, (21, 20)),
            fork(100_200, 3, 1, (30, 30)),
            leader(200_000, 4, 20, 1),
            leader(200_100, 5, 30, 0),
            end(300_000, 5),
        ]),
    );
    let (_, interval) = interval(&file, &[]);
    assert_eq!((&interval["started"], &interval["ended"]), (&2.into(), &1.into()));
    assert_eq!((&interval["cpu_ns"], &interval["running"]), (&700_000.into(), &2.into()));
}
