//! Readings of the kernel's fork counter.

use serde::{Deserialize, Serialize};

use crate::ids::MonoNs;

/// A reading of the kernel's fork counter, `processes` in `/proc/stat` (`proc_stat(5)`).
///
/// The counter includes every new process and thread of the machine, even while no process listens
/// for events. The kernel increments it shortly before it emits the fork event. If the kernel
/// emitted all events, the forks counted between two readings equal the fork events in between,
/// except for tasks between these two steps during a reading. Each such task was running or waiting
/// for a CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForkReading {
    /// The counter was read.
    Counted(ForkCount),
    /// The counter cannot be read, so it proves nothing.
    Absent {
        /// The reason why the counter cannot be read.
        why: String,
    },
}

/// The values of one [`ForkReading`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkCount {
    /// Start of the reading; the counter was read at or after this time.
    pub from: MonoNs,
    /// End of the reading; the counter was read at or before this time.
    pub until: MonoNs,
    /// Forks since boot; on 32-bit machines, the counter wraps at 2^32.
    pub forks: u64,
    /// Tasks running or waiting for a CPU, including the reader: `procs_running` in `/proc/stat`.
    pub running: u64,
}

impl ForkCount {
    /// Returns the forks since an earlier reading, including across the wrap of a 32-bit counter;
    /// `None` if the counter was reset.
    pub fn since(&self, earlier: &Self) -> Option<u64> {
        const WRAP: u64 = 1 << 32;
        match self.forks.checked_sub(earlier.forks) {
            Some(forks) => Some(forks),
            None if earlier.forks < WRAP => {
                Some(self.forks + WRAP - earlier.forks).filter(|&forks| forks < WRAP / 2)
            }
            None => None,
        }
    }
}
