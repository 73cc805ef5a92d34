//! Tests the times that users specify: `--since`, `--until`, `--from`, `--to`.

use pmon_core::capture::Record;
use pmon_core::wire::EventBody;
use pmon_core::{MonoNs, Task};
use serde_json::Value;

use crate::support::*;

/// Creates a capture that starts at `start` (RFC 3339, in UTC), with one event per second.
fn synth(dir: &Dir, start: &str, seconds: u32) -> String {
    let file = arg(&dir.path("x.pmon"));
    let seconds = seconds.to_string();
    pmon(&["synth", "-q", "-o", &file, "--start", start, "-n", &seconds, "--rate", "1", "--cpus", "1"])
        .expect(0);
    file
}

/// Runs `pmon` successfully in a time zone.
#[track_caller]
fn in_zone(zone: &str, args: &[&str]) -> RunOutput {
    let mut command = command(args);
    command.env("TZ", zone);
    run(command).expect(0)
}

/// Returns the first and last time that `print` or `replay` shows of a range, and its messages.
#[track_caller]
fn shown(zone: &str, file: &str, verb: &str, range: &[&str]) -> ((String, String), String) {
    let ran = in_zone(zone, &[&[verb, file, "--format", "json"], range].concat());
    let lines = ran.json_lines();
    let time = |line: Option<&Value>| {
        line.expect("some are shown")["time"].as_str().expect("a time")[..16].to_owned()
    };
    ((time(lines.first()), time(lines.last())), ran.err)
}

#[test]
fn a_time_of_day_after_midnight_is_found_and_reported() {
    let dir = Dir::new();
    let file = synth(&dir, "2026-01-02T23:30:00Z", 10_000);
    let expected = ("2026-01-03T02:03".to_owned(), "2026-01-03T02:09".to_owned());
    for (verb, names) in [("print", ["--since", "--until"]), ("replay", ["--from", "--to"])] {
        let (found, message) = shown("UTC", &file, verb, &[names[0], "02:03", names[1], "02:09:59"]);
        assert_eq!(found, expected, "{verb}");
        for (name, time) in names.iter().zip(["02:03:00", "02:09:59"]) {
            assert!(message.contains(&format!("{name}: 2026-01-03T{time}+00:00 is taken")), "{message}");
        }
    }
    let (found, _) = shown("Asia/Kolkata", &file, "print", &["--since", "07:33", "--until", "07:39:59"]);
    assert_eq!(found, expected);
    // On the day of the start, the time is unambiguous.
    let (found, message) =
        shown("UTC", &file, "print", &["--since", "2026-01-02 23:40", "--until", "2026-01-02 23:49"]);
    assert_eq!((found.0.as_str(), message.as_str()), ("2026-01-02T23:40", ""));
}

#[test]
fn times_in_the_repeated_hour_are_distinguished() {
    let dir = Dir::new();
    // In Berlin, from 01:30 +02:00 to 03:30 +01:00.
    let file = synth(&dir, "2026-10-24T23:30:00Z", 3 * 3600);
    let berlin = |range: &[&str]| shown("Europe/Berlin", &file, "print", range);
    let (found, message) = berlin(&["--since", "02:10", "--until", "02:20"]);
    assert_eq!((found.0.as_str(), &found.1[..14]), ("2026-10-25T00:10", "2026-10-25T00:"));
    assert!(
        message.contains("2026-10-25T02:10:00+02:00 is taken")
            && message.contains("2026-10-25T02:10:00+01:00"),
        "{message}"
    );
    let (found, message) =
        berlin(&["--since", "2026-10-25T02:10:00+01:00", "--until", "2026-10-25T02:20:00+01:00"]);
    assert_eq!((found.0.as_str(), message.as_str()), ("2026-10-25T01:10", ""));
    // Text output adds the offset to ambiguous times, and only to those.
    let text = in_zone("Europe/Berlin", &["print", &file]).out;
    let is_shown = |hour: &str, offset: &str| {
        text.lines().filter(|line| line.starts_with(&format!("{hour}:")) && line.contains(offset)).count()
    };
    let dates: Vec<_> = text.lines().filter(|line| line.starts_with("-- ")).collect();
    assert_eq!(dates, ["-- Sunday 2026-10-25, UTC+02:00 --"]);
    assert!(is_shown("02", " +02:00  ") > 1000 && is_shown("02", " +01:00  ") > 1000);
    assert!(is_shown("01", " +0") == 0 && is_shown("03", " +0") == 0 && is_shown("03", "") > 1000);
    // On this island, half an hour is repeated.
    let file = synth_again(&dir, "2026-04-04T14:00:00Z");
    let (found, message) = shown("Australia/Lord_Howe", &file, "print", &["--since", "01:40"]);
    assert_eq!(found.0, "2026-04-04T14:40");
    assert!(message.contains("+11:00 is taken") && message.contains("+10:30"), "{message}");
}

fn synth_again(dir: &Dir, start: &str) -> String {
    std::fs::remove_file(dir.path("x.pmon")).expect("it is there");
    synth(dir, start, 3 * 3600)
}

#[test]
fn a_time_in_the_skipped_hour_is_the_time_of_the_change() {
    let dir = Dir::new();
    // In New York, 02:00 -05:00 is 03:00 -04:00.
    let file = synth(&dir, "2026-03-08T06:00:00Z", 2 * 3600);
    for time in ["02:30", "2026-03-08 02:30"] {
        let (found, message) = shown("America/New_York", &file, "print", &["--since", time]);
        assert_eq!(found.0, "2026-03-08T07:00");
        assert!(message.contains("there is no 02:30:00 on 2026-03-08"), "{message}");
    }
}

