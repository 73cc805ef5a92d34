//! The signals that kill processes, and their senders.

use pmon_core::capture::{FatalSignal, SignalOrigin, SignalSender};

use super::*;

/// Start time in clock ticks since boot of a process that is forked at `time`.
fn ticks(time: u64) -> u64 {
    (time + 5_000_000_000) / 10_000_000
}

fn signal(pid: u32, start_ticks: u64) -> FatalSignal {
    let sender = SignalSender { pid, start_ticks, uid: 7, comm: Comm(*b"kill\0\0\0\0\0\0\0\0\0\0\0\0") };
    FatalSignal { oom_victim: Some(false), origin: SignalOrigin::Process { code: 0, sender } }
}

fn killed(time: u64, pid: u32, fatal_signal: FatalSignal) -> Record<'static> {
    let process = ProcessState::Ended { status: 9 };
    exit_with(time, pid, pid, 9, Usage { process, fatal_signal, ..Usage::default() })
}

/// Returns the identity of the sender of the signal that killed process 20.
fn sender_of_20(lives: &[Life]) -> Option<ProcessId> {
    life(lives, 20).signal.as_ref().expect("no signal").sender_id
}

const MS: u64 = 1_000_000;

#[test]
fn the_sender_is_the_process_with_its_id_and_its_start_time() {
    let forks = [fork(100 * MS, 1, 10), fork(200 * MS, 1, 20)];
    let of = |start| {
        let lives = lives(&[&forks[..], &[killed(300 * MS, 20, signal(10, start))]].concat());
        (sender_of_20(&lives), life(&lives, 10).id)
    };
    let (sender, id) = of(ticks(100 * MS));
    assert_eq!(sender, Some(id));
    // The fork event can be slightly later than the start time.
    assert_eq!(of(ticks(100 * MS) - 1).0, Some(id));
    assert_eq!(of(ticks(100 * MS) - 2).0, None);
    assert_eq!(of(ticks(100 * MS) + 2).0, None);
}

#[test]
fn a_sender_that_has_ended_before_is_found_until_its_id_is_used_again() {
    let records = [fork(100 * MS, 1, 20), fork(200 * MS, 1, 10), exit(250 * MS, 10, 10, 0)];
    let sent = signal(10, ticks(200 * MS));
    let at_once = lives(&[&records[..], &[killed(251 * MS, 20, sent)]].concat());
    assert_eq!(sender_of_20(&at_once), Some(life(&at_once, 10).id));
    let reused = [fork(400 * MS, 1, 10), killed(500 * MS, 20, sent)];
    let later = lives(&[&records[..], &reused].concat());
    let first = later.iter().find(|life| life.start == Some(MonoNs(200 * MS)));
    assert_eq!(sender_of_20(&later), first.map(|life| life.id));
    let ended_twice = [fork(400 * MS, 1, 10), exit(450 * MS, 10, 10, 0), fork(460 * MS, 1, 11)];
    let too_late = lives(&[&records[..], &ended_twice, &[killed(500 * MS, 20, sent)]].concat());
    assert_eq!(sender_of_20(&too_late), None);
}

#[test]
fn a_process_can_send_the_signal_to_itself() {
    let lives = lives(&[fork(100 * MS, 1, 20), killed(300 * MS, 20, signal(20, ticks(100 * MS)))]);
    assert_eq!(sender_of_20(&lives), Some(life(&lives, 20).id));
}

#[test]
fn only_the_end_of_a_process_has_a_signal() {
    let goes_on = Usage { process: ProcessState::Alive, fatal_signal: signal(10, 1), ..Usage::default() };
    let lives = lives(&[
        fork(100 * MS, 1, 20),
        thread(110 * MS, 20, 20, 21),
        exit_with(120 * MS, 21, 20, 9, goes_on),
        fork(130 * MS, 1, 30),
        exit_with(
            140 * MS,
            30,
            30,
            9,
            Usage { process: ProcessState::Ended { status: 9 }, ..Usage::default() },
        ),
    ]);
    assert_eq!((&life(&lives, 20).signal, &life(&lives, 30).signal), (&None, &None));
}
