//! The parents that exit events name, looked up by process ID and time.

use pmon_core::capture::Record;
use pmon_core::wire::{ByteOrder, EventBody};
use pmon_core::{MonoNs, Tgid};

/// Maximum number of exits kept; the parents of processes that exit later are unknown.
const MAX_EXITS: usize = 1 << 20;

/// An exit of a process.
#[derive(Clone, Copy, Debug)]
struct ExitedProcess {
    time: MonoNs,
    pid: Tgid,
    parent: Tgid,
}

/// Exit times and parents of the processes in a capture.
#[derive(Clone, Debug, Default)]
pub struct ExitIndex {
    /// Exits, sorted by process ID and time once collection is complete.
    all: Vec<ExitedProcess>,
}

impl ExitIndex {
    /// Applies the next record of a capture whose datagrams have the byte order `order`.
    pub fn count(&mut self, record: &Record<'_>, order: ByteOrder) {
        let Record::Event(frame, _) = record else { return };
        if self.all.len() >= MAX_EXITS {
            return;
        }
        if let Some(event) = frame.event(order)
            && let EventBody::Exit { task, parent: Some(parent), .. } = event.body
            && task.is_leader()
        {
            self.all.push(ExitedProcess { time: event.time, pid: task.tgid, parent: parent.tgid });
        }
    }

    pub(super) fn sorted(mut self) -> Self {
        self.all.sort_unstable_by_key(|exit| (exit.pid, exit.time));
        self
    }

    /// Returns the parent named by the next exit of the process with this ID at this time.
    pub(super) fn parent_of(&self, pid: Tgid, time: MonoNs) -> Option<Tgid> {
        let at = self.all.partition_point(|exit| (exit.pid, exit.time) < (pid, time));
        self.all.get(at).filter(|exit| exit.pid == pid).map(|exit| exit.parent)
    }
}
