//! `--expect` compares the output of a program with a file.

use std::fs;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::harness::ProgramReplay;
use crate::test_capture::TestCapture;

#[test]
fn output_is_written_and_compared() {
    let capture = TestCapture::new();
    let golden = "golden.txt";
    let Some(replay) = ProgramReplay::of(&capture).map(|replay| replay.with(&["--expect", golden])) else {
        return;
    };
    let path = replay.file(golden);
    let updating =
        ProgramReplay::of(&capture).unwrap().with(&["--expect", path.to_str().unwrap(), "--update"]);
    updating.client("receive", &["recv"]).expect(0);
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written.lines().skip(1).collect::<Vec<_>>(), capture.lines());

    replay.client("receive", &["recv"]).expect(0);
    fs::write(&path, written.replace("worker", "walker")).unwrap();
    let ran = replay.client("receive", &["recv"]).expect(3);
    assert!(ran.err.contains("walker") && ran.err.contains("worker"), "{}", ran.err);
    assert!(!ran.err.contains("ptrace"), "the diff contains only changes: {}", ran.err);
}

#[test]
fn the_programs_failure_is_the_exit_code() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let golden = replay.file("golden.txt");
    let lines: Vec<_> = ["ack".to_owned()].into_iter().chain(capture.lines()).take(5).collect();
    fs::write(&golden, lines.join("\n") + "\n").unwrap();
    let replay = replay.with(&["--expect", golden.to_str().unwrap()]);
    replay.client("ending", &["exit", "5"]).expect(4);
}

/// The `SIGINT` at the end of the replay ends a program without a handler. If the output matches,
/// the exit code is 0.
#[test]
fn the_final_sigint_is_not_a_failure() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let golden = replay.file("golden.txt");
    let lines: Vec<_> = ["ack".to_owned()].into_iter().chain(capture.lines()).collect();
    fs::write(&golden, lines.join("\n") + "\n").unwrap();
    let replay = replay.with(&["--expect", golden.to_str().unwrap()]);
    let ran = replay.client("ending", &["default"]).expect(0);
    assert!(ran.err.contains("ended by signal 2"), "{}", ran.err);
    // To ignore it is a failure.
    let replay = replay.with(&["--timeout", "200ms"]);
    replay.client("ending", &["ignore-both"]).expect(137);
    fs::write(&golden, "other\n").unwrap();
    replay.client("ending", &["default"]).expect(3);
}

#[test]
fn the_diff_truncates_long_lines() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let golden = replay.file("golden.txt");
    fs::write(&golden, "x".repeat(1_000_000)).unwrap();
    let replay = replay.with(&["--expect", golden.to_str().unwrap()]);
    let ran = replay.client("receive", &["recv"]).expect(3);
    assert!(ran.err.contains("-xxx") && ran.err.contains("xxx..."), "{} bytes", ran.err.len());
    assert!(ran.err.contains("+exec") && ran.err.len() < 20_000, "{} bytes", ran.err.len());
}

#[test]
fn output_is_not_written_to_a_fifo() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let fifo = replay.file("fifo");
    mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o666)).unwrap();
    let replay = replay.with(&["--update", "--expect", fifo.to_str().unwrap()]);
    assert!(replay.client("receive", &["recv"]).expect(7).err.contains("cannot write"));
}

/// Otherwise a test whose selection matches nothing would pass without testing anything.
#[test]
fn a_selection_without_events_fails_and_writes_nothing() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let golden = replay.file("golden.txt");
    let golden = golden.to_str().unwrap();
    for (selection, why) in [
        (&["--pid", "4100000"][..], "none concerns process or thread 4100000"),
        (&["--comm", "a-name-of-16-byt"], "the kernel truncates names to 15 bytes"),
        (&["--from", "+300d"], "the range starts after them"),
        (&["--to", "2001-01-01"], "the range ends before them"),
    ] {
        for (options, code) in [(&[][..], 2), (&["--expect", golden, "--update"], 9)] {
            let replay = ProgramReplay::of(&capture).unwrap().with(selection).with(options);
            let ran = replay.client("receive", &["recv"]).expect(code);
            assert!(ran.err.contains("no event matches") && ran.err.contains(why), "{}", ran.err);
        }
    }
    assert!(!fs::exists(golden).unwrap());
    // A program that does not subscribe does not depend on the selection.
    replay.with(&["--pid", "4100000"]).program("true", &[], false).expect(0);
}

#[test]
fn a_fault_after_the_last_event_fails() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let script = replay.file("faults.toml");
    fs::write(&script, "[[fault]]\nat = 100000\noverrun = 7\n").unwrap();
    let ran = replay.with(&["--faults", script.to_str().unwrap()]).client("receive", &["recv"]).expect(2);
    assert!(ran.err.contains("never fired: only"), "{}", ran.err);
}
