//! The causes of losses: gaps to numbers of events lost for each cause.

use serde::{Deserialize, Serialize};

use super::Gap;

/// Cause of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LossCause {
    /// Only the gap in the sequence numbers is known.
    Unknown,
    /// The socket's buffer was full (`ENOBUFS`, `SK_MEMINFO_DROPS`).
    Socket,
    /// The recorder's output did not keep up, and its memory for waiting events was full.
    Backpressure,
    /// The kernel had no memory for the message, so the socket never saw it: the numbers have a gap
    /// that the socket's count of drops does not explain.
    KernelMemory,
    /// The BPF ring that is mapped into the recorder was full.
    Ring,
    /// The output could not be written: the disk was full or failed.
    Storage,
    /// An earlier recorder with the same socket received the events and ended before it wrote them.
    Restart,
}

impl LossCause {
    /// All causes, in the order of [`LossByCause`].
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Socket,
        Self::Backpressure,
        Self::KernelMemory,
        Self::Ring,
        Self::Storage,
        Self::Restart,
    ];

    /// Returns the cause's name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Socket => "socket",
            Self::Backpressure => "backpressure",
            Self::KernelMemory => "kernel_memory",
            Self::Ring => "ring",
            Self::Storage => "storage",
            Self::Restart => "restart",
        }
    }
}

/// Numbers of lost events by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LossByCause([u64; LossCause::ALL.len()]);

impl LossByCause {
    /// Adds `count` events to a cause.
    pub fn add(&mut self, cause: LossCause, count: u64) {
        let sum = &mut self.0[cause as usize];
        *sum = sum.saturating_add(count);
    }

    /// Returns the number of events lost for a cause.
    pub fn of(&self, cause: LossCause) -> u64 {
        self.0[cause as usize]
    }

    /// Returns each cause with its number of lost events.
    pub fn by_cause(&self) -> impl Iterator<Item = (LossCause, u64)> {
        LossCause::ALL.into_iter().zip(self.0)
    }

    /// Returns the number of lost events of all causes.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Returns the numbers of events lost since these were `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.0;
        counts.iter_mut().zip(earlier.0).for_each(|(count, earlier)| *count = count.saturating_sub(earlier));
        Self(counts)
    }

    /// Returns the number of events lost before the recorder received them, which is comparable to
    /// the socket's count of drops.
    pub fn in_source(&self) -> u64 {
        let received =
            [LossCause::Backpressure, LossCause::Storage, LossCause::Restart].map(|cause| self.of(cause));
        received.into_iter().fold(self.total(), u64::saturating_sub)
    }
}

/// Attributes gaps to causes by comparing them with the source's own count of drops.
///
/// The sum of each cause is exact. Which of several adjacent gaps had which cause is a guess.
#[derive(Clone, Copy, Debug)]
pub struct LossLedger {
    cause: LossCause,
    drops: Option<u64>,
    /// Number of drops that gaps account for.
    explained: u64,
}

impl Default for LossLedger {
    fn default() -> Self {
        Self::new(LossCause::Socket)
    }
}

impl LossLedger {
    /// Creates a ledger for a source whose drops have this cause.
    pub fn new(cause: LossCause) -> Self {
        Self { cause, drops: None, explained: 0 }
    }

    /// Records that the source has dropped at least `drops` datagrams since it was created.
    pub fn note_drops(&mut self, drops: u64) {
        self.drops = self.drops.max(Some(drops));
    }

    /// Returns the number of drops that the source has counted; `None` if it does not count them.
    pub fn drops(&self) -> Option<u64> {
        self.drops
    }

    /// States that all gaps of the first `drops` drops have been split. The drops that no gap
    /// accounts for have no number.
    pub fn settle(&mut self, drops: u64) {
        self.explained = self.explained.max(drops);
    }

    /// Returns the number of drops that gaps account for, or that have no number.
    pub fn explained(&self) -> u64 {
        self.explained
    }

    /// Splits a gap into causes with counts, whose sum is the gap's count.
    pub fn split(&mut self, gap: &Gap) -> impl Iterator<Item = (LossCause, u64)> + use<> {
        let in_source = gap.count().saturating_sub(gap.discarded);
        // An earlier recorder may have received events that the source did not drop.
        let not_dropped = if gap.follows_restart { LossCause::Restart } else { LossCause::KernelMemory };
        let (dropped, rest) = match self.drops {
            None => (0, LossCause::Unknown),
            Some(drops) => (in_source.min(drops.saturating_sub(self.explained)), not_dropped),
        };
        self.explained += dropped;
        let parts = [
            (LossCause::Backpressure, gap.count() - in_source),
            (self.cause, dropped),
            (rest, in_source - dropped),
        ];
        parts.into_iter().filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests;
