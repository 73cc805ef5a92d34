//! Programs that do not end by themselves: the signals at the end of the replay and of the input,
//! and `--limit`.

use std::fs;

use serde_json::{Value, json};

use crate::harness::ProgramReplay;
use crate::support::RunOutput;
use crate::test_capture::TestCapture;

const END_OF_INPUT: &str = "[[fault]]\nat = 5\nend = true\n";

/// Runs a program with a short `--timeout`; returns the output and the summary. `faults.toml`
/// contains `script`.
#[track_caller]
fn run(options: &[&str], script: &str, program: &str, args: &[&str]) -> Option<(RunOutput, Value)> {
    let replay = ProgramReplay::of(&TestCapture::new())?;
    fs::write(replay.file("faults.toml"), script).unwrap();
    let timeout = if options.contains(&"--timeout") { &[][..] } else { &["--timeout", "100ms"] };
    let replay = replay.with(&["--json", "--faults", "faults.toml"]).with(timeout).with(options);
    let program = if program.starts_with('/') { program.to_owned() } else { replay.path(program) };
    let ran = replay.program(&program, args, true);
    let json = serde_json::from_str(ran.err.lines().last().unwrap()).expect(&ran.err);
    Some((ran, json))
}

/// Checks which signals a program gets that survives none, `SIGINT`, or both, and the exit code,
/// however it waits.
#[track_caller]
fn escalates(options: &[&str], script: &str) {
    for (args, signals, code) in [
        (&["recv"][..], "int\n", 0),
        (&["recv", "int"], "int\nterm\n", 0),
        (&["recv", "int", "term"], "int\nterm\n", 137),
        (&["poll", "int", "term"], "int\nterm\n", 137),
        (&["busy", "int", "term"], "int\nterm\n", 137),
    ] {
        let Some((ran, json)) = run(options, script, "stubborn", args) else { return };
        assert_eq!((&*ran.out, ran.code), (signals, Some(code)), "{options:?} {args:?}: {ran:#?}");
        assert_eq!(json["ended"], "at_end");
    }
}

#[test]
fn signals_follow_each_other_at_the_end_of_the_replay() {
    escalates(&["--at-end", "signal"], "");
}

#[test]
fn signals_follow_the_end_of_file() {
    escalates(&["--at-end", "eof"], "");
}

#[test]
fn signals_follow_silence() {
    escalates(&["--at-end", "silence"], "");
}

/// A fault that ends the input does not disable `--timeout`, whatever `--at-end` is.
#[test]
fn signals_follow_the_end_of_the_input_by_a_fault() {
    for at_end in ["signal", "eof", "silence"] {
        escalates(&["--at-end", at_end], END_OF_INPUT);
    }
}

/// `init` has ended with the exit code of the shell before the signals are sent.
#[test]
fn signals_follow_each_other_in_the_background() {
    let line = r#""$0" recv int term &"#;
    for at_end in ["signal", "eof", "silence"] {
        let options = ["--at-end", at_end, "--timeout", "500ms"];
        let Some(replay) = ProgramReplay::of(&TestCapture::new()) else { return };
        let client = replay.path("stubborn");
        let Some((ran, _)) = run(&options, "", "/bin/sh", &["-c", line, &client]) else { return };
        assert_eq!((&*ran.out, ran.code), ("int\nterm\n", Some(0)), "{at_end}: {ran:#?}");
    }
}

/// While a daemon waits for an event that is due later, it uses its socket.
#[test]
fn a_daemon_that_waits_for_a_due_event_is_not_ended() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let file = replay.file("daemon");
    // All events together take several times the time-out.
    let replay = replay.with(&["--speed", "0.02x", "--timeout", "20ms"]);
    replay.client("ending", &["daemon", file.to_str().unwrap()]).expect(0);
    let written = fs::read_to_string(file).unwrap();
    assert_eq!(written.lines().skip(1).collect::<Vec<_>>(), capture.lines());
}

#[test]
fn the_limit_ends_a_program_that_neither_waits_nor_exits() {
    for (args, signals) in [
        (&["spin"][..], "int\n"),
        (&["spin", "int"], "int\nterm\n"),
        (&["spin", "int", "term"], "int\nterm\n"),
        (&["pause", "int"], "int\nterm\n"),
    ] {
        let Some((ran, json)) = run(&["--limit", "2s"], "", "stubborn", args) else { return };
        assert_eq!((&*ran.out, ran.code), (signals, Some(10)), "{args:?}: {ran:#?}");
        assert_eq!((&json["ended"], &json["limit_reached"]), (&json!("limit"), &json!(true)));
        assert!(ran.err.contains("ran for longer than --limit"), "{ran:#?}");
    }
}

#[test]
fn the_limit_ends_programs_that_are_started_again_and_those_without_a_socket() {
    for line in ["while :; do /bin/sleep 1000; done", "exec /bin/sleep 1000", "sleep 1000 & sleep 1000"] {
        let Some((ran, json)) = run(&["--limit", "200ms"], "", "/bin/sh", &["-c", line]) else { return };
        assert_eq!((ran.code, &json["ended"]), (Some(10), &json!("limit")), "{line}: {ran:#?}");
    }
}

/// The time-out of a step that has not begun yet is cut short.
#[test]
fn the_limit_ends_silence() {
    for at_end in ["silence", "eof"] {
        let options = ["--limit", "2s", "--at-end", at_end, "--timeout", "1h"];
        let Some((ran, _)) = run(&options, "", "stubborn", &["recv"]) else { return };
        assert_eq!((&*ran.out, ran.code), ("int\n", Some(10)), "{at_end}: {ran:#?}");
    }
}

/// The output of a run that was cut short is no reference.
#[test]
fn the_limit_has_precedence_over_expect() {
    let options = ["--limit", "200ms", "--expect", "golden.txt", "--update"];
    let Some((ran, json)) = run(&options, "", "stubborn", &["spin"]) else { return };
    assert_eq!((ran.code, &json["expect"]["result"]), (Some(10), &json!("not_written")), "{ran:#?}");
}

#[test]
fn a_program_within_the_limit_is_not_affected() {
    let Some((ran, json)) = run(&["--limit", "1h"], "", "ending", &["exit", "5"]) else { return };
    assert_eq!((ran.code, &json["limit_reached"]), (Some(4), &json!(false)), "{ran:#?}");
}
