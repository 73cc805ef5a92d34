//! What was found by trying strange programs: each of these once lost events, hung, or failed for no reason of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::day::Day;
use crate::guard::{Need, needs};
use crate::stage::{Replay, skip};
use crate::support::copy_program;

/// The bytes that a call has taken when a signal comes belong to the program all the same.
#[test]
fn a_timer_neither_takes_nor_repeats_an_event() {
    let day = Day::of_many(2_000);
    for mode in ["again", "interrupt"] {
        let Some(replay) = Replay::of(&day) else { return };
        let ran = replay.client("storm", &[mode]).expect(0);
        let printed: Vec<_> = ran.out.lines().skip(1).collect();
        let wanted = day.lines();
        // The last few are fewer than it waits for.
        assert!(printed.len() <= wanted.len() && wanted.len() - printed.len() < 16, "{}", printed.len());
        let differs = printed.iter().zip(&wanted).position(|(printed, wanted)| printed != wanted);
        assert_eq!(differs, None, "{mode}");
        let ticks = ran.err.lines().find_map(|line| line.strip_suffix(" ticks")).unwrap();
        assert!(ticks.parse::<u32>().unwrap() > 0, "{}", ran.err);
    }
}

#[test]
fn of_three_readers_none_is_left_behind() {
    let day = Day::of_many(6_600);
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client("readers", &[]).expect(0);
    let each = format!("{} events 0 nobufs\n", day.lines().len());
    assert_eq!(ran.out, each.repeat(3), "{}", ran.err);
}

/// For who reads slower the others wait, but not 2 ms an event for a socket that nobody reads.
#[test]
fn a_socket_that_nobody_reads_costs_nothing() {
    let day = Day::of_many(1_000);
    for other in ["closed", "unread"] {
        let Some(replay) = Replay::of(&day) else { return };
        let began = Instant::now();
        let ran = replay.client("join", &[other]).expect(0);
        assert!(ran.out.lines().skip(1).eq(day.lines()), "{other}: {}", ran.err);
        assert!(began.elapsed() < Duration::from_secs(5), "{other}: {:?}", began.elapsed());
    }
}

/// Between two of its programs, nothing is too long.
#[test]
fn a_long_datagram_to_a_copy_harms_nobody() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client("copy", &["long"]).expect(0);
    let events: Vec<_> = ran.out.lines().filter(|line| *line != "ack").collect();
    assert_eq!(events, day.lines(), "{}", ran.err);
}

/// Those are the program's that a call has taken when the world fails.
#[test]
fn a_call_for_many_loses_nothing_at_a_damage() {
    let day = Day::of_many(300);
    let Some(replay) = Replay::of(&day) else { return };
    let mut bytes = day.bytes();
    let fifth = bytes.len() / 5;
    (1..5).for_each(|at| bytes[at * fifth] ^= 1);
    fs::write(replay.file("day.pmon"), bytes).unwrap();
    let [one, many] = ["recv", "eight"].map(|mode| replay.client("receive", &[mode]).expect(4).out);
    let events = one.lines().filter(|line| *line != "nobufs").count();
    assert!(day.lines().len() / 2 < events && events < day.lines().len(), "{events} are left");
    assert_eq!(many, one);
}

#[test]
fn a_call_for_many_that_times_out_loses_nothing() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day).map(|replay| replay.with(&["--speed", "1x"])) else { return };
    let ran = replay.client("receive", &["hasty"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), day.lines(), "{}", ran.err);
}

#[test]
fn a_program_goes_on_without_its_first_thread() {
    let flags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);
    if pidfd_open(getpid(), flags).is_err() {
        return skip("a thread has no pidfd before Linux 6.9");
    }
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client("threads", &["left"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), day.lines(), "{}", ran.err);
}

/// An ordinary user may not; who sees itself as root may expect to.
#[test]
fn a_daemon_becomes_nobody() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client("become", &["nobody"]).expect(0);
    assert_eq!(ran.out.lines().skip(1).collect::<Vec<_>>(), day.lines(), "{}", ran.err);
}

/// Its memory is as secret as its file.
#[test]
fn a_program_that_may_only_be_run_is_refused_with_a_reason() {
    if !needs(&[Need::Root]) {
        return;
    }
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let secret = replay.file("secret");
    copy_program(replay.path("receive"), &secret);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o711)).unwrap();
    let ran = replay.program(secret.to_str().unwrap(), &["recv"], true).expect(6);
    assert!(ran.err.contains("chmod +r"), "{}", ran.err);
}

/// It would otherwise hear of this system's processes, or of nothing, and wait for more.
#[test]
fn a_32_bit_program_is_told_that_there_is_no_connector() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client("elsewhere", &[]).expect(0);
    if ran.out == "no such calls\n" {
        return skip("this kernel runs no 32-bit programs");
    }
    let refused = "EPROTONOSUPPORT";
    let wanted = format!("socket: {refused}\nsocketcall: {refused}\nsocket: open\nsocketcall: open\n");
    assert_eq!(ran.out, wanted);
    assert!(ran.err.contains("32-bit program"), "{}", ran.err);
}
