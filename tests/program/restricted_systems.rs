//! Systems on which programs cannot be run: the error states the cause, a remedy and an
//! alternative.

use std::fs;

use crate::harness::{CAPTURE, ProgramReplay};
use crate::test_capture::TestCapture;

const MAX_USER_NAMESPACES: &str = "/proc/sys/user/max_user_namespaces";

/// Returns a launcher: a shell in new user and mount namespaces that runs `script` and then the
/// command.
fn shell(script: &str) -> Vec<String> {
    let script = format!("{script} && exec \"$@\"");
    ["unshare", "-U", "-r", "-m", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

/// Checks that `pmon` refuses to run a program and prints all of `messages`.
#[track_caller]
fn refused(launcher: impl FnOnce(&ProgramReplay) -> Vec<String>, options: &[&str], messages: &[&str]) {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let launcher = launcher(&replay);
    let launcher: Vec<&str> = launcher.iter().map(|word| &**word).collect();
    // The same error as with emulated sockets, not that native ones are impossible.
    let replay = replay.with(options).on_sockets("auto");
    let ran = replay.launched_by(&launcher).client("receive", &["recv"]).expect(6);
    assert_eq!(ran.out, "");
    for message in messages.iter().chain(&["pmon replay --socket PATH"]) {
        assert!(ran.err.contains(message), "{message} is missing: {}", ran.err);
    }
}

/// Checks that `pmon` runs a program.
#[track_caller]
fn runs(script: &str, options: &[&str]) {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let launcher = shell(script);
    let launcher: Vec<&str> = launcher.iter().map(|word| &**word).collect();
    let ran = replay.with(options).launched_by(&launcher).client("receive", &["recv"]).expect(0);
    let lines: Vec<&str> = ran.out.lines().skip(1).collect();
    assert_eq!(lines, capture.lines(), "{}", ran.err);
}

#[test]
fn too_many_user_namespaces() {
    let before = fs::read_to_string(MAX_USER_NAMESPACES).unwrap();
    let script = format!("echo 0 >{MAX_USER_NAMESPACES}");
    for options in [&[][..], &["--proc", "real"]] {
        refused(|_| shell(&script), options, &["cannot create a user namespace", "user.max_user_namespaces"]);
    }
    assert_eq!(
        fs::read_to_string(MAX_USER_NAMESPACES).unwrap(),
        before,
        "the limit of this namespace is unchanged"
    );
}

/// The seccomp profiles of containers return these errors.
#[test]
fn no_new_namespaces_in_a_container() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let messages = &["cannot create a user namespace", "seccomp profile"];
        refused(|replay| deny(replay, libc::SYS_clone3, errno), &[], messages);
    }
}

#[test]
fn no_seccomp() {
    for errno in [libc::ENOSYS, libc::EINVAL] {
        let messages = &["cannot intercept system calls", "Linux 5.9"];
        refused(|replay| deny(replay, libc::SYS_seccomp, errno), &[], messages);
    }
}

/// Returns a launcher for which a system call fails.
fn deny(replay: &ProgramReplay, call: libc::c_long, errno: i32) -> Vec<String> {
    vec![replay.path("deny_syscall"), call.to_string(), errno.to_string()]
}

/// The outer replay intercepts the calls of the inner one already.
#[test]
fn a_replay_under_a_replay() {
    let nested = |replay: &ProgramReplay| {
        let capture = replay.file(CAPTURE).to_str().unwrap().to_owned();
        vec![replay.path("pmon"), "replay".to_owned(), capture, "--".to_owned()]
    };
    refused(
        nested,
        &[],
        &["cannot intercept system calls", "intercepts pmon's calls already", "ended with 6"],
    );
}

/// Hides a part of `/proc`, as containers do.
const MASKED: &str = "mount -t tmpfs none /proc/sys";

#[test]
fn a_masked_proc_is_refused() {
    refused(|_| shell(MASKED), &[], &["cannot mount a new procfs", "--proc real"]);
}

#[test]
fn a_masked_proc_works_with_proc_real() {
    runs(MASKED, &["--proc", "real"]);
}

#[test]
fn no_proc_at_all() {
    let messages = &["cannot map a user", "/proc is not mounted"];
    refused(|_| shell("mount -t tmpfs none /proc"), &["--proc", "real"], messages);
}

/// The ids in that `/proc` are those of other processes.
#[test]
fn the_proc_of_another_pid_namespace() {
    let launcher = ["unshare", "-U", "-r", "-p", "-f"].map(str::to_owned).to_vec();
    refused(|_| launcher, &[], &["cannot map a user", "another PID namespace", "mount -t proc"]);
}

#[test]
fn few_file_descriptors() {
    for limit in [12, 16] {
        refused(|_| shell(&format!("ulimit -n {limit}")), &[], &["Too many open files", "ulimit -n"]);
    }
    runs("ulimit -n 40", &[]);
}

/// A file that `pmon` opens must not get the number of a closed stream.
#[test]
fn closed_standard_streams() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let events = format!("replayed {} events", capture.lines().len());
    let closed = ["sh", "-c", r#"exec "$@" <&- >&-"#, "sh"];
    let replay = replay.launched_by(&closed);
    let ran = replay.client("receive", &["recv"]).expect(0);
    assert!(ran.out.is_empty() && ran.err.contains(&events), "{ran:#?}");
    let expected = replay.file("golden");
    let expected = expected.to_str().unwrap();
    let replay = replay.with(&["--expect", expected, "--update"]);
    replay.client("receive", &["recv"]).expect(0);
    let lines = fs::read_to_string(expected).unwrap();
    assert_eq!(lines.lines().skip(1).collect::<Vec<_>>(), capture.lines());
}

/// Emulated sockets are the fallback.
#[test]
fn requested_native_sockets_that_are_not_possible_are_an_error() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let replay = replay.with(&["--at-end", "eof"]);
    let ran = replay.client("receive", &["recv"]).expect(0);
    assert!(ran.err.contains("on emulated sockets (--at-end eof)"), "{}", ran.err);
    let ran = replay.on_sockets("native").client("receive", &["recv"]).expect(6);
    for part in ["cannot use native sockets: --at-end eof", "use --sockets auto or --sockets seccomp"] {
        assert!(ran.err.contains(part), "{}", ran.err);
    }
}

/// Without a network namespace, sockets are emulated.
#[test]
fn no_network_namespace() {
    let script = "echo 0 >/proc/sys/user/max_net_namespaces";
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let launcher = shell(script);
    let launcher: Vec<&str> = launcher.iter().map(|word| &**word).collect();
    let ran = replay.on_sockets("auto").launched_by(&launcher).client("receive", &["recv"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), capture.lines(), "{}", ran.err);
    assert!(ran.err.contains("emulated sockets (cannot create a network namespace: "), "{}", ran.err);
}
