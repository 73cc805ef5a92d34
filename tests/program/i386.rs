//! 32-bit programs on x86-64. They have no library on most systems, so one client has none.

use std::process::Command;

use crate::harness::{IS_NATIVE, ProgramReplay, programs, skip};
use crate::receive_methods::{CLIENT_CASES, ClientCase};
use crate::support::RunOutput;
use crate::test_capture::{MISSED, TestCapture};

/// Options that build a program without a C library.
const FREESTANDING: &[&str] =
    &["-nostdlib", "-static", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector"];
/// Exit code of a program that `SIGINT` has ended.
const INTERRUPTED: i32 = 128 + 2;

/// Runs the client without a library in a mode. Skips the test and returns `None` if that is not
/// possible.
fn run(capture: &TestCapture, mode: &str) -> Option<RunOutput> {
    let replay = ProgramReplay::of(capture)?;
    let client =
        programs()?.build_32_bit("i386/freestanding.c", FREESTANDING, &format!("freestanding-{mode}"));
    let Some(client) = client.filter(|client| Command::new(client).arg("probe").status().is_ok()) else {
        skip("this system neither builds nor runs 32-bit programs");
        return None;
    };
    Some(replay.program(&client, &[mode], true))
}

/// Checks that the client receives all events, or that its socket is refused if it is not native.
#[track_caller]
fn check(mode: &str) {
    let capture = TestCapture::new();
    let Some(ran) = run(&capture, mode) else { return };
    if !IS_NATIVE {
        let ran = ran.expect(9);
        assert!(ran.err.contains("32-bit program"), "{}", ran.err);
        return;
    }
    let ran = ran.expect(INTERRUPTED);
    let expected = [&["ack".to_owned()], &*capture.lines()].concat();
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{}", ran.err);
}

#[test]
fn a_32_bit_program_receives_all_events() {
    check("direct");
}

#[test]
fn a_32_bit_program_receives_all_events_by_socketcall() {
    check("socketcall");
}

#[test]
fn structs_of_32_bit_programs_have_their_own_layout() {
    check("structs");
}

#[test]
fn proc_shows_the_recorded_processes_to_a_32_bit_program() {
    let capture = TestCapture::new();
    let Some(ran) = run(&capture, "proc").filter(|_| IS_NATIVE) else { return };
    let mut expected: Vec<_> = capture
        .programs()
        .iter()
        .map(|program| format!("exec {} {} {} uid {}", program.pid, program.comm, program.exe, program.uid))
        .collect();
    expected.insert(expected.len() - 1, format!("exec {MISSED}"));
    let ran = ran.expect(INTERRUPTED);
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{}", ran.err);
}

/// Runs clients whose calls have structs of their own, or are intercepted, built with a 32-bit
/// library.
#[test]
fn clients_with_a_library_work_as_32_bit_programs() {
    const ARGS: &[&str] = &["recv", "recvmsg", "recvmmsg", "poll", "epoll", "ioctl", "dup", "dup2"];
    const MORE_ARGS: &[&str] = &["dupfd", "thread", "sendmsg", "writev", "add-membership", "sigsuspend"];
    let capture = TestCapture::new();
    let (Some(replay), Some(programs)) = (ProgramReplay::of(&capture), programs()) else { return };
    if !IS_NATIVE {
        return;
    }
    let is_selected = |case: &&ClientCase| match case.args {
        [] => true,
        args => {
            case.client != "static" && args.iter().all(|arg| ARGS.contains(arg) || MORE_ARGS.contains(arg))
        }
    };
    for case in CLIENT_CASES.iter().filter(is_selected) {
        let name = format!("{}-32", case.client);
        let Some(client) = programs.build_32_bit(&format!("{}.c", case.client), &[], &name) else {
            return skip("there is no C library for 32-bit programs");
        };
        let ran = replay.program(&client, case.args, true).expect(0);
        let lines: Vec<_> = ran.out.lines().collect();
        assert_eq!(lines, (case.expected)(&capture.lines()), "{} {:?}: {}", case.client, case.args, ran.err);
    }
}
