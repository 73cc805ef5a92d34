//! Real events that are lost: gaps, drops, `ENOBUFS` and congestion, and how long a loss lasts.

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventKind};
use pmon_core::{Cpu, Task};
use pmon_fake::{Errno, EventPlace, Fault, FaultScript, Kernel, RecvFlags, SockFilter, Socket, Trigger};

/// Returns a kernel with two CPUs, a subscribed socket, and a process.
fn listener() -> (Kernel, Socket, Task) {
    let mut kernel = Kernel::new(2);
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    assert!(next(&mut socket).is_ok());
    let task = kernel.add_process("test");
    (kernel, socket, task)
}

/// Receives the sequence number of the next event.
fn next(socket: &mut Socket) -> Result<u32, Errno> {
    let mut bytes = [0; 128];
    let len = socket.recv(&mut bytes, RecvFlags::empty())?.len;
    Ok(Event::decode(&bytes[..len], ByteOrder::NATIVE).unwrap().seq.0)
}

/// Receives everything that is queued.
fn drain(socket: &mut Socket) -> Vec<Result<u32, Errno>> {
    std::iter::from_fn(|| Some(next(socket)).filter(|next| *next != Err(Errno::AGAIN))).collect()
}

fn one(trigger: Trigger, fault: Fault) -> FaultScript {
    FaultScript::new().with(trigger, fault, None)
}

#[test]
fn a_lost_event_is_the_real_one_and_enobufs_comes_before_queued_datagrams() {
    let (mut kernel, mut socket, task) = listener();
    kernel.inject(one(Trigger::At(2), Fault::Lose(2.into())), 0);
    (0..4).for_each(|_| kernel.rename(task, "event"));
    assert_eq!(socket.memory().drops, 2);
    assert_eq!(drain(&mut socket), [Err(Errno::NOBUFS), Ok(1), Ok(2)]);
    kernel.rename(task, "event");
    assert_eq!(drain(&mut socket), [Ok(5)]);
}

#[test]
fn a_lost_event_makes_a_socket_congested_until_its_queue_is_empty() {
    let (mut kernel, mut socket, task) = listener();
    kernel.rename(task, "queued");
    kernel.lose(1);
    (0..3).for_each(|_| kernel.rename(task, "dropped"));
    assert_eq!(next(&mut socket), Err(Errno::NOBUFS));
    kernel.rename(task, "dropped");
    assert_eq!(socket.memory().drops, 4);
    assert_eq!(next(&mut socket), Ok(1));
    kernel.rename(task, "received");
    assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Ok(6)], 4));
}

/// `poll` and `SO_ERROR`, or `recvmmsg`, return the error without a look at the queue.
#[test]
fn after_so_error_a_socket_with_an_empty_queue_receives_again() {
    let (mut kernel, mut socket, task) = listener();
    kernel.lose(1);
    kernel.rename(task, "lost");
    assert_eq!(socket.take_error(), Some(Errno::NOBUFS));
    kernel.rename(task, "received");
    assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Ok(2)], 1));
    // A queue that is not empty has to be emptied first.
    kernel.rename(task, "queued");
    kernel.lose(1);
    kernel.rename(task, "lost");
    assert_eq!(socket.take_error(), Some(Errno::NOBUFS));
    kernel.rename(task, "dropped");
    assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Ok(3)], 3));
}

#[test]
fn consecutive_lost_events_are_one_overrun_however_often_the_consumer_receives() {
    let (mut kernel, mut socket, task) = listener();
    kernel.inject(one(Trigger::Every { events: 5, from: 0 }, Fault::Lose(3.into())), 0);
    let mut results = Vec::new();
    for _ in 0..7 {
        kernel.rename(task, "event");
        results.extend(drain(&mut socket));
    }
    assert_eq!(results, [Err(Errno::NOBUFS), Ok(4), Ok(5), Err(Errno::NOBUFS)]);
    assert_eq!(socket.memory().drops, 5);
    // Each call of the verb is an overrun of its own.
    kernel.inject(FaultScript::new(), 0);
    for drops in [6, 7] {
        kernel.lose(1);
        kernel.rename(task, "event");
        assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Err(Errno::NOBUFS)], drops));
    }
}

#[test]
fn with_no_enobufs_a_lost_event_shows_by_its_number_and_the_drops() {
    let (mut kernel, mut socket, task) = listener();
    socket.set_no_enobufs(true);
    kernel.lose(2);
    (0..4).for_each(|_| kernel.rename(task, "event"));
    assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Ok(3), Ok(4)], 2));
}

#[test]
fn a_socket_that_does_not_receive_the_event_does_not_drop_it() {
    let (mut kernel, mut filtered, task) = listener();
    // `ret #0`
    filtered.attach_filter(&[SockFilter { code: 6, jt: 0, jf: 0, k: 0 }]).unwrap();
    let (outside, mut listening) = (kernel.socket(), kernel.socket());
    listening.listen().unwrap();
    drain(&mut listening);
    kernel.lose(1);
    kernel.rename(task, "lost");
    assert_eq!([filtered.memory().drops, outside.memory().drops, listening.memory().drops], [0, 0, 1]);
}

