//! Overruns of the capture and faults of a script reach the program.

use std::fs;

use crate::harness::{IS_NATIVE, ProgramReplay};
use crate::support::RunOutput;
use crate::test_capture::{MISSED, TestCapture};

const SCRIPT: &str = "[[fault]]\nat = 10\noverrun = 7\n";

/// Runs a client with a fault script; it must exit with 0.
#[track_caller]
fn run_with_faults(faults: &str, client: &str, args: &[&str]) -> Option<RunOutput> {
    let replay = ProgramReplay::of(&TestCapture::new())?;
    let script = replay.file("faults.toml");
    fs::write(&script, faults).unwrap();
    let replay = replay.with(&["--faults", script.to_str().unwrap(), "--seed", "1"]);
    Some(replay.client(client, args).expect(0))
}

/// Runs the client `overrun` with a loss of seven events before the tenth; returns the lines to
/// expect.
fn overrun(mode: &str) -> Option<(RunOutput, Vec<String>)> {
    let ran = run_with_faults(SCRIPT, "overrun", &[mode])?;
    let mut expected = TestCapture::new().lines();
    expected.insert(0, "ack".to_owned());
    expected.insert(11, "missed 7".to_owned());
    Some((ran, expected))
}

#[test]
fn enobufs_precedes_the_gap() {
    let Some((ran, mut expected)) = overrun("enobufs") else { return };
    expected.insert(11, "nobufs".to_owned());
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{}", ran.err);
}

/// Lost events are real ones: the events of the capture without them are received.
#[test]
fn events_after_lost_ones_are_received() {
    let all = TestCapture::new().lines();
    let second_exec = all.iter().enumerate().filter(|(_, line)| line.starts_with("exec ")).nth(1).unwrap().0;
    for (script, lost) in [
        ("[[fault]]\nat = 3\nlose = 1\n[[fault]]\nat = 9\nlose = 2\n", &[(3, 4), (9, 11)][..]),
        ("[[fault]]\nat = 0\nlose_until = { kind = \"exec\", nth = 2 }\n", &[(0, second_exec)]),
    ] {
        let Some(ran) = run_with_faults(script, "overrun", &["enobufs"]) else { return };
        let mut expected = all.clone();
        for &(from, to) in lost.iter().rev() {
            expected.splice(from..to, ["nobufs".to_owned()]);
        }
        expected.insert(0, "ack".to_owned());
        let printed: Vec<_> = ran.out.lines().filter(|line| !line.starts_with("missed ")).collect();
        assert_eq!(printed, expected, "{script}: {}", ran.err);
    }
}

/// A copy of an emulated socket is one end of a pair, which has no such error.
#[test]
fn a_socket_that_was_passed_reports_overruns_if_it_is_native() {
    let Some(ran) = run_with_faults(SCRIPT, "pass_fd", &[]) else { return };
    let mut expected = TestCapture::new().lines();
    expected.insert(0, "ack".to_owned());
    if IS_NATIVE {
        expected.insert(11, "nobufs".to_owned());
    }
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{}", ran.err);
}

/// The kernel reports a socket's error once.
#[test]
fn poll_and_epoll_report_the_error_before_recv_does() {
    for mode in ["poll", "epoll"] {
        let Some(ran) = run_with_faults(SCRIPT, "poll_error", &[mode]) else { return };
        let mut expected = TestCapture::new().lines();
        expected.insert(0, "ack".to_owned());
        expected.splice(11..11, ["error", "nobufs"].map(str::to_owned));
        assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{mode}: {}", ran.err);
    }
}

/// Datagrams that are already queued cause no edge.
#[test]
fn edge_triggered_epoll_continues_after_a_spurious_eagain() {
    for (client, args) in [("wait", &["edge"][..]), ("threads", &["edge"])] {
        let script = "[[fault]]\nevery = 5\neagain = 2\n";
        let Some(ran) = run_with_faults(script, client, args) else { return };
        assert_eq!(
            ran.out.lines().skip(1).collect::<Vec<_>>(),
            TestCapture::new().lines(),
            "{client}: {}",
            ran.err
        );
    }
}

