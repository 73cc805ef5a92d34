//! What was emitted is what arrived and what was lost, to the event.

use std::collections::BTreeMap;

use pmon_core::accounting::{Accountant, Continuity, Gap};
use pmon_core::{Cpu, MonoNs, Seq};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Emitted {
    cpu: u32,
    seq: u32,
    time: u64,
    arrives: bool,
}

/// Events of some CPUs, of which each counts from its own number, some across the wrap; bursts of them are dropped.
fn stream() -> impl Strategy<Value = Vec<Emitted>> {
    let first = prop::collection::vec(prop_oneof![any::<u32>(), (u32::MAX - 20)..=u32::MAX], 8);
    let events = prop::collection::vec((0..8_u32, 1..1000_u64, prop::bool::weighted(0.7)), 0..400);
    (first, events).prop_map(|(mut next, events)| {
        let mut time = 0;
        let emit = |(cpu, passed, arrives): (u32, u64, bool)| {
            time += passed;
            let seq = next[cpu as usize];
            next[cpu as usize] = seq.wrapping_add(1);
            Emitted { cpu, seq, time, arrives }
        };
        events.into_iter().map(emit).collect()
    })
}

/// What is missing of one CPU between its first and its last event that arrived.
fn missing(events: &[Emitted]) -> u64 {
    let first = events.iter().position(|event| event.arrives);
    let last = events.iter().rposition(|event| event.arrives);
    first
        .zip(last)
        .map_or(0, |(first, last)| events[first..=last].iter().filter(|event| !event.arrives).count() as u64)
}

proptest! {
    #[test]
    fn emitted_is_arrived_and_lost(events in stream()) {
        let mut accountant = Accountant::new();
        let mut gaps: Vec<Gap> = Vec::new();
        for event in events.iter().filter(|event| event.arrives) {
            match accountant.observe_number(Cpu(event.cpu), Seq(event.seq), MonoNs(event.time)) {
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
        prop_assert_eq!(accountant.lost(), cpus.values().map(|events| missing(events)).sum::<u64>());
        prop_assert_eq!(accountant.lost(), gaps.iter().map(Gap::count).sum::<u64>());
        prop_assert_eq!(accountant.backwards(), 0);
        for gap in gaps {
            // Its neighbours arrived, and what lies between them did not.
            let of_cpu = &cpus[&gap.cpu.0];
            let at = |time| of_cpu.iter().position(|event| MonoNs(event.time) == time);
            let (after, before) = (at(gap.after).unwrap(), at(gap.before).unwrap());
            prop_assert!(of_cpu[after].arrives && of_cpu[before].arrives);
            prop_assert_eq!(Seq(of_cpu[after + 1].seq), gap.first);
            prop_assert_eq!((before - after - 1) as u64, gap.count());
            prop_assert!(of_cpu[after + 1..before].iter().all(|event| !event.arrives));
        }
    }

    #[test]
    fn any_numbers_are_taken(numbers in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u64>()), 0..200)) {
        let mut accountant = Accountant::new();
        for (cpu, seq, time) in numbers {
            accountant.observe_number(Cpu(cpu % 10_000), Seq(seq), MonoNs(time));
        }
    }
}
