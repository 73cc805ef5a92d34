//! Chunks of datagrams, which the drain thread hands to the writer thread.

use std::time::Instant;

use pmon_core::MonoNs;
use pmon_core::accounting::Discarded;
use pmon_core::batch::{Arrival, Batch, SLOT_LEN};
use pmon_core::capture::{CpuCounts, Fence};

/// Maximum time in ns between an event's timestamp and its arrival in the source (measured: 80 us).
///
/// When the source is found empty, all events that are older than this have been received.
pub(crate) const SETTLE: u64 = 1_000_000;

/// Datagrams of one or more receptions, and what these receptions revealed. The memory is allocated
/// once.
#[derive(Debug)]
pub struct Chunk {
    /// Number of completed checkpoints ([`crate::pipeline::assemble::Checkpoint`]). Every event before them
    /// is in this chunk or an earlier one, or lost.
    pub checkpoints: u64,
    /// Datagrams that came before these and were dropped, because no chunk was free.
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
    /// All events up to this time have been handed over, with this chunk or before; `None` if that is not known.
    pub drained_at: Option<MonoNs>,
    /// A fence whose events have been received with the last of these datagrams.
    pub fence: Option<Fence>,
    /// What did not come by the ring until now, if there is one: at the end of a recording.
    pub ring: Option<Vec<CpuCounts>>,
    /// Time at which the first of these datagrams was received.
    pub received_at: Instant,
    /// Time at which these datagrams were handed over.
    pub handed_at: Instant,
}

/// Datagrams that were received and dropped.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Their events, one entry a CPU.
    pub events: Vec<Discarded>,
    /// Those that user space sent.
    pub rejected: u64,
    /// Those without an event that can be read.
    pub malformed: u64,
}

impl Chunk {
    /// An empty chunk with room for `frames` datagrams.
    pub fn with_capacity(frames: usize) -> Self {
        Self::with_metadata(frames, 0, 0)
    }

    /// The same, with room for annexes as [`Batch::with_metadata`] has it.
    pub fn with_metadata(frames: usize, bytes: usize, largest: usize) -> Self {
        Self {
            checkpoints: 0,
            dropped: Dropped::default(),
            batch: Batch::with_metadata(frames, bytes, largest),
            busy: Vec::with_capacity(frames),
            overruns: 0,
            drops: None,
            drained_at: None,
            fence: None,
            ring: None,
            received_at: Instant::now(),
            handed_at: Instant::now(),
        }
    }

    /// Bytes of memory of such a chunk, including its entries in the queues.
    pub(crate) fn bytes(frames: usize, annexes: usize) -> usize {
        let per_frame = SLOT_LEN + size_of::<Arrival>() + size_of::<usize>() + size_of::<u32>();
        frames * per_frame + annexes + 3 * size_of::<Self>()
    }

    /// Forgets what it holds, keeps the memory.
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

    /// Whether it says nothing at all.
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
    /// Whether nothing was dropped.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.rejected == 0 && self.malformed == 0
    }

    pub(crate) fn clear(&mut self) {
        self.events.clear();
        (self.rejected, self.malformed) = (0, 0);
    }
}