#[test]
fn with_no_enobufs_only_the_gap_shows() {
    let Some((ran, expected)) = overrun("no-enobufs") else { return };
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{}", ran.err);
}

#[test]
fn a_loss_in_the_capture_is_replayed() {
    let mut capture = TestCapture::new();
    capture.add_loss(123);
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("overrun", &["enobufs"]).expect(0);
    let printed = ran.out.lines().filter(|line| matches!(*line, "nobufs" | "missed 123")).collect::<Vec<_>>();
    assert_eq!(printed, ["nobufs", "missed 123"], "{ran:#?}");
    assert_eq!(ran.out.lines().count(), capture.lines().len() + 3);
}

/// Returns the lines of the capture, with the acknowledgement, without the fork of [`MISSED`]: an
/// error and a gap on its CPU take its place.
fn lines_without_the_fork(error: Option<&str>) -> Vec<String> {
    let mut lines = TestCapture::new().lines();
    let fork = lines.iter().position(|line| line.ends_with(&format!(" {MISSED}"))).unwrap();
    // The next event of the same CPU comes after one of the other.
    lines.insert(fork + 2, "missed 1".to_owned());
    lines.splice(fork..=fork, error.map(str::to_owned));
    lines.insert(0, "ack".to_owned());
    lines
}

#[test]
fn the_event_at_a_place_is_lost_with_enobufs() {
    let script = format!("[[fault]]\nat = {{ kind = \"fork\", pid = {MISSED} }}\nlose = 1\n");
    for (mode, error) in [("enobufs", Some("nobufs")), ("no-enobufs", None)] {
        let Some(ran) = run_with_faults(&script, "overrun", &[mode]) else { return };
        assert_eq!(ran.out.lines().collect::<Vec<_>>(), lines_without_the_fork(error), "{mode}: {}", ran.err);
    }
}

#[test]
fn a_loss_of_many_events_is_one_error_and_ends_at_a_place_by_name_and_arguments() {
    // After the exec of git, up to that of the pager.
    let script = "[[fault]]\nat = { comm = \"git\", args = \"^git .*--short$\", nth = 2 }\nlose_until = { comm = \"less\" }\n";
    let Some(ran) = run_with_faults(script, "overrun", &["enobufs"]) else { return };
    let all = TestCapture::new().lines();
    let pids: Vec<_> = TestCapture::new().programs().iter().map(|program| program.pid).collect();
    let exec_of = |pid: u32| all.iter().position(|line| *line == format!("exec {pid}")).unwrap();
    let (from, until) = (exec_of(pids[0]) + 1, exec_of(pids[1]));
    let printed: Vec<_> = ran.out.lines().filter(|line| !line.starts_with("missed")).collect();
    let expected = ["ack"].into_iter().chain(all[..from].iter().map(String::as_str)).chain(["nobufs"]);
    assert_eq!(
        printed,
        expected.chain(all[until..].iter().map(String::as_str)).collect::<Vec<_>>(),
        "{}",
        ran.err
    );
    let missed = ran.out.lines().filter_map(|line| line.strip_prefix("missed ")?.parse::<usize>().ok());
    assert_eq!(missed.sum::<usize>(), until - from);
}

/// The recorder had subscribed on the recorded machine.
#[test]
fn a_bound_program_receives_the_events_without_subscribing() {
    let Some(ran) = run_with_faults("", "subscription", &["bound"]) else { return };
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), TestCapture::new().lines(), "{}", ran.err);
}

#[test]
fn a_program_that_ignores_events_continues_with_the_next_one_when_it_listens_again() {
    let Some(ran) = run_with_faults("", "subscription", &["ignore"]) else { return };
    let mut expected = TestCapture::new().lines();
    expected.splice(3..3, ["ignored", "ack"].map(str::to_owned));
    expected.insert(0, "ack".to_owned());
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{}", ran.err);
}
