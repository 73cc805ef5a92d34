//! Random losses under all triggers: each emitted event is received or counted as lost, and the
//! lost ones are those that the rules name.

use std::collections::BTreeSet;

use pmon_core::wire::{ByteOrder, Event, EventKind};
use pmon_core::{Cpu, Seq, Task};
use pmon_fake::{Amount, Errno, EventPlace, Fault, FaultScript, Kernel, RecvFlags, Socket, Trigger};
use proptest::prelude::*;

const CPUS: u32 = 3;

/// What a process does next: the process by its index, the CPU, and the call.
type Step = (usize, u32, u8);

/// The CPU and sequence number of an event, its kind, its process, and the name of the process.
type EmittedEvent = (Cpu, Seq, EventKind, u32, &'static str);

const KINDS: [EventKind; 3] = [EventKind::Fork, EventKind::Comm, EventKind::Exec];
const NAMES: [&str; 3] = ["sh", "make", "cc"];

fn places() -> impl Strategy<Value = (Option<EventKind>, Option<u32>, Option<&'static str>, u64)> {
    let kind = prop::option::of(prop::sample::select(&KINDS[..]));
    let name = prop::option::of(prop::sample::select(&NAMES[..]));
    (kind, prop::option::of(300..310_u32), name, 1..4_u64)
}

/// Conditions and number of a place, in a form that the model of this test can read.
type PlaceParts = (Option<EventKind>, Option<u32>, Option<&'static str>, u64);

fn place((kind, pid, name, nth): PlaceParts) -> EventPlace {
    let place = kind.map_or_else(EventPlace::any, EventPlace::kind).nth(nth);
    let place = pid.map_or(place.clone(), |pid| place.pid(pid));
    name.map_or(place.clone(), |name| place.comm(name))
}

fn matches((kind, pid, name, _): PlaceParts, &(_, _, of, process, comm): &EmittedEvent) -> bool {
    kind.is_none_or(|kind| kind == of)
        && pid.is_none_or(|pid| pid == process)
        && name.is_none_or(|name| name == comm)
}

#[derive(Clone, Copy, Debug)]
enum When {
    At(u64),
    Every(u64, u64),
    Place(PlaceParts),
    EveryOf(u64, u64, PlaceParts),
}

#[derive(Clone, Copy, Debug)]
enum What {
    Lose(u32),
    Until(PlaceParts),
}

fn rules() -> impl Strategy<Value = Vec<(When, What)>> {
    let when = prop_oneof![
        (0..60_u64).prop_map(When::At),
        (1..20_u64, 0..20_u64).prop_map(|(events, from)| When::Every(events, from)),
        places().prop_map(When::Place),
        (1..4_u64, 0..4_u64, places()).prop_map(|(events, from, of)| When::EveryOf(events, from, of)),
    ];
    let what = prop_oneof![(0..8_u32).prop_map(What::Lose), places().prop_map(What::Until)];
    prop::collection::vec((when, what), 0..4)
}

fn trigger(when: When) -> Trigger {
    match when {
        When::At(at) => Trigger::At(at),
        When::Every(events, from) => Trigger::Every { events, from },
        When::Place(parts) => Trigger::Place(place(parts)),
        When::EveryOf(events, from, of) => Trigger::EveryOf { events, from, of: place(of) },
    }
}

fn script(rules: &[(When, What)]) -> FaultScript {
    rules.iter().fold(FaultScript::new(), |script, &(when, what)| {
        let fault = match what {
            What::Lose(events) => Fault::Lose(events.into()),
            What::Until(until) => Fault::LoseUntil(place(until)),
        };
        script.with(trigger(when), fault, None)
    })
}

/// Returns the numbers of the events that the rules lose, by the words of the documentation.
fn expected_losses(rules: &[(When, What)], events: &[EmittedEvent]) -> BTreeSet<usize> {
    let mut lost = BTreeSet::new();
    for &(when, what) in rules {
        let mut matching = 0;
        // While a `lose_until` waits for its place, another one of the same rule has no effect.
        let mut waits_until = 0;
        for (number, event) in events.iter().enumerate() {
            let mut nth_match = |parts| {
                matching += u64::from(matches(parts, event));
                matches(parts, event).then_some(matching)
            };
            let is_due = match when {
                When::At(at) => at == number as u64,
                When::Every(events, from) => {
                    number as u64 >= from && (number as u64 - from).is_multiple_of(events)
                }
                When::Place(parts) => nth_match(parts) == Some(parts.3),
                When::EveryOf(events, from, parts) => {
                    nth_match(parts).is_some_and(|nth| nth > from && (nth - 1 - from).is_multiple_of(events))
                }
            };
            match what {
                What::Lose(amount) if is_due => {
                    lost.extend((number..number + amount as usize).filter(|&at| at < events.len()));
                }
                What::Until(parts) if is_due && number >= waits_until => {
                    let later = events.iter().enumerate().skip(number + 1);
                    let mut ends = later.filter(|(_, event)| matches(parts, event)).map(|(at, _)| at);
                    waits_until = ends.nth(parts.3 as usize - 1).unwrap_or(events.len());
                    lost.extend(number..waits_until);
                }
                _ => {}
            }
        }
    }
    lost
}

/// Lets one event happen; returns it.
fn step(kernel: &mut Kernel, tasks: &mut Vec<(Task, &'static str)>, (of, cpu, call): Step) -> EmittedEvent {
    let index = of % tasks.len();
    let (task, name) = tasks[index];
    kernel.run_on(Cpu(cpu));
    let seq = kernel.next_seq(Cpu(cpu));
    let (kind, pid, name) = match call % 3 {
        0 => {
            let child = kernel.fork(task);
            tasks.push((child, name));
            (EventKind::Fork, child.tgid.0, name)
        }
        1 => {
            let name = NAMES[usize::from(call) % NAMES.len()];
            kernel.rename(task, name);
            tasks[index].1 = name;
            (EventKind::Comm, task.tgid.0, name)
        }
        _ => {
            let name = NAMES[usize::from(call / 3) % NAMES.len()];
            kernel.exec(task, name, &[name]);
            tasks[index].1 = name;
            (EventKind::Exec, task.tgid.0, name)
        }
    };
    (Cpu(cpu), seq, kind, pid, name)
}

/// Receives all queued datagrams; returns the CPU and number of each event, and the number of
/// errors.
fn drain(socket: &mut Socket) -> (Vec<(Cpu, Seq)>, usize) {
    let (mut events, mut errors, mut bytes) = (Vec::new(), 0, [0; 128]);
    loop {
        match socket.recv(&mut bytes, RecvFlags::empty()) {
            Ok(received) => {
                let event = Event::decode(&bytes[..received.len], ByteOrder::NATIVE).unwrap();
                events.push((event.cpu, event.seq));
            }
            Err(Errno::AGAIN) => return (events, errors),
            Err(_) => errors += 1,
        }
    }
}

fn listener() -> (Kernel, Socket, Vec<(Task, &'static str)>) {
    let mut kernel = Kernel::new(CPUS);
    let mut socket = kernel.socket();
    socket.force_rcvbuf(i32::MAX).unwrap();
    socket.listen().unwrap();
    drain(&mut socket);
    let task = kernel.add_process("sh");
    (kernel, socket, vec![(task, "sh")])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..20_usize, 0..CPUS, 0..9_u8), 1..60)
}

proptest! {
    #[test]
    fn the_lost_events_are_those_that_the_rules_name(
        rules in rules(),
        steps in steps(),
        no_enobufs: bool,
    ) {
        let (mut kernel, mut socket, mut tasks) = listener();
        socket.set_no_enobufs(no_enobufs);
        kernel.inject(script(&rules), 0);
        let (mut events, mut received, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for &one in &steps {
            events.push(step(&mut kernel, &mut tasks, one));
            // The consumer keeps up, so that no event is lost to congestion.
            let (more, failed) = drain(&mut socket);
            received.extend(more);
            errors.push(failed);
        }
        let lost = expected_losses(&rules, &events);
        let arrived = events.iter().enumerate().filter(|(number, _)| !lost.contains(number));
        prop_assert_eq!(received, arrived.map(|(_, event)| (event.0, event.1)).collect::<Vec<_>>());
        prop_assert_eq!(socket.memory().drops as usize, lost.len());
        // Consecutive lost events are one overrun.
        let begins = |number: usize| {
            lost.contains(&number) && !(number > 0 && lost.contains(&(number - 1))) && !no_enobufs
        };
        prop_assert_eq!(errors, (0..events.len()).map(|number| usize::from(begins(number))).collect::<Vec<_>>());
    }

    #[test]
    fn each_emitted_event_is_received_or_missing_and_dropped(
        rules in rules(),
        chance in prop::option::of((any::<u32>(), places(), 0..5_u32, 0..5_u32)),
        seed: u64,
        steps in steps(),
        drain_every in 1..20_usize,
        no_enobufs: bool,
        rcvbuf in prop_oneof![Just(1 << 11), Just(1 << 14), Just(64 << 20)],
    ) {
        let (mut kernel, mut socket, mut tasks) = listener();
        socket.set_no_enobufs(no_enobufs);
        socket.force_rcvbuf(rcvbuf).unwrap();
        let mut script = script(&rules);
        if let Some((probability, of, from, more)) = chance {
            let amount: Amount = (from..=from + more).into();
            script = script.with(Trigger::ChanceOf { probability, of: place(of) }, Fault::Lose(amount), None);
            script = script.with(Trigger::Chance(probability >> 3), Fault::Lose(amount), None);
        }
        kernel.inject(script, seed);
        let mut received = Vec::new();
        let mut emitted = Vec::new();
        for (number, &one) in steps.iter().enumerate() {
            let event = step(&mut kernel, &mut tasks, one);
            emitted.push((event.0, event.1));
            if number % drain_every == 0 {
                received.extend(drain(&mut socket).0);
            }
        }
        received.extend(drain(&mut socket).0);
        // The numbers of all CPUs together count the events and the acknowledgement.
        let numbers: u64 = (0..CPUS).map(|cpu| u64::from(kernel.next_seq(Cpu(cpu)).0)).sum();
        prop_assert_eq!(numbers, emitted.len() as u64 + 1);
        let missing: Vec<_> = emitted.iter().filter(|event| !received.contains(event)).collect();
        prop_assert_eq!(missing.len(), socket.memory().drops as usize);
        prop_assert_eq!(received.len() + missing.len(), emitted.len());
    }
}
