//! Chunks of datagrams, which the drain thread hands to the writer thread.

use std::time::Instant;

use pmon_core::MonoNs;
use pmon_core::accounting::Discarded;
use pmon_core::batch::{Arrival, Batch, SLOT_LEN};
use pmon_core::capture::{CpuCounts, Fence, RecordedDatagram};
use pmon_core::wire::{ByteOrder, Event, Message, messages};

use crate::transport::ring::entry::excluded;

/// Maximum time in ns between an event's timestamp and its arrival in the source (measured: 80 us).
///
/// When the source is found empty, all events that are older than this have been received.
pub(crate) const SETTLE: u64 = 1_000_000;

/// Bytes of memory of one datagram in a chunk: its slot, and its entries in a [`Batch`] and a
/// [`Chunk`].
pub(crate) const BYTES_PER_DATAGRAM: usize =
    SLOT_LEN + size_of::<Arrival>() + size_of::<usize>() + size_of::<u32>();

/// Datagrams of one or more receptions, and what these receptions revealed.
///
/// The memory is allocated once.
#[derive(Debug)]
pub struct Chunk {
    /// Number of completed checkpoints ([`crate::assemble::Checkpoint`]). Every event before them
    /// is in this chunk or an earlier one, or lost.
    pub checkpoints: u64,
    /// Datagrams that arrived before these and were dropped, because no chunk was free.
    pub dropped: Dropped,
    /// The datagrams.
    pub batch: Batch,
    /// Indices in `batch`, ascending, of exec events whose details cannot be read in time.
    pub busy: Vec<u32>,
    /// Number of overruns that the source reported before or among these datagrams.
    pub overruns: u64,
    /// The source's own count of dropped datagrams, as of the last of these datagrams or a little
    /// later.
    pub drops: Option<u64>,
    /// Time up to which all events are in this chunk or an earlier one; `None` if unknown.
    pub drained_at: Option<MonoNs>,
    /// A fence whose events have been received with the last of these datagrams.
    pub fence: Option<Fence>,
    /// Numbers of events that did not come by the ring, at the end of a recording with a ring.
    pub ring: Option<Vec<CpuCounts>>,
    /// Time at which the first of these datagrams was received.
    pub received_at: Instant,
    /// Time at which the chunk was handed over to the writer thread.
    pub handed_at: Instant,
}

/// Datagrams that were received and dropped.
#[derive(Debug, Default)]
pub struct Dropped {
    /// The dropped events, one entry per CPU.
    pub events: Vec<Discarded>,
    /// Number of datagrams that user space sent.
    pub rejected: u64,
    /// Number of datagrams without a readable event.
    pub malformed: u64,
}

impl Chunk {
    /// Creates an empty chunk with room for `datagrams` datagrams.
    pub fn with_capacity(datagrams: usize) -> Self {
        Self::with_metadata(datagrams, 0, 0)
    }

    /// Creates an empty chunk with room for `datagrams` datagrams and for `bytes` bytes of
    /// metadata, of which one datagram has at most `largest`; see [`Batch::with_metadata`].
    pub fn with_metadata(datagrams: usize, bytes: usize, largest: usize) -> Self {
        Self {
            checkpoints: 0,
            dropped: Dropped::default(),
            batch: Batch::with_metadata(datagrams, bytes, largest),
            busy: Vec::with_capacity(datagrams),
            overruns: 0,
            drops: None,
            drained_at: None,
            fence: None,
            ring: None,
            received_at: Instant::now(),
            handed_at: Instant::now(),
        }
    }

    /// Empties the chunk and keeps its memory.
    pub fn clear(&mut self) {
        self.checkpoints = 0;
        self.dropped.clear();
        self.batch.clear();
        self.busy.clear();
        self.overruns = 0;
        self.drops = None;
        self.drained_at = None;
        self.fence = None;
        self.ring = None;
    }

    /// Whether the chunk holds nothing for the writer thread.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
            && self.overruns == 0
            && self.drained_at.is_none()
            && self.fence.is_none()
            && self.ring.is_none()
            && self.checkpoints == 0
            && self.dropped.is_empty()
    }
}

impl Dropped {
    /// Whether no datagram was dropped.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.rejected == 0 && self.malformed == 0
    }

    pub(crate) fn clear(&mut self) {
        self.events.clear();
        (self.rejected, self.malformed) = (0, 0);
    }

    /// Counts the datagrams of a batch as dropped.
    pub(crate) fn add(&mut self, batch: &Batch) {
        for datagram in batch.datagrams() {
            if datagram.arrival.sender != 0 {
                self.rejected += 1;
                continue;
            }
            let is_malformed = RecordedDatagram::Raw(datagram.bytes).is_malformed(ByteOrder::NATIVE);
            self.malformed += u64::from(is_malformed);
            for message in messages(datagram.bytes, ByteOrder::NATIVE) {
                if let Ok(Message::Event(event)) = message {
                    self.add_event(&event, excluded(&datagram));
                }
            }
        }
    }

    fn add_event(&mut self, event: &Event, excluded: u32) {
        let at = (event.seq, event.time);
        match self.events.iter_mut().find(|dropped| dropped.cpu == event.cpu) {
            Some(dropped) => {
                (dropped.last, dropped.excluded) = (at, excluded);
                dropped.count += 1;
            }
            None => {
                let (cpu, excluded_before) = (event.cpu, excluded);
                self.events.push(Discarded { cpu, first: at, last: at, count: 1, excluded_before, excluded });
            }
        }
    }
}
