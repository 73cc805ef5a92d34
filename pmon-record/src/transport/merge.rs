//! Merges two streams of one source: events from the ring, and events that spilled into the
//! socket's queue because the ring was full.
//!
//! Each event of a CPU is in one of the two streams, and each stream has the CPU's order. So a
//! spilled event goes before the first event of its CPU in the ring with a higher number. Without
//! one, it waits until the ring is empty: all earlier events of the ring have been received then.

use std::collections::{BTreeMap, VecDeque};

use pmon_core::batch::{Arrival, Batch, Datagram};
use pmon_core::wire::{ByteOrder, Event};
use pmon_core::{Cpu, Seq};

/// Merges the events of the ring and the spilled ones, by CPU and sequence number.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    spilled: BTreeMap<Cpu, VecDeque<(Seq, OwnedDatagram)>>,
    /// Datagrams in the final order.
    ready: VecDeque<OwnedDatagram>,
}

/// A datagram that owns its bytes and its metadata.
#[derive(Debug)]
struct OwnedDatagram {
    bytes: Box<[u8]>,
    arrival: Arrival,
    metadata: Box<[u8]>,
}

impl OwnedDatagram {
    fn new(datagram: &Datagram<'_>) -> Self {
        let Datagram { bytes, arrival, metadata } = *datagram;
        Self { bytes: bytes.into(), arrival, metadata: metadata.into() }
    }
}

impl Merge {
    /// Whether no datagram waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.spilled.is_empty()
    }

    /// Adds a datagram from the socket's queue, which must be read after the ring.
    pub(crate) fn add_spilled(&mut self, datagram: &Datagram<'_>) {
        let owned = OwnedDatagram::new(datagram);
        // Datagrams from user space, and those without an event, have no position in the order.
        match position(datagram).filter(|_| datagram.arrival.sender == 0) {
            Some((cpu, seq)) => self.spilled.entry(cpu).or_default().push_back((seq, owned)),
            None => self.ready.push_back(owned),
        }
    }

    /// Adds the next datagram of the ring, which must be read before the last spilled ones.
    pub(crate) fn add_from_ring(&mut self, datagram: &Datagram<'_>) {
        if let Some((cpu, seq)) = position(datagram)
            && let Some(spilled) = self.spilled.get_mut(&cpu)
        {
            let is_before = |other: Seq| (seq.0.wrapping_sub(other.0) as i32) > 0;
            while let Some((_, earlier)) = spilled.pop_front_if(|(other, _)| is_before(*other)) {
                self.ready.push_back(earlier);
            }
            if spilled.is_empty() {
                self.spilled.remove(&cpu);
            }
        }
        self.ready.push_back(OwnedDatagram::new(datagram));
    }

    /// Handles that the ring was found empty after all spilled datagrams were added, so the ring
    /// can hold no earlier event.
    pub(crate) fn set_ring_empty(&mut self) {
        let spilled = std::mem::take(&mut self.spilled).into_values().flatten();
        self.ready.extend(spilled.map(|(_, datagram)| datagram));
    }

    /// Appends datagrams in the final order to `batch`, as many as fit. Returns their number.
    pub(crate) fn take(&mut self, batch: &mut Batch) -> usize {
        let mut taken = 0;
        while !batch.is_full()
            && let Some(OwnedDatagram { bytes, arrival, metadata }) = self.ready.pop_front()
        {
            taken += usize::from(batch.push_with_metadata(&bytes, arrival, &[&metadata]));
        }
        taken
    }
}

/// Returns the CPU and the sequence number of an event in its usual form.
fn position(datagram: &Datagram<'_>) -> Option<(Cpu, Seq)> {
    let event = Event::decode(datagram.bytes, ByteOrder::NATIVE).ok()?;
    Some((event.cpu, event.seq))
}

#[cfg(test)]
mod tests;
