use std::collections::VecDeque;

use pmon_core::wire::{EVENT_DATAGRAM_LEN, EventBody, layout};
use pmon_core::{MonoNs, Task};
use proptest::prelude::*;

use super::*;

const CPUS: usize = 3;

fn datagram(cpu: usize, seq: u32) -> [u8; EVENT_DATAGRAM_LEN] {
    let body = EventBody::Sid { task: Task::new(1, 1) };
    Event { time: MonoNs(0), seq: Seq(seq), cpu: Cpu(cpu as u32), body }.encode(ByteOrder::NATIVE).unwrap()
}

/// A kernel with a ring and a socket queue, and the reader of both.
#[derive(Default)]
struct SimulatedRing {
    next: [u32; CPUS],
    ring: VecDeque<[u8; EVENT_DATAGRAM_LEN]>,
    queue: VecDeque<[u8; EVENT_DATAGRAM_LEN]>,
    merge: Merge,
    read: Vec<(Cpu, Seq)>,
}

impl SimulatedRing {
    /// Emits an event, which spills if the ring holds `capacity` events.
    fn emit(&mut self, cpu: usize, capacity: usize) {
        let datagram = datagram(cpu, self.next[cpu]);
        self.next[cpu] = self.next[cpu].wrapping_add(1);
        if self.ring.len() < capacity { &mut self.ring } else { &mut self.queue }.push_back(datagram);
    }

    /// Reads at most `max` events of the ring, then the queue, then checks whether the ring is
    /// empty. `between` are the events that the kernel emits between these steps.
    fn read(&mut self, max: usize, between: &[Vec<(usize, usize)>; 2]) {
        let mut from_ring = Batch::with_metadata(self.ring.len().min(max).max(1), 4096, 0);
        for datagram in (0..max).map_while(|_| self.ring.pop_front()) {
            // The metadata of an event is a copy of its `nlmsg_seq` here.
            let arrival = Arrival { len: datagram.len(), sender: 0 };
            assert!(from_ring.push_with_metadata(&datagram, arrival, &[&datagram[layout::NLMSG_SEQ]]));
        }
        between[0].iter().for_each(|&(cpu, capacity)| self.emit(cpu, capacity));
        let mut queue = Batch::with_capacity(self.queue.len().max(1));
        self.queue.drain(..).for_each(|datagram| assert!(queue.push(&datagram, 0)));
        queue.datagrams().for_each(|datagram| self.merge.add_spilled(&datagram));
        from_ring.datagrams().for_each(|datagram| self.merge.add_from_ring(&datagram));
        between[1].iter().for_each(|&(cpu, capacity)| self.emit(cpu, capacity));
        if self.ring.is_empty() {
            self.merge.set_ring_empty();
        }
        let mut batch = Batch::with_metadata(4, 64, 4);
        while self.merge.take(&mut batch) > 0 {
            assert!(batch.datagrams().all(|datagram| {
                datagram.metadata.is_empty() || datagram.metadata == &datagram.bytes[layout::NLMSG_SEQ]
            }));
            self.read.extend(batch.datagrams().filter_map(|datagram| position(&datagram)));
            batch.clear();
        }
    }
}

fn emissions() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..CPUS, prop_oneof![Just(0), Just(usize::MAX), 0..6usize]), 0..12)
}

proptest! {
    #[test]
    fn the_events_of_each_cpu_are_returned_in_order_and_completely(
        first in prop::array::uniform3(prop_oneof![any::<u32>(), u32::MAX - 9..=u32::MAX]),
        rounds in prop::collection::vec((emissions(), 0..8usize, [emissions(), emissions()]), 1..20),
    ) {
        let mut simulation = SimulatedRing { next: first, ..SimulatedRing::default() };
        for (before, max, between) in rounds {
            before.iter().for_each(|&(cpu, capacity)| simulation.emit(cpu, capacity));
            simulation.read(max, &between);
        }
        simulation.read(usize::MAX, &Default::default());
        prop_assert!(simulation.merge.is_empty());
        for (cpu, &first) in first.iter().enumerate() {
            let seqs = simulation.read.iter().filter(|(of, _)| of.0 as usize == cpu).map(|(_, seq)| seq.0);
            let emitted = simulation.next[cpu].wrapping_sub(first);
            prop_assert_eq!(
                seqs.collect::<Vec<_>>(),
                (0..emitted).map(|n| first.wrapping_add(n)).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn datagrams_without_a_position_are_returned_unchanged() {
    let mut merge = Merge::default();
    let mut queue = Batch::with_capacity(2);
    assert!(queue.push(&datagram(0, 7), 4711) && queue.push(&[1; 5000], 0));
    queue.datagrams().for_each(|datagram| merge.add_spilled(&datagram));
    let mut batch = Batch::with_capacity(4);
    assert_eq!(merge.take(&mut batch), 2);
    let arrivals: Vec<_> =
        batch.datagrams().map(|datagram| (datagram.arrival.sender, datagram.arrival.len)).collect();
    assert_eq!(arrivals, [(4711, EVENT_DATAGRAM_LEN), (0, 5000)]);
    assert!(merge.is_empty());
}
