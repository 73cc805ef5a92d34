//! Tests the results and exit codes of `pmon diff`.

use std::process::Stdio;

use pmon_core::accounting::LossCause;
use pmon_core::capture::{Encoder, Header, Loss, Record, RecordedDatagram};
use pmon_core::wire::{ByteOrder, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task};
use serde_json::json;

use crate::support::*;

/// Two captures to compare.
struct Pair {
    dir: Dir,
    a: String,
    b: String,
}

impl Pair {
    fn of_bytes(a: &[u8], b: &[u8]) -> Self {
        let dir = Dir::new();
        let (a, b) = (dir.file("a.pmon", a), dir.file("b.pmon", b));
        Self { dir, a, b }
    }

    /// Creates captures of these records, in blocks of different sizes.
    fn new(a: &[Record<'_>], b: &[Record<'_>]) -> Self {
        Self::of_bytes(&capture(a, 5), &capture(b, 3))
    }

    fn diff(&self, args: &[&str]) -> RunOutput {
        pmon(&[&["diff", &self.a, &self.b], args].concat())
    }

    /// Compares the captures, and checks the exit code and the lines on standard output, in which
    /// `{a}` and `{b}` stand for the names of the files.
    #[track_caller]
    fn check(&self, args: &[&str], code: i32, lines: &[&str]) -> RunOutput {
        let ran = self.diff(args).expect(code);
        for line in lines {
            let line = line.replace("{a}", &self.a).replace("{b}", &self.b);
            assert!(ran.out.lines().any(|found| found == line), "{line:?} not in\n{}", ran.out);
        }
        ran
    }
}

/// Returns execs that alternate between two CPUs.
fn execs(count: u32) -> Vec<Record<'static>> {
    (0..count).map(|n| exec_on(n % 2, n / 2, n)).collect()
}

fn exec_on(cpu: u32, seq: u32, n: u32) -> Record<'static> {
    event(n.into(), cpu, seq, EventBody::Exec { task: Task::new(100 + n, 100 + n) })
}

fn lost(first: u32, last: u32, cause: LossCause) -> Record<'static> {
    let (after, before) = (MonoNs(START), MonoNs(START + 4_000));
    Record::Loss(Loss { cpu: Cpu(0), first: Seq(first), last: Seq(last), after, before, cause })
}

#[test]
fn other_blocks_and_details_are_identical() {
    let others: Vec<_> =
        git_status_records().into_iter().filter(|record| !matches!(record, Record::Details(_))).collect();
    let pair = Pair::new(&git_status_records(), &others);
    let ran = pair.diff(&[]).expect(0);
    assert_eq!((&*ran.out, &*ran.err), ("identical: 8 events, 1 loss of 123 events\n", ""));
    let found = pair.diff(&["--json"]).expect(0).json();
    let equal = json!({ "events": 8, "losses": 1, "lost": 123, "blind_intervals": 0 });
    assert_eq!((&found["verdict"], &found["equal"]), (&json!("identical"), &equal));
    assert_eq!((&found["difference"], &found["notes"]), (&json!(null), &json!([])));
    assert_eq!((&found["a"]["file"], &found["b"]["clean_end"]), (&json!(pair.a), &json!(true)));
    pair.check(&["--by-cpu"], 0, &["identical: 8 events, 1 loss of 123 events"]);
}

#[test]
fn a_recorded_replay_is_identical() {
    let records = [exec(0, 9, 20), loss(0, 10, 132), exec(4, 133, 21), end(9, 2)];
    let pair = Pair::new(&records, &[]);
    pmon(&["replay", &pair.a, "--record", &pair.b, "--force"]).expect(0);
    pair.check(&[], 0, &["identical: 2 events, 1 loss of 123 events"]);
}

#[test]
fn the_first_difference_is_shown_in_both_captures() {
    let mut records = git_status_records();
    // The exit of process 20 differs.
    records[10] = exit(5, 6, (20, 20), 9);
    let pair = Pair::new(&git_status_records(), &records);
    let ran = pair.check(
        &[],
        8,
        &[
            "they differ at event 6",
            "  {a}  cpu 0 seq 6  2026-01-02 03:04:05.000005  exit          20  ?         exit 3",
            "  {b}  cpu 0 seq 6  2026-01-02 03:04:05.000005  exit          20  ?         killed by SIGKILL",
            "  content: differs",
            "equal before that: 5 events, 1 loss of 123 events",
            "all of {a}: 8 events, 1 loss of 123 events",
            "all of {b}: 8 events, 1 loss of 123 events",
        ],
    );
    assert_eq!(ran.err, "");
    let found = pair.diff(&["--json"]).expect(8).json();
    let difference = &found["difference"];
    assert_eq!(
        (&found["verdict"], &found["summary"]),
        (&json!("different"), &json!("they differ at event 6"))
    );
    assert_eq!((&difference["equal"]["events"], &difference["fields"]), (&json!(5), &json!(["content"])));
    assert_eq!((&difference["a"]["exit_code"], &difference["b"]["exit_code"]), (&json!(768), &json!(9)));
    assert_eq!(difference["lane"], json!({ "kind": "all", "cpu": null }));
}

