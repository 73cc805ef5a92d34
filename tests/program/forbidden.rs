//! Systems that do not allow it: what is missing is said, what to do, and what works all the same; nothing is left behind, and nobody waits.

use std::fs;

use crate::day::Day;
use crate::stage::Replay;

const MAX_USER_NAMESPACES: &str = "/proc/sys/user/max_user_namespaces";

/// A shell in a user and a mount namespace of its own, which does that and then runs what it is told.
fn shell(script: &str) -> Vec<String> {
    let script = format!("{script} && exec \"$@\"");
    ["unshare", "-U", "-r", "-m", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

/// Started like that, it says all of this, and runs nothing.
#[track_caller]
fn refused(under: impl FnOnce(&Replay) -> Vec<String>, options: &[&str], says: &[&str]) {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let under = under(&replay);
    let under: Vec<&str> = under.iter().map(|word| &**word).collect();
    let ran = replay.with(options).under(&under).client("receive", &["recv"]).expect(6);
    assert_eq!(ran.out, "");
    for said in says.iter().chain(&["pmon replay --socket PATH"]) {
        assert!(ran.err.contains(said), "it does not say {said}: {}", ran.err);
    }
}

/// Started like that, it runs the program.
#[track_caller]
fn runs(script: &str, options: &[&str]) {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let under = shell(script);
    let under: Vec<&str> = under.iter().map(|word| &**word).collect();
    let ran = replay.with(options).under(&under).client("receive", &["recv"]).expect(0);
    let lines: Vec<&str> = ran.out.lines().skip(1).collect();
    assert_eq!(lines, day.lines(), "{}", ran.err);
}

#[test]
fn no_more_user_namespaces() {
    let before = fs::read_to_string(MAX_USER_NAMESPACES).unwrap();
    let script = format!("echo 0 >{MAX_USER_NAMESPACES}");
    for options in [&[][..], &["--proc", "real"]] {
        refused(|_| shell(&script), options, &["cannot create a user namespace", "user.max_user_namespaces"]);
    }
    assert_eq!(fs::read_to_string(MAX_USER_NAMESPACES).unwrap(), before, "only there");
}

/// As under the profiles of containers.
#[test]
fn no_new_namespaces_in_a_container() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let says = &["cannot create a user namespace", "seccomp profile"];
        refused(|replay| forbid(replay, libc::SYS_clone3, errno), &[], says);
    }
}

#[test]
fn no_seccomp() {
    for errno in [libc::ENOSYS, libc::EINVAL] {
        let says = &["cannot intercept system calls", "Linux 5.9"];
        refused(|replay| forbid(replay, libc::SYS_seccomp, errno), &[], says);
    }
}

/// Runs what it is told, but without that call.
fn forbid(replay: &Replay, call: libc::c_long, errno: i32) -> Vec<String> {
    vec![replay.path("forbid"), call.to_string(), errno.to_string()]
}

/// Who intercepts calls already is the outer one. It is told how the inner one ends.
#[test]
fn a_replay_under_a_replay() {
    let nested = |replay: &Replay| {
        let capture = replay.file("day.pmon").to_str().unwrap().to_owned();
        vec![replay.path("pmon"), "replay".to_owned(), capture, "--".to_owned()]
    };
    refused(
        nested,
        &[],
        &["cannot intercept system calls", "intercepts pmon's calls already", "ended with 6"],
    );
}

/// As in a container that hides what is in it.
const MASKED: &str = "mount -t tmpfs none /proc/sys";

#[test]
fn a_masked_proc() {
    refused(|_| shell(MASKED), &[], &["cannot mount a new procfs", "--proc real"]);
}

#[test]
fn a_masked_proc_is_good_enough_as_it_is() {
    runs(MASKED, &["--proc", "real"]);
}

#[test]
fn no_proc_at_all() {
    let says = &["cannot map a user", "/proc is not mounted"];
    refused(|_| shell("mount -t tmpfs none /proc"), &["--proc", "real"], says);
}

/// By the numbers there, others would be meant.
#[test]
fn the_proc_of_another_pid_namespace() {
    let under = ["unshare", "-U", "-r", "-p", "-f"].map(str::to_owned).to_vec();
    refused(|_| under, &[], &["cannot map a user", "another PID namespace", "mount -t proc"]);
}

#[test]
fn few_file_descriptors() {
    for limit in [12, 16] {
        refused(|_| shell(&format!("ulimit -n {limit}")), &[], &["Too many open files", "ulimit -n"]);
    }
    runs("ulimit -n 40", &[]);
}

/// What is opened next does not take the place of one that is closed.
#[test]
fn closed_standard_streams() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let events = format!("replayed {} events", day.lines().len());
    let closed = ["sh", "-c", r#"exec "$@" <&- >&-"#, "sh"];
    let replay = replay.under(&closed);
    let ran = replay.client("receive", &["recv"]).expect(0);
    assert!(ran.out.is_empty() && ran.err.contains(&events), "{ran:#?}");
    let expected = replay.file("golden");
    let expected = expected.to_str().unwrap();
    let replay = replay.with(&["--expect", expected, "--update"]);
    replay.client("receive", &["recv"]).expect(0);
    let lines = fs::read_to_string(expected).unwrap();
    assert_eq!(lines.lines().skip(1).collect::<Vec<_>>(), day.lines());
}
