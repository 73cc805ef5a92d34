//! Tests `pmon ps` on captures that are built here.

use pmon_core::accounting::LossCause;
use pmon_core::capture::{Loss, Snapshot, Unobserved, UnobservedReason};
use pmon_core::{Cpu, Seq};

use super::*;

/// Runs `pmon ps` and returns the process IDs.
#[track_caller]
fn pids(file: &str, at: &str) -> Vec<u32> {
    let ran = pmon(&["ps", file, "--at", at, "-o", "pid", "--no-headers"]).expect(0);
    ran.out.lines().map(|line| line.trim().parse().expect("a process id")).collect()
}

/// A shell starts one program after the other, always with the same process ID.
fn reused() -> Vec<Record<'static>> {
    vec![
        found(1, 0, "/sbin/init splash", 100),
        found(10, 1, "sh", 50_000),
        scan(0, 2, SnapshotReason::Start),
        fork(1_000_000, 1, 10, (20, 20)),
        exec(1_000_500, 2, 20),
        details(1_000_500, 20, "make", b"make\0-j2\0"),
        fork(2_000_000, 3, 20, (21, 21)),
        exit(3_000_000, 4, (20, 20), 0),
        exit(3_500_000, 5, (21, 21), 0),
        fork(4_000_000, 6, 10, (20, 20)),
        exec(4_000_500, 7, 20),
        details(4_000_500, 20, "ls", b"ls\0-l\0a b\0"),
        exit(65_000_000, 8, (20, 20), 0),
        end(70_000_000, 8),
    ]
}

#[test]
fn ps_lists_the_processes_of_the_moment() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&reused()));
    for (at, expected) in [
        ("+0s", &[1, 10][..]),
        ("+999999us", &[1, 10]),
        ("+1000000us", &[1, 10, 20]),
        ("+2s", &[1, 10, 20, 21]),
        ("+2999999us", &[1, 10, 20, 21]),
        ("+3s", &[1, 10, 21]),
        ("+3600ms", &[1, 10]),
        ("+5s", &[1, 10, 20]),
        ("-6s", &[1, 10, 20]),
        ("03:05:09", &[1, 10, 20]),
        ("2026-01-02T03:05:11Z", &[1, 10]),
        ("-0s", &[1, 10]),
    ] {
        assert_eq!(pids(&file, at), expected, "{at}");
    }
}

#[test]
fn ps_shows_each_process_as_it_was_then() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&reused()));
    let args = |at: &str| {
        let ran = pmon(&["ps", &file, "--at", at, "-o", "pid,args", "--no-headers"]).expect(0);
        assert_eq!(ran.err, "");
        ran.out.lines().find_map(|line| line.trim().strip_prefix("20 ").map(str::to_owned)).expect("it runs")
    };
    // Before its exec, the process runs the program of its parent.
    assert_eq!(args("+1000400us"), "sh");
    assert_eq!(args("+1000500us"), "make -j2");
    assert_eq!(args("+4s"), "sh");
    assert_eq!(args("+4000500us"), "ls -l 'a b'");
    // An orphan has the parent 1.
    let ran = pmon(&["ps", &file, "--at", "+3200ms", "-o", "pid,ppid,cmd"]).expect(0);
    assert_eq!(ran.out.lines().last(), Some(" 21    1 make -j2"));
    assert_eq!(ran.out.lines().next(), Some("PID PPID COMMAND"));
}

#[test]
fn ps_shows_columns_like_ps() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&reused()));
    let ran = pmon(&["ps", &file, "--at", "03:05:09"]).expect(0);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines[0], "USER PID PPID STARTED  ELAPSED COMMAND");
    assert_eq!(lines[3], "1000  20   10 03:04:09   01:00 ls -l 'a b'");
    let line = |columns: &str| {
        let ran = pmon(&["ps", &file, "--at", "03:05:09", "--no-headers", "-o", columns]).expect(0);
        let line = ran.out.lines().last().expect("a process").to_owned();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("user,uid,ruid,gid,comm,exe,etimes"), "1000 1000 1000 100 ls /usr/bin/ls 60");
    assert_eq!(line("lstart"), "Fri Jan 2 03:04:09 2026");
    assert_eq!(line("unit,container,nlwp,pid"), "- - - 20");
    let ran = pmon(&["ps", &file, "-o", "pid,stat"]).expect(2);
    assert!(ran.err.contains("there is no column `stat`; the columns are pid, ppid"), "{}", ran.err);
}