#[test]
fn each_field_that_differs_is_named_with_its_values() {
    let a = [exec_on(0, 1, 5)];
    let fields = |b: &[Record<'_>]| {
        let pair = Pair::new(&a, b);
        (
            pair.diff(&["--json"]).expect(8).json()["difference"]["fields"].clone(),
            pair.diff(&[]).expect(8).out,
        )
    };
    let (names, text) = fields(&[exec_on(1, 2, 5)]);
    assert_eq!(names, json!(["cpu", "seq"]));
    assert!(text.contains("  cpu: 0 and 1\n  seq: 1 and 2\n"), "{text}");
    let (names, text) = fields(&[event(6, 0, 1, EventBody::Sid { task: Task::new(105, 105) })]);
    assert_eq!(names, json!(["mono_ns", "kind"]));
    assert!(text.contains("  mono_ns: 1000000005000 and 1000000006000\n  kind: exec and sid\n"), "{text}");
    assert_eq!(fields(&[loss(0, 1, 2)]).0, json!(["kind"]));
    // The same event in a datagram of another form.
    let Record::Event(frame, _) = &a[0] else { panic!("an event") };
    let mut bytes = frame.with_bytes(ByteOrder::Little, <[u8]>::to_vec);
    bytes[75] = 1;
    assert_eq!(fields(&[Record::Event(RecordedDatagram::Raw(&bytes), None)]).0, json!(["frame"]));
}

#[test]
fn losses_and_blind_times_are_compared() {
    let with = |record| [exec(0, 1, 20), record, exec(9, 200, 21)];
    let pair = Pair::new(&with(loss(0, 2, 199)), &with(loss(0, 3, 199)));
    pair.check(
        &[],
        8,
        &["they differ at loss 1, after 1 event", "  count: 198 and 197", "  first_seq: 2 and 3"],
    );
    let line =
        "03:04:05.000000  -- 198 events lost on cpu 0 (seq 2..199), before 2026-01-02 03:04:05.000004 --";
    pair.check(&[], 8, &[&format!("  {{a}}  2026-01-02 {line}")]);
    let found = pair.diff(&["--json"]).expect(8).json();
    assert_eq!((&found["difference"]["a"]["count"], &found["a"]["lost"]), (&json!(198), &json!(198)));

    let pair = Pair::new(&with(blind(1, 3)), &with(blind(1, 4)));
    pair.check(
        &[],
        8,
        &["they differ at blind interval 1, after 1 event", "all of {a}: 2 events, 1 blind interval"],
    );
    pair.check(&["--by-cpu"], 8, &["they differ at blind interval 1"]);
    pair.check(&["--renumbered"], 8, &["they differ at blind interval 1, after 1 event"]);
}

#[test]
fn a_capture_that_ends_early_differs() {
    let all = execs(40);
    let pair = Pair::new(&all, &all[..25]);
    for args in [&[][..], &["--renumbered"]] {
        pair.check(args, 8, &["they differ at event 26", "  {b}  nothing more", "all of {a}: 40 events"]);
    }
    let found = pair.diff(&["--json"]).expect(8).json();
    assert_eq!((&found["difference"]["a"]["seq"], &found["difference"]["b"]), (&json!(12), &json!(null)));
    pair.check(&["--by-cpu"], 8, &["they differ at event 13 of cpu 1", "  {b}  nothing more"]);
    Pair::new(&[], &all).check(&[], 8, &["they differ at event 1", "  {a}  nothing more"]);
    Pair::new(&[], &[]).check(&[], 0, &["identical: 0 events"]);
}