#[test]
fn a_reversed_range_is_refused() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 5));
    for range in
        [["03:04:05.000004", "03:04:05.000002"], ["+5us", "+2us"], ["2026-01-03 00:00", "2026-01-02 00:00"]]
    {
        let ran = pmon(&["print", &file, "--since", range[0], "--until", range[1]]).expect(2);
        assert!(ran.err.contains("--since") && ran.out.is_empty(), "{ran:?}");
        let ran = pmon(&["replay", &file, "--from", range[0], "--to", range[1]]).expect(2);
        assert!(ran.err.contains("--from") && ran.out.is_empty(), "{ran:?}");
    }
    // Times of both clocks.
    for range in [["2999-01-01T00:00:00Z", "+1s"], ["-0s", "1999-01-01T00:00:00Z"]] {
        for verb in [&["print", &file][..], &["cut", "-o", "-", &file]] {
            let ran = pmon(&[verb, &["--since", range[0], "--until", range[1]]].concat()).expect(2);
            assert!(ran.err.contains("--since is after --until") && ran.out.is_empty(), "{ran:?}");
        }
    }
}

/// Checks the messages of `print` and `replay` for a selection without a match. Neither fails, and
/// neither shows an event.
#[track_caller]
fn assert_no_match(file: &str, selection: &[&str], words: &[&str]) {
    for verb in ["print", "replay"] {
        let selection = selection.iter().map(|&word| match (verb, word) {
            ("replay", "--since") => "--from",
            ("replay", "--until") => "--to",
            _ => word,
        });
        let args: Vec<&str> = [verb, file, "--format", "json"].into_iter().chain(selection).collect();
        let ran = pmon(&args).expect(0);
        assert!(!ran.out.contains("\"pid\""), "{ran:?}");
        for word in words {
            assert!(ran.err.contains("no event matches") && ran.err.contains(word), "{word:?}: {ran:?}");
        }
    }
}

#[test]
fn a_selection_without_a_match_is_explained() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 5));
    let covers = "from 2026-01-02 03:04:05 UTC to 2026-01-02 03:04:07 UTC";
    assert_no_match(&file, &["--since", "+1h"], &[covers, "starts after them"]);
    assert_no_match(&file, &["--since", "2026-01-02 03:05"], &[covers, "starts after them"]);
    assert_no_match(&file, &["--until", "2026-01-02 03:04"], &[covers, "ends before them"]);
    assert_no_match(&file, &["--since", "-0s"], &[]);
    assert_no_match(&file, &["--pid", "4711"], &["none concerns process or thread 4711"]);
    assert_no_match(&file, &["--pid", "4711,4712"], &["none concerns process or thread 4711 or 4712"]);
    assert_no_match(&file, &["--tree", "4711"], &["none concerns process 4711 or a descendant"]);
    assert_no_match(&file, &["--kind", "coredump,sid"], &["none of kind coredump or sid"]);
    assert_no_match(&file, &["--comm", "no-such"], &["none is of a process named no-such"]);
    assert_no_match(
        &file,
        &["--comm", "a-name-of-20-bytes--"],
        &["named a-name-of-20-bytes--", "here to a-name-of-20-by"],
    );
    assert_no_match(&file, &["--kind", "exec", "--pid", "10"], &["none matches all of them"]);
    let again = arg(&dir.path("again.pmon"));
    let ran = pmon(&["replay", &file, "--pid", "4711", "--record", &again]).expect(0);
    assert!(ran.err.contains("no event matches: none concerns process or thread 4711"), "{ran:?}");
    // If only a part of the selection matches, the output names the rest.
    let ran = pmon(&["print", &file, "--pid", "20,4711", "--kind", "exit"]).expect(0);
    assert!(
        ran.out.contains("exit") && ran.err.contains("no event concerns process or thread 4711"),
        "{ran:?}"
    );
    assert_eq!(
        pmon(&["print", &file, "--pid", "20,30", "--kind", "exit"]).expect(0).err,
        "incomplete: 123 events lost on cpu 1 at 03:04:05\n"
    );
    // The output mentions events that are hidden by default.
    let ran = pmon(&["print", &file, "--pid", "21"]).expect(0);
    assert!(ran.err.contains("--threads shows"), "{ran:?}");
}

#[test]
fn the_scope_is_named_if_no_event_matches() {
    let dir = Dir::new();
    let mut records =
        vec![Record::Scope(pmon_core::capture::ScopeInfo { text: "events of kind exit".into() })];
    records.push(exit(5, 6, (20, 20), 0));
    records.push(end(10, 1));
    let file = dir.file("x.pmon", &capture(&records, 5));
    let ran = pmon(&["print", &file, "--kind", "exec"]).expect(0);
    assert!(ran.err.contains("none of kind exec; the recording has only events of kind exit"), "{ran:?}");
}

#[test]
fn the_end_uses_a_wall_clock_that_was_set_during_the_recording() {
    let dir = Dir::new();
    // Two seconds after the start, the clock is set forward by a day.
    let day = 86_400_000_000_000;
    let anchor = pmon_core::capture::ClockAnchor {
        mono: MonoNs(START + 2_000_000_000),
        boot_ns: START + 2_000_000_000,
        real_ns: START_REAL + 2_000_000_000 + day,
    };
    let sid = |us, seq| event(us, 0, seq, EventBody::Sid { task: Task::new(10, 10) });
    let records = [sid(1, 1), Record::Clock(anchor), sid(3_000_000, 2), end(4_000_000, 2)];
    let file = dir.file("x.pmon", &capture(&records, 50));
    let ran = pmon(&["print", &file, "--since", "03:04:07", "--format", "json"]).expect(0);
    assert_eq!(ran.json_lines().len(), 1, "{ran:?}");
    assert!(ran.out.contains("2026-01-03T03:04:08"), "{ran:?}");
}
