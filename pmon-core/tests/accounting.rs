//! Conservation: the emitted events are exactly those that arrived, were excluded or were lost.

use std::collections::BTreeMap;

use pmon_core::accounting::{Accountant, Continuity, Gap};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Arrives,
    Excluded,
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Emitted {
    cpu: u32,
    seq: u32,
    time: u64,
    fate: Fate,
    /// Number of events of this CPU that the source has excluded so far.
    excluded: u32,
}

impl Emitted {
    fn arrives(&self) -> bool {
        self.fate == Fate::Arrives
    }
}

/// Events of several CPUs, each with its own sequence numbers, some of which wrap. Some events are
/// excluded, and some are lost.
fn stream() -> impl Strategy<Value = Vec<Emitted>> {
    let first = prop::collection::vec(prop_oneof![any::<u32>(), (u32::MAX - 20)..=u32::MAX], 8);
    let fate = prop_oneof![7 => Just(Fate::Arrives), 2 => Just(Fate::Excluded), 2 => Just(Fate::Lost)];
    let events = prop::collection::vec((0..8_u32, 1..1000_u64, fate), 0..400);
    (first.clone(), first, events).prop_map(|(mut next, mut excluded, events)| {
        let mut time = 0;
        let emit = |(cpu, passed, fate): (u32, u64, Fate)| {
            time += passed;
            let (next, excluded) = (&mut next[cpu as usize], &mut excluded[cpu as usize]);
            let seq = *next;
            *next = seq.wrapping_add(1);
            *excluded = excluded.wrapping_add((fate == Fate::Excluded).into());
            Emitted { cpu, seq, time, fate, excluded: *excluded }
        };
        events.into_iter().map(emit).collect()
    })
}

/// Returns the number of events with this fate.
fn count(events: &[Emitted], fate: Fate) -> u64 {
    events.iter().filter(|event| event.fate == fate).count() as u64
}

/// Returns the number of lost events of one CPU between its first and its last received event.
fn lost(events: &[Emitted]) -> u64 {
    let first = events.iter().position(Emitted::arrives);
    let last = events.iter().rposition(Emitted::arrives);
    first.zip(last).map_or(0, |(first, last)| count(&events[first..=last], Fate::Lost))
}

fn received(cpu: u32, seq: u32, time: u64) -> Event {
    let body = EventBody::Ack { ack: 0, err: 0 };
    Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(cpu), body }
}

proptest! {
    #[test]
    fn emitted_events_are_received_excluded_or_lost(events in stream()) {
        let mut accountant = Accountant::new();
        let mut gaps: Vec<Gap> = Vec::new();
        for event in events.iter().filter(|event| event.arrives()) {
            match accountant.observe(&received(event.cpu, event.seq, event.time), event.excluded) {
                Continuity::Gap(gap) => {
                    prop_assert_eq!((gap.cpu, gap.last.next()), (Cpu(event.cpu), Seq(event.seq)));
                    gaps.push(gap);
                }
                Continuity::First | Continuity::Next => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }
        let mut cpus: BTreeMap<u32, Vec<Emitted>> = BTreeMap::new();
        events.iter().for_each(|event| cpus.entry(event.cpu).or_default().push(*event));
        prop_assert_eq!(accountant.lost(), cpus.values().map(|events| lost(events)).sum::<u64>());
        prop_assert_eq!(accountant.lost(), gaps.iter().map(Gap::count).sum::<u64>());
        for gap in gaps {
            // The events next to the gap arrived. Those in the gap did not; some were excluded.
            let of_cpu = &cpus[&gap.cpu.0];
            let at = |time| of_cpu.iter().position(|event| MonoNs(event.time) == time);
            let (after, before) = (at(gap.after).unwrap(), at(gap.before).unwrap());
            prop_assert!(of_cpu[after].arrives() && of_cpu[before].arrives());
            prop_assert_eq!(Seq(of_cpu[after + 1].seq), gap.first);
            let between = &of_cpu[after + 1..before];
            prop_assert_eq!((count(between, Fate::Lost), count(between, Fate::Excluded)), (gap.count(), gap.excluded));
            prop_assert_eq!(count(between, Fate::Arrives), 0);
        }
    }

    #[test]
    fn any_numbers_are_accepted(numbers in prop::collection::vec(any::<(u32, u32, u64, u32)>(), 0..200)) {
        let mut accountant = Accountant::new();
        for (cpu, seq, time, excluded) in numbers {
            accountant.observe(&received(cpu % 10_000, seq, time), excluded);
        }
    }
}
