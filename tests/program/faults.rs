//! What goes wrong reaches the program: overruns of the capture, and those of a script.

use std::fs;

use crate::day::Day;
use crate::stage::Replay;
use crate::support::RunOutput;

const SCRIPT: &str = "[[fault]]\nat = 10\noverrun = 7\n";

/// A client that meets these faults, and ends well.
#[track_caller]
fn scripted(faults: &str, client: &str, args: &[&str]) -> Option<RunOutput> {
    let replay = Replay::of(&Day::new())?;
    let script = replay.file("faults.toml");
    fs::write(&script, faults).unwrap();
    let replay = replay.with(&["--faults", script.to_str().unwrap(), "--seed", "1"]);
    Some(replay.client(client, args).expect(0))
}

/// The lines of a client that counts what it misses, seven before the tenth event.
fn overrun(mode: &str) -> Option<(RunOutput, Vec<String>)> {
    let ran = scripted(SCRIPT, "overrun", &[mode])?;
    let mut wanted = Day::new().lines();
    wanted.insert(0, "ack".to_owned());
    wanted.insert(11, "missed 7".to_owned());
    Some((ran, wanted))
}

#[test]
fn an_overrun_is_told_before_the_gap() {
    let Some((ran, mut wanted)) = overrun("told") else { return };
    wanted.insert(11, "nobufs".to_owned());
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), wanted, "{}", ran.err);
}

/// As the kernel says of a socket with an error, once.
#[test]
fn what_waits_hears_of_an_error_before_it_is_told() {
    for mode in ["poll", "epoll"] {
        let Some(ran) = scripted(SCRIPT, "failing", &[mode]) else { return };
        let mut wanted = Day::new().lines();
        wanted.insert(0, "ack".to_owned());
        wanted.splice(11..11, ["error", "nobufs"].map(str::to_owned));
        assert_eq!(ran.out.lines().collect::<Vec<_>>(), wanted, "{mode}: {}", ran.err);
    }
}

/// No edge comes for what was there already.
#[test]
fn who_waits_for_edges_goes_on_after_finding_nothing() {
    for (client, args) in [("wait", &["edge"][..]), ("threads", &["edge"])] {
        let script = "[[fault]]\nevery = 5\neagain = 2\n";
        let Some(ran) = scripted(script, client, args) else { return };
        assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), Day::new().lines(), "{client}: {}", ran.err);
    }
}

#[test]
fn no_enobufs_leaves_the_gap_alone() {
    let Some((ran, wanted)) = overrun("deaf") else { return };
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), wanted, "{}", ran.err);
}

#[test]
fn what_the_capture_lost_is_lost_again() {
    let mut day = Day::new();
    day.loses(123);
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client("overrun", &["told"]).expect(0);
    let told = ran.out.lines().filter(|line| matches!(*line, "nobufs" | "missed 123")).collect::<Vec<_>>();
    assert_eq!(told, ["nobufs", "missed 123"], "{ran:#?}");
    assert_eq!(ran.out.lines().count(), day.lines().len() + 3);
}
