//! Regression tests: in each of these cases, a program once lost events, hung or failed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::guard::{Need, needs};
use crate::harness::{CAPTURE, IS_NATIVE, ProgramReplay, skip};
use crate::support::copy_program;
use crate::test_capture::TestCapture;

/// A signal that interrupts a receiving call neither loses nor repeats events.
#[test]
fn a_timer_signal_neither_loses_nor_repeats_events() {
    let capture = TestCapture::with_processes(2_000);
    for mode in ["restart", "interrupt"] {
        let Some(replay) = ProgramReplay::of(&capture) else { return };
        let ran = replay.client("timer_storm", &[mode]).expect(0);
        let printed: Vec<_> = ran.out.lines().skip(1).collect();
        let expected = capture.lines();
        // The last call of `recvmmsg` waits for more events than there are.
        assert!(printed.len() <= expected.len() && expected.len() - printed.len() < 16, "{}", printed.len());
        let differs = printed.iter().zip(&expected).position(|(printed, expected)| printed != expected);
        assert_eq!(differs, None, "{mode}");
        let ticks = ran.err.lines().find_map(|line| line.strip_suffix(" ticks")).unwrap();
        assert!(ticks.parse::<u32>().unwrap() > 0, "{}", ran.err);
    }
}

#[test]
fn three_sockets_receive_all_events() {
    let capture = TestCapture::with_processes(6_600);
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("three_readers", &[]).expect(0);
    let each = format!("{} events 0 nobufs\n", capture.lines().len());
    assert_eq!(ran.out, each.repeat(3), "{}", ran.err);
}

/// Fast readers wait for slow ones, but not for a socket that is not read at all.
#[test]
fn an_unread_socket_does_not_delay_others() {
    let capture = TestCapture::with_processes(1_000);
    for other in ["closed", "unread"] {
        let Some(replay) = ProgramReplay::of(&capture) else { return };
        let began = Instant::now();
        let ran = replay.client("memberships", &[other]).expect(0);
        assert!(ran.out.lines().skip(1).eq(capture.lines()), "{other}: {}", ran.err);
        assert!(began.elapsed() < Duration::from_secs(5), "{other}: {:?}", began.elapsed());
    }
}

/// A datagram between two sockets of the program may be longer than those of the kernel.
#[test]
fn a_long_datagram_to_an_untracked_copy_does_no_harm() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("duplicate", &["long"]).expect(0);
    let events: Vec<_> = ran.out.lines().filter(|line| *line != "ack").collect();
    assert_eq!(events, capture.lines(), "{}", ran.err);
}

/// `recvmmsg` keeps the events that it has received before a damaged block.
#[test]
fn recvmmsg_loses_nothing_at_damage() {
    let capture = TestCapture::with_processes(300);
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let mut bytes = capture.bytes();
    let fifth = bytes.len() / 5;
    (1..5).for_each(|at| bytes[at * fifth] ^= 1);
    fs::write(replay.file(CAPTURE), bytes).unwrap();
    let [one, many] = ["recv", "recvmmsg-eight"].map(|mode| replay.client("receive", &[mode]).expect(4).out);
    let events = one.lines().filter(|line| *line != "nobufs").count();
    assert!(capture.lines().len() / 2 < events && events < capture.lines().len(), "{events} are left");
    assert_eq!(many, one);
}

#[test]
fn recvmmsg_that_times_out_loses_nothing() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture).map(|replay| replay.with(&["--speed", "1x"])) else {
        return;
    };
    let ran = replay.client("receive", &["recvmmsg-rcvtimeo"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), capture.lines(), "{}", ran.err);
}

#[test]
fn a_program_continues_without_its_main_thread() {
    let flags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);
    if pidfd_open(getpid(), flags).is_err() {
        return skip("pidfds of threads require Linux 6.9");
    }
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("threads", &["main-exits"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), capture.lines(), "{}", ran.err);
}

/// A program that sees itself as root may expect that it can change its user.
#[test]
fn a_daemon_changes_its_user() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("daemon_setup", &["setuid"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), capture.lines(), "{}", ran.err);
}

/// The kernel protects the memory of a program whose file is not readable.
#[test]
fn an_executable_without_read_permission_is_refused() {
    if !needs(&[Need::Root]) {
        return;
    }
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let secret = replay.file("secret");
    copy_program(replay.path("receive"), &secret);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o711)).unwrap();
    let ran = replay.program(secret.to_str().unwrap(), &["recv"], true).expect(6);
    assert!(ran.err.contains("chmod +r"), "{}", ran.err);
}

/// Otherwise the program would receive events of this system, or none.
#[test]
fn a_32_bit_program_gets_a_native_socket_or_eprotonosupport() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("foreign_abi", &[]).expect(0);
    if ran.out == "not supported\n" {
        return skip("this kernel does not run 32-bit programs");
    }
    let result = if IS_NATIVE { "open" } else { "EPROTONOSUPPORT" };
    let expected = format!("socket: {result}\nsocketcall: {result}\nsocket: open\nsocketcall: open\n");
    assert_eq!(ran.out, expected);
    assert_eq!(ran.err.contains("32-bit program"), !IS_NATIVE, "{}", ran.err);
}
