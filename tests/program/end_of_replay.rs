//! The end of a replay and of programs: exit codes, signals, and no processes left behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::harness::{IS_NATIVE, ProgramReplay};
use crate::support::RunOutput;
use crate::test_capture::TestCapture;

/// Runs the client `ending`; checks its exit code, and that it prints the first `lines` lines.
#[track_caller]
fn run_ending(options: &[&str], args: &[&str], code: i32, lines: usize) -> Option<RunOutput> {
    let capture = TestCapture::new();
    let ran = ProgramReplay::of(&capture)?.with(options).client("ending", args).expect(code);
    let expected = ["ack".to_owned()].into_iter().chain(capture.lines()).take(lines);
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{ran:#?}");
    Some(ran)
}

/// All events.
const ALL: usize = usize::MAX;
/// Options for a short time between the signals at the end.
const SHORT_TIMEOUT: &[&str] = &["--timeout", "200ms"];

#[test]
fn sigint_ends_a_program_that_does_not_handle_it() {
    run_ending(&[], &["default"], 130, ALL);
}

#[test]
fn sigterm_follows_where_sigint_is_ignored() {
    let began = Instant::now();
    run_ending(SHORT_TIMEOUT, &["ignore-int"], 0, ALL);
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[test]
fn sigkill_follows_where_both_are_ignored() {
    run_ending(SHORT_TIMEOUT, &["ignore-both"], 137, ALL);
}

#[test]
fn a_crash_gives_128_plus_the_signal() {
    run_ending(&[], &["crash", "5"], 139, 5);
}

#[test]
fn a_program_that_exits_early_ends_the_replay() {
    run_ending(&[], &["exit", "7"], 4, 7);
}

#[test]
fn a_closed_socket_gives_ebadf() {
    run_ending(&[], &["close", "6"], 3, 6);
}

/// A native socket never returns 0.
#[test]
fn eof_ends_the_program_on_emulated_sockets() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let replay = replay.with(&["--at-end", "eof"]);
    let ran = replay.client("ending", &["default"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), capture.lines());
    let path = if IS_NATIVE { "emulated sockets (--at-end eof)" } else { "" };
    assert!(ran.err.contains(path), "{}", ran.err);
}

/// A client whose calls do not return 0 at the end would run until a signal ends it.
#[test]
fn all_receiving_calls_return_0_at_eof() {
    let capture = TestCapture::new();
    for mode in ["recv", "read", "readv", "preadv2", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg-eight"] {
        let Some(replay) = ProgramReplay::of(&capture) else { return };
        let ran = replay.with(&["--at-end", "eof", "--timeout", "1h"]).client("receive", &[mode]).expect(0);
        assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), capture.lines(), "{mode}");
    }
}

#[test]
fn silence_ends_at_the_timeout() {
    run_ending(&["--at-end", "silence", "--timeout", "200ms"], &["ignore-int"], 0, ALL);
}

#[test]
fn an_alarm_interrupts_a_wait() {
    interrupted("alarm", "eintr");
}

#[test]
fn a_receive_timeout_ends_a_wait() {
    interrupted("rcvtimeo", "timeout");
}

#[test]
fn a_receive_timeout_may_exceed_the_range_of_the_clock() {
    interrupted("rcvtimeo-max", "eintr");
}

#[test]
fn a_negative_receive_timeout_expires_at_once() {
    interrupted("rcvtimeo-negative", "timeout");
}

/// Runs the client `interrupted_wait` with `--at-end silence`; checks its last line.
#[track_caller]
fn interrupted(mode: &str, last: &str) {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let count = (capture.lines().len() + 1).to_string();
    let ran = replay.with(&["--at-end", "silence"]).client("interrupted_wait", &[mode, &count]).expect(0);
    assert_eq!(ran.out.lines().last(), Some(last), "{ran:#?}");
    assert_eq!(ran.out.lines().count(), capture.lines().len() + 2);
}

/// One process of the daemon receives events; its parent restarts it whenever it ends, except by
/// Ctrl-C.
#[test]
fn the_parent_of_the_receiving_process_gets_the_signal_too() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("ending", &["worker"]).expect(0);
    let expected = [vec!["ack".to_owned()], capture.lines(), vec!["stopped".to_owned()]].concat();
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{}", ran.err);
}

