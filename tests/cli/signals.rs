//! Tests signals that are blocked or ignored when `pmon` starts.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::live::*;
use crate::support::*;

/// Command that prints a program's blocked and ignored signals.
const LOOK: [&str; 3] = ["grep", "-E", "^Sig(Blk|Ign)"];

/// Ways to start a program, as options of `env(1)`.
const WAYS: [&[&str]; 6] = [
    &[],
    &["--ignore-signal=INT", "--ignore-signal=QUIT"],
    &["--ignore-signal=HUP"],
    &["--block-signal=INT,TERM,HUP,CHLD,USR1,PIPE,ALRM,XFSZ"],
    &["--ignore-signal=INT,TERM,HUP,CHLD,USR1,USR2,PIPE,ALRM,XFSZ"],
    &["--ignore-signal=INT,PIPE,USR1", "--block-signal=TERM,CHLD,USR2"],
];

/// Returns whether `env` supports these options; skips the test otherwise.
fn can_set_signals() -> bool {
    let status = Command::new("env").args(WAYS[5]).arg("true").stderr(Stdio::null()).status();
    let can = status.is_ok_and(|status| status.success());
    if !can {
        skip("env(1) cannot set signals here");
    }
    can
}

/// Returns a command with these signal settings, and default dispositions otherwise.
fn with_signals(way: &[&str], program: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal").args(way).args(program).stdin(Stdio::null());
    command
}

#[test]
fn a_recorded_command_has_the_signals_of_pmon() {
    if !can_record() || !can_set_signals() {
        return;
    }
    for way in WAYS {
        let look = [&LOOK[..], &["/proc/self/status"]].concat();
        let expected = run(with_signals(way, &look)).expect(0).out;
        let record =
            [&[env!("CARGO_BIN_EXE_pmon"), "record", "-q", "-o", "/dev/null", "--"], &look[..]].concat();
        assert_eq!(run(with_signals(way, &record)).expect(0).out, expected, "{way:?}");
    }
}

#[test]
fn a_replayed_program_has_the_signals_of_pmon_except_those_that_end_it() {
    if !can_set_signals() {
        return;
    }
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 50));
    for way in WAYS {
        let look = [&LOOK[..], &["/proc/self/status"]].concat();
        let expected = run(with_signals(way, &look)).expect(0).out;
        let replay =
            [&[env!("CARGO_BIN_EXE_pmon"), "replay", &file, "--proc", "real", "--"], &look[..]].concat();
        let ran = run(with_signals(way, &replay));
        if ran.code == Some(6) {
            return skip(&ran.err);
        }
        let expected: String = expected.lines().map(without_ends).collect();
        assert_eq!(ran.expect(0).out, expected, "{way:?}");
    }
}

/// Returns a line of signals without `SIGINT` and `SIGTERM`.
fn without_ends(line: &str) -> String {
    let (name, mask) = line.split_once('\t').expect("a name and a mask");
    let ends = 1 << (Signal::INT.as_raw() - 1) | 1 << (Signal::TERM.as_raw() - 1);
    format!("{name}\t{:016x}\n", u64::from_str_radix(mask, 16).expect("a number in hex") & !ends)
}

#[test]
fn blocked_or_ignored_signals_end_a_recording() {
    if !can_record() || !can_set_signals() {
        return;
    }
    let ways: [&[&str]; 2] = [
        &["--block-signal=INT,TERM,HUP,CHLD,USR1,ALRM,QUIT"],
        &["--ignore-signal=INT,TERM,CHLD,USR1,ALRM,QUIT,PIPE"],
    ];
    for way in ways {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let dir = Dir::new();
            let file = arg(&dir.path("x.pmon"));
            let mut command = with_signals(way, &[env!("CARGO_BIN_EXE_pmon"), "record", "-o", &file]);
            command.stderr(Stdio::piped());
            let mut child = start(command);
            let mut stderr =
                BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
            let partial = dir.path("x.pmon.partial");
            wait_until(|| partial.metadata().is_ok_and(|meta| meta.len() > 0));
            send(&child, Signal::USR1);
            assert!(stderr.any(|line| line.contains(" queue ")), "no report");
            send(&child, signal);
            assert!(stderr.any(|line| line.contains("pmon print")), "no summary");
            assert_eq!(child.wait().expect("pmon ends").code(), Some(0), "{way:?}, {signal:?}");
        }
        // The end of the command also ends the recording.
        let record =
            [env!("CARGO_BIN_EXE_pmon"), "record", "-q", "-o", "/dev/null", "--", "sh", "-c", "exit 9"];
        run(with_signals(way, &record)).expect(9);
    }
}

#[test]
fn blocked_signals_end_the_other_verbs() {
    if !can_set_signals() {
        return;
    }
    use std::os::unix::process::ExitStatusExt as _;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        // The program waits for standard input, which stays open.
        let way = ["--block-signal=INT,TERM,HUP"];
        let mut command = with_signals(&way, &[env!("CARGO_BIN_EXE_pmon"), "print", "-"]);
        command.stdin(Stdio::piped());
        let mut child = start(command);
        let input = child.stdin.take();
        send(&child, signal);
        assert_eq!(child.wait().expect("pmon ends").signal(), Some(signal.as_raw()));
        drop(input);
    }
}

#[test]
fn a_script_without_an_interpreter_is_run_by_sh() {
    if !can_record() || !can_set_signals() {
        return;
    }
    let dir = Dir::new();
    let make = |name: &str, bytes: &[u8]| {
        use std::os::unix::fs::PermissionsExt;
        let file = dir.file(name, bytes);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("may be run");
        file
    };
    let script = make("script", b"echo \"$1:$#$OF_PMON\"\nexit 5\n");
    make("-dash", b"exit 6\n");
    let binary = make("binary", b"\x7fELF\0\0\0\0\0\0\0");
    // The new process of a recorder that restores signals takes another way to its program.
    let record_with = |way: &[&str], program: &str| {
        let pmon = env!("CARGO_BIN_EXE_pmon");
        let mut command =
            with_signals(way, &[pmon, "record", "-q", "-o", "/dev/null", "--", program, "a b", "c"]);
        command
            .env("PATH", format!("{}:/usr/bin:/bin", arg(&dir.path(""))))
            .current_dir(dir.path(""))
            .env("OF_PMON", "+");
        run(command)
    };
    for way in [WAYS[0], WAYS[1]] {
        let record = |program| record_with(way, program);
        for name in [&script[..], "./script", "script"] {
            assert_eq!(record(name).expect(5).out, "a b:2+\n", "{name}, {way:?}");
        }
        record("-dash").expect(6);
        record(&binary).expect(126);
        record("/").expect(126);
        record("no-such-program").expect(127);
        record("./no-such-program").expect(127);
    }
    let file = dir.file("x.pmon", &capture(&git_status_records(), 50));
    let ran = pmon(&["replay", &file, "--", &script, "a b"]);
    if ran.code != Some(6) {
        assert_eq!(ran.expect(5).out, "a b:1\n");
    }
}
