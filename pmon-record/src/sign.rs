//! What the heartbeat thread tells the writer thread: what it has done, to be held against what came.

use pmon_core::capture::Forks;
use pmon_core::{Cpu, MonoNs};

/// See the module. Each has a number, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// An event of the recorder's own was emitted.
    Heartbeat(Heartbeat),
    /// The kernel's count of forks was read.
    Forks {
        /// What it was.
        forks: Forks,
        /// Whether every CPU has emitted an event since the reading before: then each loss of before shows.
        fenced: bool,
    },
}

/// An event of the recorder's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// It was not emitted before,
    pub began: MonoNs,
    /// and not after this time.
    pub ended: MonoNs,
    /// The CPU that emitted it.
    pub cpu: Cpu,
}

impl Heartbeat {
    /// Whether an event of this time can be it.
    pub(crate) fn is_at(&self, time: MonoNs) -> bool {
        (self.began..=self.ended).contains(&time)
    }
}