#[test]
fn ps_prints_json_and_its_completeness() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&reused()));
    let ran = pmon(&["ps", &file, "--at", "03:05:09", "--json"]).expect(0);
    let lines = ran.json_lines();
    let ls = lines.iter().find(|line| line["pid"] == 20).expect("a process");
    assert_eq!((&ls["kind"], &ls["comm"], &ls["host"]), (&"process".into(), &"ls".into(), &"box".into()));
    assert_eq!(ls["args"], serde_json::json!(["ls", "-l", "a b"]));
    assert_eq!((&ls["start_time"], &ls["ended"]), (&"2026-01-02T03:04:09.000000000Z".into(), &false.into()));
    assert_eq!(
        (&ls["at"], &ls["elapsed_ns"]),
        (&"2026-01-02T03:05:09.000000000Z".into(), &60_000_000_000u64.into())
    );
    let sh = lines.iter().find(|line| line["pid"] == 10).expect("a process");
    assert_eq!(ls["parent_process_id"], sh["process_id"]);
    let coverage = coverage(&ran);
    assert_eq!((&coverage["complete"], &coverage["gaps"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(ran.err, "");
}

#[test]
fn a_moment_outside_the_recording_is_reported() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&reused()));
    let ran = pmon(&["ps", &file, "--at", "2026-01-02 03:04:04"]).expect(2);
    assert!(
        ran.err.contains("--at is before the recording, which begins at 2026-01-02 03:04:05 UTC"),
        "{ran:?}"
    );
    assert_eq!(ran.out, "");
    let ran = pmon(&["ps", &file, "--at", "2026-01-02 04:00", "--json"]).expect(0);
    assert_eq!(ran.err, "incomplete: the recording ends at 03:05:15\n");
    let coverage = coverage(&ran);
    assert_eq!((&coverage["complete"], &coverage["gaps"][0]["reason"]), (&false.into(), &"after_end".into()));
    assert_eq!(coverage["gaps"][0]["until"], "2026-01-02T04:00:00.000000000Z");
    // The age is that at the end of the recording.
    assert_eq!(ran.json_lines()[1]["at"], "2026-01-02T03:05:15.000000000Z");
    // Without an end, the recorder was killed.
    let mut torn = reused();
    torn.pop();
    let file = dir.file("torn.pmon", &parts(&torn, 4).split_last().expect("an index").1.concat());
    let ran = pmon(&["ps", &file]).expect(0);
    assert_eq!(ran.err, "incomplete: the recorder was killed after 03:05:10\n");
}

#[test]
fn a_moment_shortly_before_the_end_is_within_the_recording() {
    let dir = Dir::new();
    let whole = ticking_capture(&reused());
    let file = dir.file("x.pmon", &whole);
    for (at, is_complete) in [("+69950ms", true), ("+70s", true), ("+71s", false)] {
        let ran = pmon(&["ps", &file, "--at", at, "--json"]).expect(0);
        assert_eq!(coverage(&ran)["complete"], is_complete, "{at}: {}", ran.out);
    }
    // Without a clean end, earlier events of another CPU may be missing.
    let mut records = reused();
    records.pop();
    let torn = parts(&records, 4).split_last().expect("an index").1.concat();
    let file = dir.file("y.pmon", &torn);
    for (at, is_complete) in [("+64950ms", false), ("+60s", true)] {
        let ran = pmon(&["ps", &file, "--at", at, "--json"]).expect(0);
        assert_eq!(coverage(&ran)["complete"], is_complete, "{at}: {}", ran.out);
    }
}

/// Returns a loss of `events` events of a CPU.
fn lost(cpu: u32, (after, before): (u64, u64), events: u32) -> Record<'static> {
    let at = |us| MonoNs(START + us * 1_000);
    let (first, last, cause) = (Seq(100), Seq(99 + events), LossCause::Socket);
    Record::Loss(Loss { cpu: Cpu(cpu), first, last, after: at(after), before: at(before), cause })
}

#[test]
fn missing_events_are_reported_unless_a_scan_made_up_for_them() {
    let dir = Dir::new();
    let mut records = reused();
    records.insert(6, lost(1, (1_500_000, 1_600_000), 1204));
    let file = dir.file("x.pmon", &ticking_capture(&records));
    let err = |file: &str, at: &str| pmon(&["ps", file, "--at", at]).expect(0).err;
    assert_eq!(err(&file, "+1200ms"), "");
    assert_eq!(err(&file, "+2500ms"), "incomplete: 1,204 events lost on cpu 1 at 03:04:06\n");
    let scan = [
        found(1, 0, "/sbin/init", 100),
        found(10, 1, "sh", 50_000),
        found(30, 1, "cron", 100_166),
        scan(1_700_000, 3, SnapshotReason::Loss),
    ];
    records.splice(7..7, scan);
    let file = dir.file("scanned.pmon", &ticking_capture(&records));
    assert_eq!(err(&file, "+1650ms"), "incomplete: 1,204 events lost on cpu 1 at 03:04:06\n");
    assert_eq!(err(&file, "+2500ms"), "");
    // The scan found that process 20 had ended, and that another one was running.
    assert_eq!(pids(&file, "+1800ms"), [1, 10, 30]);
    // A scan after the moment does not change what ran before it.
    assert_eq!(pids(&file, "+1650ms"), [1, 10, 20]);
}