#[test]
fn acknowledgements_and_events_of_faults_are_not_lost() {
    let (mut kernel, mut socket, task) = listener();
    socket.set_no_enobufs(true);
    kernel.lose(2);
    let mut other = kernel.socket();
    other.listen().unwrap();
    kernel.rename(task, "lost");
    kernel.inject(
        one(Trigger::At(1), Fault::Burst(3.into())).with(Trigger::At(1), Fault::Lose(1.into()), None),
        0,
    );
    kernel.rename(task, "lost");
    assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Ok(1), Ok(3), Ok(4), Ok(5)], 2));
}

#[test]
fn a_loss_covers_the_events_of_all_cpus_and_a_held_event_survives_it() {
    let (mut kernel, mut socket, task) = listener();
    socket.set_no_enobufs(true);
    kernel.inject(
        one(Trigger::At(0), Fault::Hold(9.into())).with(Trigger::At(1), Fault::Lose(2.into()), None),
        0,
    );
    for cpu in [0, 1, 0, 1] {
        kernel.run_on(Cpu(cpu));
        kernel.rename(task, "event");
    }
    kernel.release_delayed();
    assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Ok(1), Ok(1)], 2));
}

#[test]
fn losses_that_overlap_lose_each_event_once() {
    let (mut kernel, mut socket, task) = listener();
    socket.set_no_enobufs(true);
    let script = one(Trigger::At(0), Fault::Lose(3.into())).with(Trigger::At(2), Fault::Lose(2.into()), None);
    kernel.inject(script, 0);
    (0..6).for_each(|_| kernel.rename(task, "event"));
    assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Ok(5), Ok(6)], 4));
}

#[test]
fn a_loss_until_a_place_spares_that_event_and_includes_the_trigger() {
    let (mut kernel, mut socket, task) = listener();
    socket.set_no_enobufs(true);
    let fork = || EventPlace::kind(EventKind::Fork);
    kernel.inject(one(Trigger::Place(fork()), Fault::LoseUntil(fork())), 0);
    kernel.rename(task, "received");
    let child = kernel.fork(task);
    kernel.rename(child, "lost");
    kernel.fork(task);
    kernel.rename(task, "received");
    assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Ok(1), Ok(4), Ok(5)], 2));
}

#[test]
fn the_verb_loses_nothing_if_the_next_event_is_the_place() {
    let (mut kernel, mut socket, task) = listener();
    socket.set_no_enobufs(true);
    kernel.lose_until(EventPlace::any());
    kernel.fork(task);
    kernel.lose_until(EventPlace::kind(EventKind::Fork).nth(2));
    kernel.fork(task);
    kernel.fork(task);
    assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Ok(1), Ok(3)], 1));
}

#[test]
fn a_new_script_ends_a_loss() {
    let (mut kernel, mut socket, task) = listener();
    kernel.lose(u64::MAX);
    kernel.inject(FaultScript::new(), 0);
    kernel.rename(task, "received");
    assert_eq!(drain(&mut socket), [Ok(1)]);
}

#[test]
fn events_that_are_not_emitted_count_and_are_not_dropped() {
    let (mut kernel, mut socket, task) = listener();
    kernel.inject(
        one(Trigger::At(0), Fault::Blind(1.into())).with(Trigger::At(0), Fault::Lose(2.into()), None),
        0,
    );
    kernel.rename(task, "suppressed");
    let mut other = kernel.socket();
    other.listen().unwrap();
    kernel.rename(task, "lost");
    assert_eq!((drain(&mut socket), socket.memory().drops), (vec![Err(Errno::NOBUFS), Ok(1)], 1));
}

#[test]
fn a_source_reports_an_overrun_and_then_the_next_events() {
    let (mut kernel, mut socket, task) = listener();
    let mut batch = Batch::with_capacity(8);
    kernel.lose(1);
    kernel.rename(task, "lost");
    assert_eq!(socket.receive(&mut batch), Ok(Received::Overrun));
    kernel.rename(task, "received");
    assert_eq!(socket.receive(&mut batch), Ok(Received::Datagrams(1)));
}

#[test]
fn the_counts_tell_rules_that_fired_from_those_that_had_an_effect() {
    let mut kernel = Kernel::new(1);
    let task = kernel.add_process("test");
    let place = |name| EventPlace::kind(EventKind::Comm).comm(name);
    let script = one(Trigger::Every { events: 1, from: 0 }, Fault::Lose(1.into()))
        .with(Trigger::At(9), Fault::End, None)
        .with(Trigger::Place(place("first")), Fault::Overrun(1.into()), None)
        .with(Trigger::Place(place("third")), Fault::Overrun(1.into()), None)
        .with(Trigger::Place(place("third")), Fault::LoseUntil(place("never")), None);
    kernel.inject(script, 0);
    let counts = |kernel: &Kernel| -> Vec<_> {
        kernel.fault_counts().iter().map(|count| (count.fired, count.effective, count.is_losing)).collect()
    };
    // Without a listener, no fault has an effect.
    kernel.rename(task, "first");
    kernel.rename(task, "second");
    assert_eq!(counts(&kernel), [(2, 0, false), (0, 0, false), (1, 0, false), (0, 0, false), (0, 0, false)]);
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    kernel.rename(task, "third");
    assert_eq!(counts(&kernel), [(3, 1, false), (0, 0, false), (1, 0, false), (1, 1, false), (1, 1, true)]);
    kernel.rename(task, "never");
    assert!(!kernel.fault_counts()[4].is_losing);
    kernel.inject(FaultScript::new(), 0);
    assert_eq!(kernel.fault_counts(), []);
}