/// With a thread that never sleeps, a waiting program is detected only by the time-out.
#[test]
fn a_spinning_thread_does_not_prevent_the_end() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture).map(|replay| replay.with(SHORT_TIMEOUT)) else { return };
    let ran = replay.client("threads", &["spin"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), capture.lines(), "{ran:#?}");
}

/// The signal is sent after the client has installed its handlers.
#[test]
fn sigterm_to_pmon_ends_a_program_that_ignores_it() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let script = r#""$0" "$@" & until grep -qs ack out-*; do sleep 0.01; done; kill $!; wait $!"#;
    let replay = replay.with(SHORT_TIMEOUT).with(&["--at-end", "silence"]).launched_by(&["sh", "-c", script]);
    let began = Instant::now();
    let line = r#""$0" ignore-both; sleep 1000"#;
    replay.program("/bin/sh", &["-c", line, &replay.path("ending")], true);
    assert!(began.elapsed() < Duration::from_secs(9), "pmon has waited for the sleep");
}

/// Shells start background commands with `SIGINT` ignored.
#[test]
fn sigint_is_not_inherited_as_ignored() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let script = &["sh", "-c", r#"trap "" INT; exec "$0" "$@""#];
    let ran = replay.launched_by(script).client("ending", &["default"]).expect(130);
    assert_eq!(ran.out.lines().count(), capture.lines().len() + 1);
}

#[test]
fn a_daemon_reads_to_the_end() {
    daemon("daemon");
}

#[test]
fn a_daemon_that_forks_before_opening_a_socket_reads_to_the_end() {
    daemon("daemon-early");
}

#[track_caller]
fn daemon(mode: &str) {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let file = replay.file("daemon");
    replay.client("ending", &[mode, file.to_str().unwrap()]).expect(0);
    let written = fs::read_to_string(file).unwrap();
    assert_eq!(written.lines().skip(1).collect::<Vec<_>>(), capture.lines());
}

/// The exit codes are those of `record -- CMD`.
#[test]
fn a_program_without_a_socket_is_run() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    for (program, args, status) in [
        ("/bin/sh", &["-c", "exit 5"][..], 5),
        ("/bin/sh", &["-c", "kill -TERM $$"], 143),
        ("/nonexistent", &[], 127),
        ("/etc/passwd", &[], 126),
    ] {
        assert_eq!(replay.program(program, args, false).expect(status).out, "");
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_explained() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let script = replay.file("script");
    fs::write(&script, "#!/nonexistent\n").unwrap();
    let plain = replay.file("plain");
    fs::write(&plain, "").unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    for (program, code, why) in [
        ("/tmp", 126, "it is a directory"),
        (plain.to_str().unwrap(), 126, "it is not executable"),
        (script.to_str().unwrap(), 127, "its interpreter or dynamic loader was not found"),
        ("/nonexistent", 127, "not found"),
        ("/etc/passwd/program", 127, "not found"),
    ] {
        let ran = replay.program(program, &[], false).expect(code);
        assert!(ran.err.starts_with("pmon: cannot run") && ran.err.contains(why), "{ran:#?}");
    }
    // The code is 126 if a directory of PATH is inaccessible.
    let ran = replay.program("plain", &[], false);
    assert!(ran.err.contains("write ./ before a file of this directory"), "{ran:#?}");
}

#[test]
fn the_user_of_a_program_has_an_id_or_a_name() {
    let capture = TestCapture::new();
    for (user, id) in [("0", "0"), ("root", "0"), ("65534", "65534"), ("nobody", "65534")] {
        let Some(replay) = ProgramReplay::of(&capture) else { return };
        let ran = replay.with(&["--uid", user]).program("id", &["-u"], false).expect(0);
        assert_eq!(ran.out.trim(), id, "{ran:#?}");
    }
}

#[test]
fn a_pipeline_is_read_to_its_end() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let line = r#""$0" recv | wc -l; exit 6"#;
    let client = replay.path("receive");
    let ran = replay.program("/bin/sh", &["-c", line, &client], true).expect(6);
    assert_eq!(ran.out.trim(), (capture.lines().len() + 1).to_string(), "{ran:#?}");
}
