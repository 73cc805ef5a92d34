//! What the drain thread hands to the writer thread.

use std::time::Instant;

use pmon_core::MonoNs;
use pmon_core::accounting::Discarded;
use pmon_core::batch::{Arrival, Batch, SLOT};
use pmon_core::capture::{CpuCounts, Fence};

/// An event is queued this long after its time at the most, in ns (measured: 80 us). So much before a source is found
/// empty lies the time up to which all events are known to have come.
pub(crate) const SETTLE: u64 = 1_000_000;

/// Datagrams of one or more looks at the source, and what these looks showed besides. Its memory is allocated once.
#[derive(Debug)]
pub struct Chunk {
    /// All that was emitted before the heartbeat thread's sign of this number (`assemble::Sign`) has been handed over, with this
    /// chunk or before; 0 if that is not known of any.
    pub signs: u64,
    /// What came before them and was dropped, because no chunk was free.
    pub dropped: Dropped,
    /// The datagrams.
    pub batch: Batch,
    /// Places in `batch`, ascending, of exec events whose details nobody has time to read.
    pub busy: Vec<u32>,
    /// How many overruns the source reported before or among these datagrams.
    pub overruns: u64,
    /// So many datagrams the source has dropped by its own count, as of the last of these datagrams or a little later.
    pub drops: Option<u64>,
    /// All events up to this time have been handed over, with this chunk or before; `None` if that is not known.
    pub drained_at: Option<MonoNs>,
    /// A fence that was heard by the last of these datagrams.
    pub fence: Option<Fence>,
    /// What did not come by the ring until now, if there is one: at the end of a recording.
    pub ring: Option<Vec<CpuCounts>>,
    /// When the first of these datagrams was taken from the source,
    pub taken_at: Instant,
    /// and when they were handed over.
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
        Self::with_annexes(frames, 0, 0)
    }

    /// The same, with room for annexes as [`Batch::with_annexes`] has it.
    pub fn with_annexes(frames: usize, bytes: usize, largest: usize) -> Self {
        Self {
            signs: 0,
            dropped: Dropped::default(),
            batch: Batch::with_annexes(frames, bytes, largest),
            busy: Vec::with_capacity(frames),
            overruns: 0,
            drops: None,
            drained_at: None,
            fence: None,
            ring: None,
            taken_at: Instant::now(),
            handed_at: Instant::now(),
        }
    }

    /// Bytes that such a chunk takes, with its places in the queues.
    pub(crate) fn bytes(frames: usize, annexes: usize) -> usize {
        let per_frame = SLOT + size_of::<Arrival>() + size_of::<usize>() + size_of::<u32>();
        frames * per_frame + annexes + 3 * size_of::<Self>()
    }

    /// Forgets what it holds, keeps the memory.
    pub fn clear(&mut self) {
        self.signs = 0;
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
            && self.signs == 0
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
