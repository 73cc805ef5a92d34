//! The signal that killed a process, and the process that sent it.

use pmon_core::MonoNs;
use pmon_core::capture::FatalSignal;

use super::ProcessId;

/// The signal that killed a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifeSignal {
    /// What the recorder observed.
    pub signal: FatalSignal,
    /// Identity of the sender, if the recording has the process.
    pub sender_id: Option<ProcessId>,
}

/// Number of ended processes that are remembered as possible senders, by process ID modulo this
/// number.
const RECENT: usize = 1024;

/// Processes that ended a short time ago. A process such as `kill(1)` often ends before the one
/// that it kills.
#[derive(Debug, Default)]
pub(super) struct RecentlyEnded(Vec<Option<EndedProcess>>);

/// A process that has ended, and its start as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedProcess {
    pub(super) pid: u32,
    pub(super) forked: Option<MonoNs>,
    pub(super) start_ticks: Option<u64>,
    pub(super) id: ProcessId,
}

impl RecentlyEnded {
    /// Remembers a process.
    pub(super) fn add(&mut self, process: EndedProcess) {
        self.0.resize(RECENT, None);
        self.0[process.pid as usize % RECENT] = Some(process);
    }

    /// Returns the last process that had this ID.
    pub(super) fn find(&self, pid: u32) -> Option<EndedProcess> {
        self.0.get(pid as usize % RECENT).copied().flatten().filter(|process| process.pid == pid)
    }
}
