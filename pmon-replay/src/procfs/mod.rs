//! The processes of a capture, as Linux 6.18 shows them in `/proc`.
//!
//! A process that the recorder found gone when it looked at its exec is gone here from then on: no other reader would have found it.
//!
//! What is not recorded otherwise is shown as a kernel shows what it may not or cannot tell: ids of users as 65534 (`overflowuid`), ids of processes as
//! 0 (those of another PID namespace), texts as empty, links not at all, and what is counted as 0. There is no such thing for a name: a
//! process whose exec left nothing to be read is called `?`, since its old name would be wrong, and readers of `stat` rely on one.

mod pid_directory;
mod pid_stat;
mod pid_status;
mod task_view;
#[cfg(test)]
mod tests;

use std::time::Duration;

use pmon_analysis::process::MAX_BYTES;
use pmon_analysis::{LiveProcess, OwnedRecord, ProcessTable};
use pmon_core::capture::{ClockAnchor, Meta};
use pmon_core::{MonoNs, Tgid, Tid};
use pmon_interpose::{ProcEntry, ProcessView, TaskInfo};

use self::task_view::{Kind, Shown};

/// ProcessTable, and the host that they are of.
pub(crate) struct Procfs {
    meta: Meta,
    processes: ProcessTable,
    /// The clocks, as of the time that the program is at.
    anchor: ClockAnchor,
    now: MonoNs,
}

impl Procfs {
    /// Those of a capture with that header, as far as it is known.
    pub(crate) fn new(meta: Meta) -> Self {
        let processes = ProcessTable::detailed(&meta);
        Self { processes, anchor: meta.start, now: meta.start.mono, meta }
    }

    /// Deducts twice `reader_bytes` from the memory budget, for the reader of the capture.
    pub(crate) fn limit(&mut self, reader_bytes: usize) {
        self.processes.set_memory_limit(MAX_BYTES.saturating_sub(2 * reader_bytes));
    }

    /// Returns the number of incomplete items: see [`ProcessTable::incomplete`].
    pub(crate) fn incomplete(&self) -> u64 {
        self.processes.incomplete()
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// From now on, the processes are as of that.
    pub(crate) fn apply(&mut self, record: &OwnedRecord) {
        self.processes.apply(record);
        match record {
            OwnedRecord::Event(item) => {
                self.now = self.now.max(item.event.map_or(MonoNs(0), |event| event.time));
            }
            OwnedRecord::Clock(anchor) => self.anchor = *anchor,
            _ => {}
        }
    }

    fn life(&self, id: u32) -> Option<&LiveProcess> {
        let life =
            self.processes.live_process(Tgid(id)).or_else(|| self.processes.process_of_thread(Tid(id)));
        life.filter(|life| !life.gone_at_exec)
    }

    /// The clocks, if the capture tells of them at all.
    fn clocks(&self) -> Option<ClockAnchor> {
        (self.anchor != ClockAnchor::default()).then_some(self.anchor)
    }
}

impl ProcessView for Procfs {
    fn pids(&self) -> Vec<u32> {
        self.processes.live_processes().filter(|life| !life.gone_at_exec).map(|life| life.pid.0).collect()
    }

    fn task(&self, id: u32) -> Option<TaskInfo> {
        let life = self.life(id)?;
        let shown = Shown::of(life, id, &self.meta);
        Some(TaskInfo {
            version: life.version,
            owner: (shown.uid().1, shown.gid().1),
            group: shown.group(),
            session: shown.session(),
            forked: life.start.map(|start| start.0),
            is_zombie: shown.kind() == Kind::Zombie,
        })
    }

    fn entries(&self, id: u32) -> Vec<(String, ProcEntry)> {
        let Some(life) = self.life(id) else { return Vec::new() };
        let mut entries = Vec::new();
        pid_directory::process(&Shown::of(life, id, &self.meta), &mut entries);
        entries.push(("task".into(), ProcEntry::Directory));
        for tid in std::iter::once(life.pid.0).chain(life.threads.keys().map(|tid| tid.0)) {
            pid_directory::thread(&Shown::of(life, tid, &self.meta), &mut entries);
        }
        entries
    }

    fn uptime(&self) -> Option<Duration> {
        let clocks = self.clocks()?;
        let since_boot = i128::from(clocks.boot_ns) + i128::from(self.now.0) - i128::from(clocks.mono.0);
        Some(Duration::from_nanos(u64::try_from(since_boot.max(0)).ok()?))
    }

    fn boot_time(&self) -> Option<u64> {
        let clocks = self.clocks()?;
        let started = i128::from(clocks.real_ns) - i128::from(clocks.boot_ns);
        u64::try_from(started.div_euclid(1_000_000_000)).ok()
    }
}
