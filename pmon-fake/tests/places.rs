//! Places of fault scripts: which event each key selects.

use pmon_core::wire::{ByteOrder, Event, EventBody, EventKind};
use pmon_core::{Cpu, MonoNs, Seq, Task};
use pmon_fake::{EventPlace, EventProcess, Fault, FaultScript, Kernel, Trigger};

/// Returns the numbers of the events, as `events` lets them happen, before which the trigger fires.
fn fires(trigger: &Trigger, events: impl Fn(&mut Kernel)) -> Vec<u64> {
    // Each time that it fires, the time of the next events steps by a second.
    let mut kernel = Kernel::new(1);
    let mut socket = kernel.socket();
    socket.listen().unwrap();
    let start = kernel.now();
    kernel.inject(FaultScript::new().with(trigger.clone(), Fault::Step(1_000_000_000.into()), None), 0);
    events(&mut kernel);
    let mut bytes = [0; 128];
    let mut last = start.0 / 1_000_000_000;
    let mut fired = Vec::new();
    socket.recv(&mut bytes, pmon_fake::RecvFlags::empty()).unwrap();
    for number in 0.. {
        let Ok(received) = socket.recv(&mut bytes, pmon_fake::RecvFlags::empty()) else { break };
        let event = Event::decode(&bytes[..received.len], ByteOrder::NATIVE).unwrap();
        let seconds = event.time.0 / 1_000_000_000;
        if std::mem::replace(&mut last, seconds) != seconds {
            fired.push(number);
        }
    }
    fired
}

/// Eleven events: a shell forks a child with a thread, which runs make and ends.
fn session(kernel: &mut Kernel) {
    let shell = kernel.add_process("sh"); // 300
    let child = kernel.fork(shell); // 0: 301
    let thread = kernel.clone_thread(child); // 1: 302
    kernel.rename(thread, "worker"); // 2
    kernel.exit(thread, 0); // 3
    let make = kernel.exec(child, "/usr/bin/make", &["make", "-j2", "all"]); // 4
    kernel.setsid(make); // 5
    let grandchild = kernel.fork(make); // 6: 303
    kernel.ptrace_attach(shell, grandchild); // 7
    kernel.setuid(grandchild, 5, 5); // 8
    kernel.exit(grandchild, 1); // 9
    kernel.exit(make, 0); // 10
}

fn at(place: EventPlace) -> Option<u64> {
    let fired = fires(&Trigger::Place(place), session);
    assert!(fired.len() <= 1);
    fired.first().copied()
}

#[test]
fn each_key_selects_events() {
    let (any, kind) = (EventPlace::any, EventPlace::kind);
    assert_eq!(at(any()), Some(0));
    assert_eq!(at(kind(EventKind::Exec)), Some(4));
    assert_eq!(at(kind(EventKind::Coredump)), None);
    // Of a fork, pid is the child's process, tid the new thread.
    assert_eq!(at(any().pid(300)), None);
    assert_eq!(at(kind(EventKind::Fork).pid(301)), Some(0));
    assert_eq!(at(kind(EventKind::Fork).tid(302)), Some(1));
    assert_eq!(at(kind(EventKind::Fork).parent(301)), Some(6));
    assert_eq!(at(kind(EventKind::Exit).parent(300)), Some(10));
    assert_eq!(at(kind(EventKind::Exec).parent(300)), None);
    // The traced process, not the tracer.
    assert_eq!(at(kind(EventKind::Ptrace).pid(303)), Some(7));
    assert_eq!(at(any().tid(302).nth(2)), Some(2));
}

#[test]
fn a_name_is_that_of_the_process_after_the_event() {
    let any = EventPlace::any;
    assert_eq!(at(any().comm("sh")), Some(0));
    assert_eq!(at(any().comm("make")), Some(4));
    // The name of a thread is not that of its process.
    assert_eq!(at(any().comm("worker")), None);
    assert_eq!(at(any().comm("mak")), None);
    assert_eq!(at(EventPlace::kind(EventKind::Exit).comm("make")), Some(9));
    assert_eq!(at(EventPlace::kind(EventKind::Exit).comm("make").pid(301)), Some(10));
}

#[test]
fn a_pattern_is_searched_in_the_arguments_joined_by_spaces() {
    let args = |pattern| EventPlace::any().args(pattern).unwrap();
    assert_eq!(at(args("^make -j[0-9] all$")), Some(4));
    assert_eq!(at(args("^make -j[0-9] all$").nth(3)), Some(6));
    assert_eq!(at(args("ake.*a")), Some(4));
    assert_eq!(at(args("^all")), None);
    // The command line of a process without an exec is unknown and matches nothing.
    assert_eq!(
        fires(&Trigger::Place(args("")), |kernel| {
            let task = kernel.add_process("sh");
            kernel.rename(task, "sh");
        }),
        []
    );
}

#[test]
fn all_keys_have_to_match() {
    let place = || EventPlace::kind(EventKind::Fork).parent(301).pid(303).tid(303).comm("make");
    assert_eq!(at(place()), Some(6));
    assert_eq!(at(place().pid(304)), None);
    assert_eq!(at(place().nth(2)), None);
}

#[test]
fn every_and_chance_count_only_the_events_that_match() {
    let of = || EventPlace::kind(EventKind::Exit);
    let every = |events, from| fires(&Trigger::EveryOf { events, from, of: of() }, session);
    assert_eq!(every(1, 0), [3, 9, 10]);
    assert_eq!(every(2, 0), [3, 10]);
    assert_eq!(every(2, 1), [9]);
    assert_eq!(every(1, 3), []);
    assert_eq!(fires(&Trigger::chance_of(1.0, of()), session), [3, 9, 10]);
    assert_eq!(fires(&Trigger::chance_of(0.0, of()), session), []);
}

#[test]
fn external_events_match_by_what_the_feed_knows_of_their_process() {
    let mut kernel = Kernel::new(1);
    kernel.set_listeners(1);
    let place = EventPlace::any().comm("sshd").args("-D").unwrap();
    let script = FaultScript::new().with(Trigger::Place(place), Fault::Lose(1.into()), None);
    kernel.inject(script, 0);
    let task = Task::new(5071, 5071);
    let event = Event { time: MonoNs(5), seq: Seq(5), cpu: Cpu(0), body: EventBody::Sid { task } };
    let fired = |kernel: &Kernel| kernel.fault_counts()[0].fired;
    assert!(kernel.feed().needs_processes());
    kernel.feed().emit(&event);
    let others = [(None, Some("sshd\0-D\0")), (Some("sshd"), None), (Some("sh"), Some("sshd\0-D\0"))];
    for (comm, args) in others {
        kernel
            .feed()
            .emit_of(&event, EventProcess { comm: comm.map(str::as_bytes), args: args.map(str::as_bytes) });
    }
    assert_eq!(fired(&kernel), 0);
    kernel.feed().emit_of(&event, EventProcess { comm: Some(b"sshd"), args: Some(b"sshd\0-D\0") });
    assert_eq!(fired(&kernel), 1);
}

#[test]
fn a_datagram_without_an_event_has_the_kind_unknown() {
    let mut kernel = Kernel::new(1);
    kernel.set_listeners(1);
    let place = EventPlace::kind(EventKind::Unknown);
    kernel.inject(FaultScript::new().with(Trigger::Place(place.nth(2)), Fault::End, None), 0);
    kernel.feed().emit_datagram(b"short");
    assert_eq!(kernel.fault_counts()[0].fired, 0);
    kernel.feed().emit_datagram(b"short");
    assert_eq!(kernel.fault_counts()[0].fired, 1);
}
