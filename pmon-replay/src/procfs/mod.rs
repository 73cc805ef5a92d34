//! The `/proc` directory that a program under test sees: the processes of a capture, as Linux 6.18
//! shows them.
//!
//! * `pid_directory.rs` lists the files in `/proc/<pid>` and its `task` directory.
//! * `pid_stat.rs` and `pid_status.rs` write `/proc/<pid>/stat` and `/proc/<pid>/status`.
//!
//! A process that the recorder did not find after its exec does not exist here from then on: no
//! other reader of `/proc` would have found it.
//!
//! Data that are not recorded appear as the kernel shows data that it cannot show: user and group
//! IDs as 65534 (`overflowuid`), process IDs as 0 (as those of another PID namespace), texts as
//! empty, symbolic links as missing, and counters as 0. The kernel has no such value for a name: a
//! process whose exec has no details is called `?`, because its old name would be wrong, and
//! readers of `stat` need one.

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
use pmon_interpose::{ClockTimes, ProcEntry, ProcEntryKind, ProcessView, TaskInfo};

use self::pid_directory::ProcDirectory;
use self::task_view::{TaskKind, TaskView};

/// The processes of a capture, and the machine of the recording.
pub(crate) struct CaptureProcfs {
    meta: Meta,
    processes: ProcessTable,
    /// The latest clock reading.
    anchor: ClockAnchor,
    now: MonoNs,
}

impl CaptureProcfs {
    /// Creates an empty table for a capture with this metadata.
    pub(crate) fn new(meta: Meta) -> Self {
        let processes = ProcessTable::detailed(&meta);
        Self { processes, anchor: meta.start, now: meta.start.mono, meta }
    }

    /// Deducts twice `reader_bytes` from the memory budget, for the reader of the capture.
    pub(crate) fn limit_memory(&mut self, reader_bytes: usize) {
        self.processes.set_memory_limit(MAX_BYTES.saturating_sub(2 * reader_bytes));
    }

    /// Returns the number of incomplete items: see [`ProcessTable::incomplete`].
    pub(crate) fn incomplete(&self) -> u64 {
        self.processes.incomplete()
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Applies the next record.
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

    fn process(&self, id: u32) -> Option<&LiveProcess> {
        let process =
            self.processes.live_process(Tgid(id)).or_else(|| self.processes.process_of_thread(Tid(id)));
        process.filter(|process| !process.gone_at_exec)
    }

    /// Returns the task and the directory to which a path in the directory of a process belongs,
    /// and the name in that directory; no name if the path is the directory of a thread.
    fn locate<'a>(
        &'a self,
        process: &'a LiveProcess,
        id: u32,
        path: &'a str,
    ) -> Option<(TaskView<'a>, ProcDirectory, Option<&'a str>)> {
        let (task, directory, name) = if let Some(below) = path.strip_prefix("task/") {
            let (tid, name) = match below.split_once('/') {
                Some((tid, name)) => (tid, Some(name)),
                None => (below, None),
            };
            let tid = tid.parse().ok().filter(|id: &u32| id.to_string() == tid)?;
            if tid != process.pid.0 && !process.threads.contains_key(&Tid(tid)) {
                return None;
            }
            (TaskView::new(process, tid, &self.meta), ProcDirectory::Thread, name)
        } else {
            let task = TaskView::new(process, id, &self.meta);
            match path.strip_prefix("ns/") {
                Some(name) => (task, ProcDirectory::Namespaces, Some(name)),
                None => (task, ProcDirectory::Process, Some(path)),
            }
        };
        Some((task, directory, name))
    }

    /// Returns the latest clock reading, if the capture has one.
    fn anchor(&self) -> Option<ClockAnchor> {
        (self.anchor != ClockAnchor::default()).then_some(self.anchor)
    }
}

/// Returns the ids of all threads of a process, that of the first one first.
fn thread_ids(process: &LiveProcess) -> impl Iterator<Item = u32> {
    std::iter::once(process.pid.0).chain(process.threads.keys().map(|tid| tid.0))
}

impl ProcessView for CaptureProcfs {
    fn pids(&self) -> Vec<u32> {
        self.processes
            .live_processes()
            .filter(|process| !process.gone_at_exec)
            .map(|process| process.pid.0)
            .collect()
    }

    fn task(&self, id: u32) -> Option<TaskInfo> {
        let process = self.process(id)?;
        let view = TaskView::new(process, id, &self.meta);
        Some(TaskInfo {
            version: process.version,
            owner: (view.uid().1, view.gid().1),
            group: view.group(),
            session: view.session(),
            forked: process.start.map(|start| start.0),
            is_zombie: view.kind() == TaskKind::Zombie,
        })
    }

    fn entries(&self, id: u32) -> Vec<(String, ProcEntry)> {
        let Some(process) = self.process(id) else { return Vec::new() };
        let mut entries = Vec::new();
        let task = TaskView::new(process, id, &self.meta);
        ProcDirectory::Process.generate(&task, "", &mut entries);
        for tid in thread_ids(process) {
            let directory = format!("task/{tid}");
            entries.push((directory.clone(), ProcEntry::Directory));
            let task = TaskView::new(process, tid, &self.meta);
            ProcDirectory::Thread.generate(&task, &format!("{directory}/"), &mut entries);
        }
        ProcDirectory::Namespaces.generate(&task, "ns/", &mut entries);
        entries
    }

    fn entry(&self, id: u32, path: &str) -> Option<ProcEntry> {
        let process = self.process(id)?;
        if path.is_empty() {
            return Some(ProcEntry::Directory);
        }
        match self.locate(process, id, path)? {
            (task, directory, Some(name)) => directory.entry(&task, name),
            (_, _, None) => Some(ProcEntry::Directory),
        }
    }

    fn list(&self, id: u32, directory: &str) -> Vec<(String, ProcEntryKind)> {
        let Some(process) = self.process(id) else { return Vec::new() };
        match directory {
            "" => ProcDirectory::Process.list(&TaskView::new(process, id, &self.meta)),
            "task" => thread_ids(process).map(|tid| (tid.to_string(), ProcEntryKind::Directory)).collect(),
            "ns" => ProcDirectory::Namespaces.list(&TaskView::new(process, id, &self.meta)),
            _ => match self.locate(process, id, directory) {
                Some((task, directory, None)) => directory.list(&task),
                _ => Vec::new(),
            },
        }
    }

    fn uptime(&self) -> Option<Duration> {
        Some(self.clocks()?.boottime)
    }

    fn boot_time(&self) -> Option<u64> {
        let clocks = self.anchor()?;
        let started = i128::from(clocks.real_ns) - i128::from(clocks.boot_ns);
        u64::try_from(started.div_euclid(1_000_000_000)).ok()
    }

    fn clocks(&self) -> Option<ClockTimes> {
        let anchor = self.anchor()?;
        let since = i128::from(self.now.0) - i128::from(anchor.mono.0);
        let clock =
            |anchored: i128| Some(Duration::from_nanos(u64::try_from((anchored + since).max(0)).ok()?));
        Some(ClockTimes {
            monotonic: Duration::from_nanos(self.now.0),
            boottime: clock(anchor.boot_ns.into())?,
            realtime: clock(anchor.real_ns.into())?,
        })
    }
}
