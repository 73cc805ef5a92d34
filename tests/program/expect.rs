//! `--expect`: a program's output is compared with a file, in one line of a test.

use std::fs;

use crate::day::Day;
use crate::stage::Replay;

#[test]
fn it_is_written_compared_and_told_apart() {
    let day = Day::new();
    let golden = "golden.txt";
    let Some(replay) = Replay::of(&day).map(|replay| replay.with(&["--expect", golden])) else { return };
    let path = replay.file(golden);
    let updating = Replay::of(&day).unwrap().with(&["--expect", path.to_str().unwrap(), "--update"]);
    updating.client("receive", &["recv"]).expect(0);
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written.lines().skip(1).collect::<Vec<_>>(), day.lines());

    replay.client("receive", &["recv"]).expect(0);
    fs::write(&path, written.replace("worker", "walker")).unwrap();
    let ran = replay.client("receive", &["recv"]).expect(3);
    assert!(ran.err.contains("walker") && ran.err.contains("worker"), "{}", ran.err);
    assert!(!ran.err.contains("ptrace"), "the diff is of what differs: {}", ran.err);
}

#[test]
fn a_program_that_fails_is_no_match() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let golden = replay.file("golden.txt");
    let lines: Vec<_> = ["ack".to_owned()].into_iter().chain(day.lines()).take(5).collect();
    fs::write(&golden, lines.join("\n") + "\n").unwrap();
    let replay = replay.with(&["--expect", golden.to_str().unwrap()]);
    replay.client("end", &["exit", "5"]).expect(4);
}

/// As from a terminal, `SIGINT` is the end of who has no handler, and all that it has printed was right.
#[test]
fn to_be_ended_where_there_is_no_more_is_no_failure() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let golden = replay.file("golden.txt");
    let lines: Vec<_> = ["ack".to_owned()].into_iter().chain(day.lines()).collect();
    fs::write(&golden, lines.join("\n") + "\n").unwrap();
    let replay = replay.with(&["--expect", golden.to_str().unwrap()]);
    let ran = replay.client("end", &["default"]).expect(0);
    assert!(ran.err.contains("ended by signal 2"), "{}", ran.err);
    // To be deaf to it is one.
    let replay = replay.with(&["--timeout", "200ms"]);
    replay.client("end", &["deafer"]).expect(137);
    fs::write(&golden, "else\n").unwrap();
    replay.client("end", &["default"]).expect(3);
}

#[test]
fn of_a_long_line_only_the_beginning_is_shown() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let golden = replay.file("golden.txt");
    fs::write(&golden, "x".repeat(1_000_000)).unwrap();
    let replay = replay.with(&["--expect", golden.to_str().unwrap()]);
    let ran = replay.client("receive", &["recv"]).expect(3);
    assert!(ran.err.contains("-xxx") && ran.err.contains("xxx..."), "{} bytes", ran.err.len());
    assert!(ran.err.contains("+exec") && ran.err.len() < 20_000, "{} bytes", ran.err.len());
}

/// A program that received no events has the expected output only by chance.
#[test]
fn a_test_for_which_no_event_matches_fails_and_writes_nothing() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let golden = replay.file("golden.txt");
    let golden = golden.to_str().unwrap();
    for (selection, why) in [
        (&["--pid", "4100000"][..], "none concerns process or thread 4100000"),
        (&["--comm", "a-name-of-16-byt"], "the kernel truncates names to 15 bytes"),
        (&["--from", "+300d"], "the range starts after them"),
        (&["--to", "2001-01-01"], "the range ends before them"),
    ] {
        for options in [&[][..], &["--expect", golden, "--update"]] {
            let replay = Replay::of(&day).unwrap().with(selection).with(options);
            let ran = replay.client("receive", &["recv"]).expect(2);
            assert!(ran.err.contains("no event matches") && ran.err.contains(why), "{}", ran.err);
        }
    }
    assert!(!fs::exists(golden).unwrap());
    // A program that does not subscribe does not depend on the selection.
    replay.with(&["--pid", "4100000"]).program("true", &[], false).expect(0);
}

#[test]
fn a_test_whose_fault_is_after_the_last_event_fails() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let script = replay.file("faults.toml");
    fs::write(&script, "[[fault]]\nat = 100000\noverrun = 7\n").unwrap();
    let ran = replay.with(&["--faults", script.to_str().unwrap()]).client("receive", &["recv"]).expect(2);
    assert!(ran.err.contains("the fault before event 100000 never happens"), "{}", ran.err);
}
