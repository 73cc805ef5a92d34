//! Tests that each verb states what the requested range lacks, and nothing if it lacks nothing.

use pmon_core::accounting::LossCause;
use pmon_core::capture::{Loss, Unobserved, UnobservedReason};
use pmon_core::{Cpu, Seq};

use super::*;

/// A verb with arguments, and those that make it print JSON.
struct Verb {
    words: &'static [&'static str],
    about: About,
    json: &'static [&'static str],
}

/// What the answer of a verb is about.
#[derive(Clone, Copy, PartialEq)]
enum About {
    /// The time from `--since` to `--until`.
    Range,
    /// The processes at `--at`, which follow from everything that happened before.
    Moment,
    /// The 4 seconds before `--at`.
    Interval,
}

impl About {
    /// Returns the options of the time with the gaps, and of times without.
    fn times(self) -> (&'static [&'static str], &'static [&'static [&'static str]]) {
        match self {
            Self::Range => (
                &["--since", "+4500ms", "--until", "+8s"],
                &[&["--since", "+500ms", "--until", "+4050ms"], &["--since", "+8500ms", "--until", "+9s"]],
            ),
            Self::Moment => (&["--at", "+8s"], &[&["--at", "+4050ms"]]),
            Self::Interval => (&["--at", "+8s"], &[&["--at", "+4050ms"], &["--at", "+10s"]]),
        }
    }
}

const fn verb(words: &'static [&'static str], about: About, json: &'static [&'static str]) -> Verb {
    Verb { words, about, json }
}

const VERBS: &[Verb] = &[
    verb(&["print"], About::Range, &["--format", "json"]),
    verb(&["print", "--format", "csv"], About::Range, &[]),
    verb(&["print", "--format", "classic"], About::Range, &[]),
    verb(&["tree"], About::Range, &["--json"]),
    verb(&["why", "10"], About::Range, &["--json"]),
    verb(&["find", ""], About::Range, &["--json"]),
    verb(&["stats"], About::Range, &["--json"]),
    verb(&["sql", "SELECT count(*) FROM processes"], About::Range, &["--format", "json"]),
    verb(&["sql", "SELECT pid FROM processes", "--format", "csv"], About::Range, &[]),
    verb(&["ps"], About::Moment, &["--json"]),
    verb(&["top", "--interval", "4s"], About::Interval, &["--json"]),
];

fn at(us: u64) -> MonoNs {
    MonoNs(START + us * 1_000)
}

fn lost(cpu: u32, (after, before): (u64, u64), count: u32) -> Record<'static> {
    let (first, last) = (Seq(10), Seq(9 + count));
    let (after, before) = (at(after), at(before));
    Record::Loss(Loss { cpu: Cpu(cpu), first, last, after, before, cause: LossCause::Socket })
}

fn unobserved(from: u64, until: u64, reason: UnobservedReason) -> Record<'static> {
    Record::Unobserved(Unobserved { from: at(from), until: at(until), reason })
}

/// Builds a capture of ten seconds with these records in its middle, at 5 seconds.
fn with(gaps: Vec<Record<'static>>) -> Vec<u8> {
    ticking_capture(&records(gaps))
}

