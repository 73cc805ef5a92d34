//! With `--clock capture`, programs read the recorded machine's clocks.

use std::fs;

use crate::harness::{CAPTURE, ProgramReplay, skip};
use crate::support::{self, START, START_REAL};
use crate::test_capture::{EVENT_INTERVAL, TestCapture};

const CAPTURE_CLOCK: &[&str] = &["--clock", "capture"];
const MICROSECOND: u64 = 1_000;

fn replay(capture: &TestCapture) -> Option<ProgramReplay> {
    Some(ProgramReplay::of(capture)?.with(CAPTURE_CLOCK))
}

/// Returns the lines of a client that prints the clocks after each event: `CLOCK_MONOTONIC`,
/// `CLOCK_REALTIME` and `CLOCK_BOOTTIME`.
fn lines_with_clocks(capture: &TestCapture) -> Vec<String> {
    let clocks = |event: usize| {
        let since = event as u64 * EVENT_INTERVAL * MICROSECOND;
        format!("clocks {} {} {}", START + since, START_REAL as u64 + since, START + since)
    };
    let lines = std::iter::once("ack".to_owned()).chain(capture.lines());
    lines.enumerate().flat_map(|(event, line)| [line, clocks(event)]).collect()
}

/// Runs `clocks`, and checks that it finds the time of each event.
#[track_caller]
fn check_events(replay: &ProgramReplay, program: &str, args: &[&str], expected: &[String]) {
    let ran = replay.program(program, args, true).expect(0);
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{program} {args:?}: {}", ran.err);
}

#[test]
fn all_clocks_show_the_time_of_the_event() {
    let capture = TestCapture::new();
    let Some(replay) = replay(&capture) else { return };
    let expected = lines_with_clocks(&capture);
    let run = |replay: &ProgramReplay| {
        for client in ["clocks", "static-clocks"] {
            let path = replay.path(client);
            check_events(replay, &path, &["events"], &expected);
            check_events(replay, &path, &["thread"], &expected);
            // Each program is executed once more, and so has a vDSO of its own.
            let line = r#""$0" none; exec "$0" "$1""#;
            check_events(replay, "/bin/sh", &["-c", line, &path, "events"], &expected);
        }
    };
    run(&replay);
    run(&replay.with_root());
}

#[test]
fn the_clocks_are_those_of_the_capture_even_with_this_systems_proc() {
    let capture = TestCapture::new();
    let Some(replay) = replay(&capture).map(|replay| replay.with(&["--proc", "real"])) else { return };
    let ran = replay.client("clocks", &["events"]).expect(0);
    let expected = lines_with_clocks(&capture);
    let (proc, lines): (Vec<_>, Vec<_>) = ran.out.lines().partition(|line| line.starts_with("uptime: "));
    assert_eq!((lines, proc.len()), (expected.iter().map(|line| &**line).collect(), expected.len() / 2));
}

#[test]
fn the_clocks_are_this_systems_by_default() {
    let capture = TestCapture::new();
    for options in [&[][..], &["--clock", "real"]] {
        let Some(replay) = ProgramReplay::of(&capture) else { return };
        let ran = replay.with(options).client("clocks", &["events"]).expect(0);
        let clocks: Vec<_> = ran.out.lines().filter(|line| line.starts_with("clocks ")).collect();
        assert_eq!(clocks.len(), capture.lines().len() + 1);
        let recorded = lines_with_clocks(&capture);
        assert!(clocks.iter().all(|&line| !recorded.contains(&line.to_owned())), "{}", ran.out);
    }
}

/// The output of the client `waits`: the microseconds by which the clocks have advanced.
const WAITS: &str = "\
    nanosleep 30000\n\
    usleep 2000\n\
    relative 30000\n\
    poll 30000\n\
    select 30000\n\
    past 0\n\
    absolute 20000\n\
    absolute 20000\n\
    absolute 20000\n\
    condition 20000\n\
    condition 20000\n\
    condition 20000\n\
    timer 20000\n\
    timer 30000\n\
    past timer 0\n\
    past 0\n\
    absolute 20000\n\
    absolute 20000\n\
    absolute 20000\n\
    condition 20000\n\
    condition 20000\n\
    condition 20000\n\
    timer 20000\n\
    timer 30000\n\
    past timer 0\n\
    past 0\n";

#[test]
fn sleeps_and_timeouts_advance_the_clocks_by_exactly_their_time() {
    let capture = TestCapture::new();
    let Some(replay) = replay(&capture) else { return };
    for client in ["clocks", "static-clocks"] {
        assert_eq!(replay.client(client, &["waits"]).expect(0).out, WAITS, "{client}");
    }
}

#[test]
fn a_program_that_waits_for_a_time_by_reading_the_clock_continues() {
    let capture = TestCapture::new();
    let Some(replay) = replay(&capture) else { return };
    assert_eq!(replay.client("clocks", &["spin"]).expect(0).out, "reached\n");
}

#[test]
fn threads_of_python_wait_with_timeouts_by_the_clocks_of_the_capture() {
    const PYTHON: &str = "/usr/bin/python3";
    let capture = TestCapture::new();
    if !fs::exists(PYTHON).unwrap() {
        return skip("python3 is not installed");
    }
    let Some(replay) = replay(&capture) else { return };
    let waits = replay.script(PYTHON, "clocks.py", &["waits"]).expect(0).out;
    assert_eq!(waits, "sleep None 30\nevent False 40\nqueue empty 50\nstarted True\n");
    let events = replay.script(PYTHON, "clocks.py", &["events"]).expect(0).out;
    let expected = |event: usize| {
        let since = event as u64 * EVENT_INTERVAL * MICROSECOND;
        format!("clocks {} {}", START + since, START_REAL as u64 + since)
    };
    let expected: Vec<_> = (1..=capture.lines().len()).map(expected).collect();
    assert_eq!(events.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn forkstat_prints_the_same_twice() {
    const FORKSTAT: &str = "/usr/bin/forkstat";
    let capture = TestCapture::new();
    if !fs::exists(FORKSTAT).unwrap() {
        return skip("forkstat is not installed");
    }
    let Some(replay) = replay(&capture) else { return };
    let [first, second] =
        [(); 2].map(|()| replay.program(FORKSTAT, &["-l", "-E", "-x"], false).expect(0).out);
    assert_eq!(first, second);
    assert!(first.contains("03:04:05 exec"), "{first}");
    // The duration is that of the recorded process.
    assert!(first.contains("0.010s git status"), "{first}");
}

#[test]
fn clocks_for_programs_and_for_shown_events_are_not_mixed_up() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture).map(|replay| replay.with(&["--clock", "mono"])) else {
        return;
    };
    let ran = replay.program("true", &[], false).expect(2);
    assert!(ran.err.contains("a program has the clocks `real` or `capture`"), "{}", ran.err);
    let file = support::arg(&replay.file(CAPTURE));
    for other in [&[][..], &["--record", "out.pmon"], &["--socket", "socket"]] {
        let ran = support::pmon(&[&["replay", &file, "--clock", "capture"], other].concat()).expect(2);
        assert!(ran.err.contains("clocks of a program; add one"), "{other:?}: {}", ran.err);
    }
}
