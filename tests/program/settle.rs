//! `--settle`: the first event is emitted when all threads of the program wait.

use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::harness::{ProgramReplay, skip};
use crate::support::RunOutput;
use crate::test_capture::TestCapture;

/// Processes that keep all CPUs busy until they are dropped.
struct Load(Vec<Child>);

impl Load {
    fn start() -> Self {
        // Other tests run at the same time.
        let busy = || Command::new("nice").args(["sh", "-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..4).map(|_| busy()).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a program with two listeners under load. Each of them receives all events, after at most
/// two acknowledgements.
#[track_caller]
fn both_receive_all(run: impl Fn(&ProgramReplay) -> RunOutput, speed: &str) {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let replay = replay.with(&["--settle", "--json", "--speed", speed]);
    let _load = Load::start();
    let ran = run(&replay).expect(0);
    let events = capture.lines().len();
    let mut counts: Vec<usize> = ran.out.lines().map(|line| line.parse().unwrap()).collect();
    counts.sort_unstable();
    // The first listener receives the acknowledgement of the second one, too.
    assert_eq!(counts, [events + 1, events + 2], "{ran:#?}");
    let json: Value = serde_json::from_str(ran.err.lines().last().unwrap()).unwrap();
    assert_eq!((&json["settled"], &json["warnings"]), (&json!(true), &json!([])), "{ran:#?}");
}

#[test]
fn a_thread_that_subscribes_late_receives_all_events() {
    both_receive_all(|replay| replay.client("late", &["threads"]), "instant");
}

#[test]
fn a_process_that_subscribes_late_receives_all_events() {
    both_receive_all(|replay| replay.client("late", &["processes"]), "instant");
}

#[test]
fn recorded_times_begin_when_the_program_has_settled() {
    both_receive_all(|replay| replay.client("late", &["threads"]), "100x");
}

#[test]
fn a_python_thread_that_subscribes_late_receives_all_events() {
    const PYTHON: &str = "/usr/bin/python3";
    if !std::fs::exists(PYTHON).unwrap() {
        return skip("python3 is not installed");
    }
    both_receive_all(|replay| replay.script(PYTHON, "late.py", &[]), "instant");
}

#[test]
fn a_program_with_a_thread_that_never_sleeps_gets_the_events_and_a_warning() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let replay = replay.with(&["--settle", "--json", "--timeout", "200ms"]);
    let ran = replay.client("threads", &["spin"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), capture.lines(), "{ran:#?}");
    let json: Value = serde_json::from_str(ran.err.lines().last().unwrap()).unwrap();
    assert_eq!(json["settled"], false);
    assert_eq!(json["warnings"][0]["code"], "not_settled");
}
