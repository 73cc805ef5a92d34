//! Checkpoints: the numbered actions of the heartbeat thread, for comparison with the received
//! events.

use pmon_core::capture::{ForkReading, UnreachedCpu};
use pmon_core::{Cpu, MonoNs};

/// A step of the heartbeat thread. Checkpoints are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// The thread emitted a heartbeat.
    Heartbeat(Heartbeat),
    /// The thread read the kernel's count of forks.
    Forks {
        /// The count, or why it cannot be read.
        forks: ForkReading,
        /// Whether every CPU has emitted an event since the last reading, which reveals all earlier
        /// losses.
        fenced: bool,
    },
    /// Every CPU emitted an event, so that the recording can be divided.
    Fence(DivisionFence),
}

/// A fence before a division of the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DivisionFence {
    /// Time before the first event was emitted.
    pub began: MonoNs,
    /// The CPUs that emitted an event.
    pub reached: Vec<Cpu>,
    /// The CPUs that could not emit an event.
    pub unreached: Vec<UnreachedCpu>,
}

/// A self-generated event that must be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Time before the event was emitted.
    pub began: MonoNs,
    /// Time after the event was emitted.
    pub ended: MonoNs,
    /// The CPU that emitted the event.
    pub cpu: Cpu,
}

impl Heartbeat {
    /// Whether an event of this time can be the heartbeat.
    pub(crate) fn is_at(&self, time: MonoNs) -> bool {
        (self.began..=self.ended).contains(&time)
    }
}