fn records(gaps: Vec<Record<'static>>) -> Vec<Record<'static>> {
    let mut records = vec![
        found(1, 0, "/sbin/init", 100),
        found(10, 1, "sh", 50_000),
        scan(0, 2, SnapshotReason::Start),
        fork(1_000_000, 1, 10, (20, 20)),
        exec(1_000_500, 2, 20),
        details(1_000_500, 20, "make", b"make\0"),
        exit(4_000_000, 3, (20, 20), 0),
        fork(4_100_000, 4, 10, (21, 21)),
    ];
    records.extend(gaps);
    records.extend([
        exec(6_000_000, 5, 21),
        details(6_000_000, 21, "ls", b"ls\0"),
        exit(7_000_000, 6, (21, 21), 0),
        fork(9_000_000, 7, 10, (22, 22)),
        end(10_000_000, 7),
    ]);
    records
}

/// Returns the lines that state what is missing.
fn stated(verb: &Verb, file: &str, time: &[&str], code: i32) -> Vec<String> {
    let is_top = verb.about == About::Interval;
    let line = [&[verb.words[0], file], &verb.words[1..], time].concat();
    let stated = |ran: &RunOutput| -> Vec<String> {
        // An interval states it below its sums.
        let lines = ran.err.lines().chain(ran.out.lines().filter(|_| is_top));
        lines.filter(|line| line.starts_with("incomplete: ")).map(str::to_owned).collect()
    };
    let text = stated(&pmon(&line).expect(code));
    if !verb.json.is_empty() {
        let ran = pmon(&[&line[..], verb.json].concat()).expect(code);
        assert!(is_top || stated(&ran) == text, "{line:?}: {}", ran.err);
        let lines = ran.json_lines();
        let answer = lines.iter().flat_map(|line| line.get("complete")).collect::<Vec<_>>();
        assert!(answer.iter().all(|&complete| *complete == text.is_empty()), "{line:?}: {answer:?}");
        assert!(!answer.is_empty() || ["print", "sql"].contains(&verb.words[0]), "{line:?}");
    }
    text
}

/// Checks what all verbs state about a time with the gaps, and about times before and after them.
#[track_caller]
fn check(bytes: &[u8], expected: &str, code: i32) {
    let dir = Dir::new();
    let file = dir.file("x.pmon", bytes);
    let expected = format!("incomplete: {expected}");
    assert!(expected.chars().count() <= 80, "{expected:?}");
    for verb in VERBS {
        let (incomplete, complete) = verb.about.times();
        assert_eq!(stated(verb, &file, incomplete, code), [expected.as_str()], "{:?}", verb.words);
        for time in complete {
            assert_eq!(stated(verb, &file, time, code), [""; 0], "{:?} {time:?}", verb.words);
        }
    }
}

#[test]
fn nothing_is_stated_about_a_complete_range() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &with(Vec::new()));
    for verb in VERBS {
        let (in_the_middle, others) = verb.about.times();
        for time in [&[], in_the_middle].into_iter().chain(others.iter().copied()) {
            assert_eq!(stated(verb, &file, time, 0), [""; 0], "{:?} {time:?}", verb.words);
        }
    }
}

#[test]
fn each_verb_states_losses_and_times_without_events() {
    let time = "03:04:09-03:04:10";
    check(
        &with(vec![lost(1, (4_200_000, 5_000_000), 1204)]),
        &format!("1,204 events lost on cpu 1 at {time}"),
        0,
    );
    check(&with(vec![blind(4_200_000, 5_000_000)]), &format!("no events received {time}"), 0);
    let stopped = unobserved(4_200_000, 5_000_000, UnobservedReason::Stopped);
    check(&with(vec![stopped]), &format!("recorder stopped {time}"), 0);
}

#[test]
fn several_gaps_are_summarised_in_80_columns() {
    let span = |from: u64| (4_200_000 + from, 4_900_000 + from);
    let mut gaps: Vec<_> = (0..8).map(|cpu| lost(cpu, span(u64::from(cpu)), 1_000)).collect();
    gaps.extend((0..3).map(|n| blind(span(n).0, span(n).1)));
    gaps.extend((0..2).map(|n| unobserved(span(n).0, span(n).1, UnobservedReason::Killed)));
    check(&with(gaps), "8,000 events lost on 8 cpus at 03:04:09 and 2 more", 0);
    let few = vec![lost(1, span(0), 2), unobserved(4_200_000, 4_900_000, UnobservedReason::Stopped)];
    check(&with(few), "2 events lost on cpu 1 at 03:04:09, recorder stopped 03:04:09", 0);
}

#[test]
fn a_damaged_block_is_stated_if_it_is_in_the_range() {
    let block = [5_000_000, 5_100_000, 5_200_000, 5_300_000].map(|us| exec(us, 5, 10));
    let (intact, complete) = (with(Vec::new()), with(block.to_vec()));
    // The bytes before the block of four records are the same with and without it.
    let begin = intact.iter().zip(&complete).take_while(|(a, b)| a == b).count();
    let mut damaged = complete;
    damaged[begin + 40] ^= 0x55;
    check(&damaged, "1 damaged part of the file", 4);
}

#[test]
fn a_range_beyond_the_recording_is_incomplete() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &with(Vec::new()));
    for verb in VERBS.iter().filter(|verb| verb.about == About::Range) {
        let early = ["--since", "2026-01-02T03:00:00Z", "--until", "+9s"];
        let expected = "incomplete: the recording begins at 03:04:05";
        assert_eq!(stated(verb, &file, &early, 0), [expected], "{:?}", verb.words);
        let late = ["--since", "+1s", "--until", "2026-01-02T03:10:00Z"];
        let expected = "incomplete: the recording ends at 03:04:15";
        assert_eq!(stated(verb, &file, &late, 0), [expected], "{:?}", verb.words);
    }
}