#[test]
fn a_scan_that_goes_on_after_the_moment_ends_no_process() {
    let dir = Dir::new();
    for reason in [SnapshotReason::Start, SnapshotReason::Loss] {
        let (mut records, [started, ended]) = (reused(), [1_500_000, 3_100_000].map(|us| START + us * 1_000));
        let (started, ended) = (MonoNs(started), MonoNs(ended));
        let scan = Snapshot { started, ended, processes: 2, reason, atomic: false };
        // Process 20 ends at 3 s, before the scan comes to it.
        records.splice(8..8, [records[0].clone(), records[1].clone(), Record::Snapshot(scan)]);
        let file = dir.file("x.pmon", &ticking_capture(&records));
        assert_eq!(pids(&file, "+1200ms"), [1, 10, 20], "{reason:?}");
        assert_eq!(pids(&file, "+2500ms"), [1, 10, 20, 21], "{reason:?}");
        assert_eq!(pids(&file, "+3300ms"), [1, 10, 21], "{reason:?}");
    }
}

#[test]
fn the_sentence_fits_80_columns_and_counts_the_rest() {
    let dir = Dir::new();
    let mut records = reused();
    let at = |us: u64| MonoNs(START + us * 1_000);
    let (from, until) = (at(1_300_000), at(1_900_000));
    records.splice(
        6..6,
        [
            lost(0, (1_100_000, 1_200_000), 1),
            lost(1, (1_100_000, 1_200_000), 2),
            lost(1, (1_300_000, 2_200_000), 5),
            blind(1_100_000, 2_900_000),
            Record::Unobserved(Unobserved { from, until, reason: UnobservedReason::Stopped }),
            exec(1_950_000, 9, 10),
            missed(1_950_000, 10),
        ],
    );
    let file = dir.file("x.pmon", &ticking_capture(&records));
    let ran = pmon(&["ps", &file, "--at", "+5s", "--json"]).expect(0);
    assert_eq!(ran.err, "incomplete: 8 events lost on 2 cpus at 03:04:06-03:04:07 and 3 more\n");
    let coverage = coverage(&ran);
    assert_eq!((&coverage["lost"], &coverage["gap_count"]), (&8.into(), &5.into()));
    assert_eq!(coverage["missed_details"], 1);
    let reasons: Vec<_> =
        coverage["gaps"].as_array().unwrap().iter().map(|gap| gap["reason"].clone()).collect();
    assert_eq!(reasons, ["lost", "lost", "lost", "blind", "unobserved"]);
    assert_eq!(coverage["gaps"][1]["from"], "2026-01-02T03:04:06.100000000Z");
    assert_eq!((&coverage["gaps"][2]["cpu"], &coverage["gaps"][2]["events"]), (&1.into(), &5.into()));
}

#[test]
fn damage_is_reported_and_the_intact_part_is_used() {
    let dir = Dir::new();
    let mut bytes = parts(&reused(), 4);
    bytes[2][40] ^= 1;
    let file = dir.file("x.pmon", &bytes.concat());
    let ran = pmon(&["ps", &file]).expect(4);
    assert!(
        ran.err.lines().last().is_some_and(|line| line == "incomplete: 1 damaged part of the file"),
        "{}",
        ran.err
    );
    assert!(ran.out.contains("/sbin/init splash"), "{}", ran.out);
}

#[test]
fn recorded_texts_cannot_control_the_terminal() {
    let dir = Dir::new();
    let mut records = reused();
    records[5] = details(1_000_500, 20, "\u{1b}[2J", b"\x1b]0;x\x07\0\n\0");
    let file = dir.file("x.pmon", &ticking_capture(&records));
    let ran = pmon(&["ps", &file, "--at", "+1500ms", "-o", "comm,exe,args"]).expect(0);
    assert!(ran.out.contains(r"$'\x1b]0;x\x07' $'\n'") && !ran.out.contains('\u{1b}'), "{}", ran.out);
    let ran = pmon(&["ps", &file, "--at", "+1500ms", "--json"]).expect(0);
    assert!(!ran.out.contains('\u{1b}') && ran.out.contains(r"\u001b]0;x"), "{}", ran.out);
}
