//! Merges two streams of one source: events from the ring, and events that spilled into the
//! socket's queue because the ring was full.
//!
//! Each event of a CPU is in one of the two streams, and each stream has the CPU's order. So a
//! spilled event goes before the first event of its CPU in the ring with a higher number. Without
//! one, it waits until the ring is empty: all earlier events of the ring have been received then.

use std::collections::{BTreeMap, VecDeque};

use pmon_core::batch::{self, Batch};
use pmon_core::wire::{ByteOrder, Event};
use pmon_core::{Cpu, Seq};

/// Merges the events of the ring and the spilled ones, by CPU and number.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    spilled: BTreeMap<Cpu, VecDeque<(Seq, Datagram)>>,
    /// Datagrams in the final order.
    ready: VecDeque<Datagram>,
}

/// A datagram that owns its bytes, and its annex.
#[derive(Debug)]
struct Datagram {
    bytes: Box<[u8]>,
    arrival: batch::Arrival,
    metadata: Box<[u8]>,
}

impl Datagram {
    fn new(frame: &batch::Datagram<'_>) -> Self {
        Self { bytes: frame.bytes.into(), arrival: frame.arrival, metadata: frame.metadata.into() }
    }
}

impl Merge {
    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.spilled.is_empty()
    }

    /// Takes what was found in the queue, after the ring was read.
    pub(crate) fn spill(&mut self, frame: &batch::Datagram<'_>) {
        let datagram = Datagram::new(frame);
        // What user space sent, and what is no event, has no place that it must have.
        let event = Event::decode(frame.bytes, ByteOrder::NATIVE).ok().filter(|_| frame.arrival.sender == 0);
        match event {
            Some(event) => self.spilled.entry(event.cpu).or_default().push_back((event.seq, datagram)),
            None => self.ready.push_back(datagram),
        }
    }

    /// Takes the ring's next frame, read before what was spilled since.
    pub(crate) fn ring(&mut self, frame: &batch::Datagram<'_>) {
        if let Some((cpu, seq)) = number(frame)
            && let Some(spilled) = self.spilled.get_mut(&cpu)
        {
            let is_before = |at: Seq| (seq.0.wrapping_sub(at.0) as i32) > 0;
            while let Some((_, datagram)) = spilled.pop_front_if(|(at, _)| is_before(*at)) {
                self.ready.push_back(datagram);
            }
            if spilled.is_empty() {
                self.spilled.remove(&cpu);
            }
        }
        self.ready.push_back(Datagram::new(frame));
    }

    /// The ring was seen empty after all that has spilled was found: nothing more of before can come.
    pub(crate) fn ring_is_empty(&mut self) {
        let spilled = std::mem::take(&mut self.spilled).into_values().flatten();
        self.ready.extend(spilled.map(|(_, datagram)| datagram));
    }

    /// Appends what is in order to `batch`, as much as fits. Returns how many datagrams.
    pub(crate) fn take(&mut self, batch: &mut Batch) -> usize {
        let mut taken = 0;
        while !batch.is_full()
            && let Some(Datagram { bytes, arrival, metadata }) = self.ready.pop_front()
        {
            taken += usize::from(batch.push_with_metadata(&bytes, arrival, &[&metadata]));
        }
        taken
    }
}

/// The CPU and the number of an event in its usual form.
fn number(frame: &batch::Datagram<'_>) -> Option<(Cpu, Seq)> {
    let event = Event::decode(frame.bytes, ByteOrder::NATIVE).ok()?;
    Some((event.cpu, event.seq))
}

#[cfg(test)]
mod tests;
