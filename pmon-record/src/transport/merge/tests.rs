use std::collections::VecDeque;

use pmon_core::wire::{EVENT_DATAGRAM_LEN, EventBody, layout};
use pmon_core::{MonoNs, Task};
use proptest::prelude::*;

use super::*;

const CPUS: usize = 3;

fn frame(cpu: usize, seq: u32) -> [u8; EVENT_DATAGRAM_LEN] {
    let body = EventBody::Sid { task: Task::new(1, 1) };
    Event { time: MonoNs(0), seq: Seq(seq), cpu: Cpu(cpu as u32), body }.encode(ByteOrder::NATIVE).unwrap()
}

/// A kernel with a ring and a queue, and the reader of both.
#[derive(Default)]
struct Host {
    next: [u32; CPUS],
    ring: VecDeque<[u8; EVENT_DATAGRAM_LEN]>,
    queue: VecDeque<[u8; EVENT_DATAGRAM_LEN]>,
    merge: Merge,
    read: Vec<(Cpu, Seq)>,
}

impl Host {
    fn emit(&mut self, cpu: usize, room: usize) {
        let frame = frame(cpu, self.next[cpu]);
        self.next[cpu] = self.next[cpu].wrapping_add(1);
        if self.ring.len() < room { &mut self.ring } else { &mut self.queue }.push_back(frame);
    }

    /// Reads what can be read of the ring, at most so much, then the queue, then looks whether the ring is empty; a kernel emits
    /// between these.
    fn read(&mut self, most: usize, between: &[Vec<(usize, usize)>; 2]) {
        let mut frames = Batch::with_metadata(self.ring.len().min(most).max(1), 4096, 0);
        for frame in (0..most).map_while(|_| self.ring.pop_front()) {
            // What is known besides of an event by the ring: here its bytes 8 to 12, which are its number.
            let arrival = batch::Arrival { len: frame.len(), sender: 0 };
            assert!(frames.push_with_metadata(&frame, arrival, &[&frame[layout::NLMSG_SEQ]]));
        }
        between[0].iter().for_each(|&(cpu, room)| self.emit(cpu, room));
        let mut queue = Batch::with_capacity(self.queue.len().max(1));
        self.queue.drain(..).for_each(|frame| assert!(queue.push(&frame, 0)));
        queue.datagrams().for_each(|frame| self.merge.spill(&frame));
        frames.datagrams().for_each(|frame| self.merge.ring(&frame));
        between[1].iter().for_each(|&(cpu, room)| self.emit(cpu, room));
        if self.ring.is_empty() {
            self.merge.ring_is_empty();
        }
        let mut batch = Batch::with_metadata(4, 64, 4);
        while self.merge.take(&mut batch) > 0 {
            assert!(
                batch
                    .datagrams()
                    .all(|frame| frame.metadata.is_empty()
                        || frame.metadata == &frame.bytes[layout::NLMSG_SEQ])
            );
            self.read.extend(batch.datagrams().filter_map(|frame| number(&frame)));
            batch.clear();
        }
    }
}

fn emissions() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..CPUS, prop_oneof![Just(0), Just(usize::MAX), 0..6usize]), 0..12)
}

proptest! {
    #[test]
    fn each_cpus_events_come_in_their_order_and_none_is_kept(
        first in prop::array::uniform3(prop_oneof![any::<u32>(), u32::MAX - 9..=u32::MAX]),
        rounds in prop::collection::vec((emissions(), 0..8usize, [emissions(), emissions()]), 1..20),
    ) {
        let mut host = Host { next: first, ..Host::default() };
        for (before, most, between) in rounds {
            before.iter().for_each(|&(cpu, room)| host.emit(cpu, room));
            host.read(most, &between);
        }
        host.read(usize::MAX, &Default::default());
        prop_assert!(host.merge.is_empty());
        for (cpu, &first) in first.iter().enumerate() {
            let seqs = host.read.iter().filter(|(of, _)| of.0 as usize == cpu).map(|(_, seq)| seq.0);
            let emitted = host.next[cpu].wrapping_sub(first);
            prop_assert_eq!(
                seqs.collect::<Vec<_>>(),
                (0..emitted).map(|n| first.wrapping_add(n)).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn what_has_no_place_comes_as_it_is() {
    let mut merge = Merge::default();
    let mut queue = Batch::with_capacity(2);
    assert!(queue.push(&frame(0, 7), 4711) && queue.push(&[1; 5000], 0));
    queue.datagrams().for_each(|frame| merge.spill(&frame));
    let mut batch = Batch::with_capacity(4);
    assert_eq!(merge.take(&mut batch), 2);
    let arrivals: Vec<_> = batch.datagrams().map(|frame| (frame.arrival.sender, frame.arrival.len)).collect();
    assert_eq!(arrivals, [(4711, EVENT_DATAGRAM_LEN), (0, 5000)]);
    assert!(merge.is_empty());
}
