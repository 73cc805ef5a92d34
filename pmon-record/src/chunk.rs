//! What the drain thread hands to the writer thread.

use pmon_core::MonoNs;
use pmon_core::batch::Batch;

/// An event is queued this long after its time at the most, in ns (measured: 80 us). So much before a source is found
/// empty lies the time up to which all events are known to have come.
pub(crate) const SETTLE: u64 = 1_000_000;

/// Datagrams of one or more looks at the source, and what these looks showed besides. Its memory is allocated once.
#[derive(Debug)]
pub struct Chunk {
    /// The datagrams.
    pub batch: Batch,
    /// Places in `batch`, ascending, of exec events whose details nobody has time to read.
    pub busy: Vec<u32>,
    /// How many overruns the source reported before or among these datagrams.
    pub overruns: u64,
    /// All events up to this time have been handed over, with this chunk or before; `None` if that is not known.
    pub drained_at: Option<MonoNs>,
}

impl Chunk {
    /// An empty chunk with room for `frames` datagrams.
    pub fn with_capacity(frames: usize) -> Self {
        Self {
            batch: Batch::with_capacity(frames),
            busy: Vec::with_capacity(frames),
            overruns: 0,
            drained_at: None,
        }
    }

    /// Forgets what it holds, keeps the memory.
    pub fn clear(&mut self) {
        self.batch.clear();
        self.busy.clear();
        self.overruns = 0;
        self.drained_at = None;
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.overruns == 0 && self.drained_at.is_none()
    }
}