#[test]
fn other_causes_are_noted_and_are_no_difference() {
    let a = [exec(0, 9, 20), lost(10, 132, LossCause::Socket), exec(4, 133, 21), end(9, 2)];
    let [first, second] = [lost(10, 109, LossCause::Socket), lost(110, 132, LossCause::KernelMemory)];
    let b = [exec(0, 9, 20), first, second, exec(4, 133, 21), end(9, 2)];
    let pair = Pair::new(&a, &b);
    let note = "1 loss has other causes; the first: cpu 0, seq 10..132: socket in {a}, 100 socket, 23 kernel_memory in {b}";
    for args in [&[][..], &["--by-cpu"], &["--renumbered"]] {
        let lines = ["identical: 2 events, 1 loss of 123 events", &format!("note: {note}")];
        pair.check(args, 0, &lines);
    }
    let found = pair.diff(&["--json"]).expect(0).json();
    assert_eq!(found["other_causes"]["losses"], 1);
    assert_eq!(found["other_causes"]["first"]["b"]["by_cause"]["kernel_memory"], 23);
    assert_eq!(found["notes"], json!([note.replace("{a}", &pair.a).replace("{b}", &pair.b)]));
}

#[test]
fn by_cpu_accepts_any_interleaving() {
    let all = execs(100);
    let mut sorted = all.clone();
    sorted.sort_by_key(|record| match record {
        Record::Event(frame, _) => frame.event(ByteOrder::Little).map(|event| event.cpu),
        _ => None,
    });
    let pair = Pair::new(&all, &sorted);
    pair.check(&[], 8, &["they differ at event 2"]);
    pair.check(&["--by-cpu"], 0, &["identical: 100 events"]);
    sorted[70] = exec_on(1, 20, 999);
    let pair = Pair::new(&all, &sorted);
    pair.check(&["--by-cpu"], 8, &["they differ at event 21 of cpu 1"]);
    let lane = pair.diff(&["--by-cpu", "--json"]).expect(8).json()["difference"]["lane"].clone();
    assert_eq!(lane, json!({ "kind": "cpu", "cpu": 1 }));
}

#[test]
fn renumbered_ignores_only_sequence_numbers() {
    let numbered = |from: u32, pid| [exec(0, from, 20), loss(0, from + 1, from + 9), exec(4, from + 10, pid)];
    let pair = Pair::new(&numbered(10, 21), &numbered(500, 21));
    pair.check(&[], 8, &["they differ at event 1", "  seq: 10 and 500"]);
    pair.check(&["--renumbered"], 0, &["identical: 2 events, 1 loss of 9 events"]);
    pair.check(&["--renumbered", "--by-cpu"], 0, &["identical: 2 events, 1 loss of 9 events"]);
    let ran = Pair::new(&numbered(10, 21), &numbered(500, 22)).check(
        &["--renumbered"],
        8,
        &["they differ at event 2"],
    );
    assert!(ran.out.contains("content") && !ran.out.contains("  seq: "), "{}", ran.out);
}

/// Returns a capture of these datagrams in a byte order.
fn in_order(byte_order: ByteOrder, records: &[Record<'_>]) -> Vec<u8> {
    let mut encoder = Encoder::new(&Header { byte_order, ..header() }).expect("the header fits");
    let mut bytes = encoder.header().to_vec();
    records.iter().for_each(|record| encoder.push(record).expect("the record fits"));
    bytes.extend_from_slice(encoder.seal());
    bytes.extend_from_slice(encoder.finish());
    bytes
}

#[test]
fn another_byte_order_differs_in_bytes_but_not_in_content() {
    let all = execs(10);
    let pair = Pair::of_bytes(&in_order(ByteOrder::Little, &all), &in_order(ByteOrder::Big, &all));
    let note = "note: their datagrams are in different byte orders: only --renumbered can match them";
    pair.check(&[], 8, &["they differ at event 1", "  frame: differs", note]);
    pair.check(&["--by-cpu"], 8, &["they differ at event 1 of cpu 0"]);
    pair.check(&["--renumbered"], 0, &["identical: 10 events"]);
    let big = in_order(ByteOrder::Big, &all);
    Pair::of_bytes(&big, &big).check(&[], 0, &["identical: 10 events"]);
}

#[test]
fn equal_bytes_are_equal_as_events_and_as_raw_datagrams() {
    let Record::Event(frame, _) = exec(0, 1, 20) else { panic!("an event") };
    let bytes = frame.with_bytes(ByteOrder::Big, <[u8]>::to_vec);
    let raw = in_order(ByteOrder::Little, &[Record::Event(RecordedDatagram::Raw(&bytes), None)]);
    let usual = in_order(ByteOrder::Big, &[Record::Event(frame, None)]);
    for (a, b) in [(&raw, &usual), (&usual, &raw)] {
        Pair::of_bytes(a, b).check(&[], 0, &["identical: 1 event"]);
    }
}

#[test]
fn captures_that_are_too_far_apart_are_not_compared_further() {
    // Each capture has more records than can be held that the other one lacks.
    let count = 300_000;
    let of_cpu = |cpu| (0..count).map(|n| exec_on(cpu, n, n)).collect::<Vec<_>>();
    let pair = Pair::of_bytes(&capture(&of_cpu(0), 16_384), &capture(&of_cpu(1), 16_384));
    let ran = pair.diff(&["--by-cpu"]).expect(8);
    assert!(ran.out.starts_with("given up: ") && ran.out.contains("too far apart to tell"), "{}", ran.out);
    assert!(ran.out.contains("of 262,145 that had to be held"), "{}", ran.out);
    let found = pair.diff(&["--by-cpu", "--json"]).expect(8).json();
    assert_eq!((&found["verdict"], &found["difference"]), (&json!("too_far_apart"), &json!(null)));
    assert_eq!(found["apart"]["held_in_all"], 262_145);
    assert_eq!((&found["a"]["events"], &found["b"]["events"]), (&json!(count), &json!(count)));
    // Without --by-cpu, the first event already differs.
    pair.check(&[], 8, &["they differ at event 1"]);
}

#[test]
fn the_intact_part_of_a_damaged_capture_is_compared() {
    let whole = parts(&execs(60), 20);
    let mut damaged = whole.clone();
    damaged[2][70] ^= 1;
    let pair = Pair::of_bytes(&whole.concat(), &damaged.concat());
    let ran = pair.check(&[], 4, &["in the intact part: they differ at event 21", "all of {b}: 40 events"]);
    assert!(ran.err.contains(&format!("pmon: {}: ", pair.b)) && ran.err.contains("damaged"), "{}", ran.err);
    let found = pair.diff(&["--json"]).expect(4).json();
    assert_eq!((&found["a"]["damaged_parts"], &found["verdict"]), (&json!(0), &json!("different")));
    assert!(found["b"]["damaged_parts"].as_u64() > Some(0), "{found:#}");

    // With the same damage, the intact parts are equal, but the exit code reports the damage.
    let pair = Pair::of_bytes(&damaged.concat(), &damaged.concat());
    pair.check(&[], 4, &["in the intact part: identical: 40 events"]);
}

#[test]
fn an_unsealed_capture_is_compared_up_to_its_end() {
    let whole = parts(&execs(60), 20);
    let pair = Pair::of_bytes(&whole.concat(), &whole[..3].concat());
    pair.check(&[], 8, &["they differ at event 41", "note: {b} was not ended cleanly"]);
}

#[test]
fn a_file_that_is_no_capture_is_refused() {
    let pair = Pair::of_bytes(&capture(&execs(3), 5), b"#!/bin/sh\n");
    for args in [[&pair.a, &pair.b], [&pair.b, &pair.a]] {
        let ran = pmon(&["diff", args[0], args[1]]).expect(5);
        assert_eq!(ran.out, "");
        assert!(ran.err.contains("b.pmon") && ran.err.contains("not a pmon capture"), "{}", ran.err);
    }
    let nowhere = arg(&pair.dir.path("c.pmon"));
    let ran = pmon(&["diff", &pair.a, &nowhere]).expect(6);
    assert!(ran.err.contains("c.pmon"), "{}", ran.err);
    pmon(&["diff", &pair.a]).expect(2);
}

#[test]
fn one_of_the_two_may_be_standard_input() {
    let bytes = capture(&git_status_records(), 4);
    let pair = Pair::of_bytes(&bytes, &bytes);
    for args in [["-", &pair.b], [&pair.a, "-"]] {
        let ran = pmon_with_input(&["diff", args[0], args[1]], &bytes).expect(0);
        assert_eq!(ran.out, "identical: 8 events, 1 loss of 123 events\n");
    }
    let other = capture(&git_status_records()[..6], 4);
    let ran = pmon_with_input(&["diff", "-", &pair.b], &other).expect(8);
    assert!(ran.out.contains("standard input"), "{}", ran.out);
    let ran = pmon(&["diff", "-", "-"]).expect(2);
    assert!(ran.err.contains("only one of the two"), "{}", ran.err);
}

#[test]
fn a_closed_pipe_does_not_change_the_exit_code() {
    let pair = Pair::new(&execs(10), &execs(9));
    let mut command = command(&["diff", &pair.a, &pair.b]);
    let (read, write) = std::io::pipe().expect("a pipe");
    drop(read);
    command.stdout(write).stderr(Stdio::piped());
    let ran = RunOutput::new(start(command).wait_with_output().expect("pmon ends")).expect(8);
    assert_eq!(ran.err, "");
}
