//! The table of processes, which records update one at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use pmon_core::capture::{Details, DetailsSubject, Meta, ProcessState, Usage};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{MonoNs, Task, Tgid, Tid};

use super::limits::{MAX_BYTES, MAX_DEAD, MAX_NAME, MAX_PROCESSES, MAX_THREADS};
use super::live::{LiveProcess, LiveProcesses};
use super::thread_group::{ProcessExit, ThreadGroup};
use crate::timeline::OwnedRecord;
use crate::wait_status::WaitStatus;

/// A process. Unknown fields are `None`.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Process ID. Another process can reuse it once this one has ended.
    pub pid: Tgid,
    /// Time of the fork; `None` if the fork was lost or happened before the capture.
    pub start: Option<MonoNs>,
    /// Parent of the process at its first event. The kernel emits no event when another process
    /// adopts an orphan, so this field keeps the original parent.
    pub parent: Option<Tgid>,
    /// Name of the first thread.
    pub name: Option<Arc<[u8]>>,
    /// Time and status of the end. The status is `None` if the first thread exited and the capture
    /// does not show whether that was the last thread.
    pub end: Option<(MonoNs, Option<WaitStatus>)>,
    group: ThreadGroup,
    /// Whether the capture has a fork event of the process.
    has_fork: bool,
    /// Number that distinguishes processes with the same ID.
    generation: u64,
}

/// The table of processes.
///
/// Apply every [`OwnedRecord`] in order; the table then shows which process each ID refers to at
/// that moment. An ended process stays in the table until its ID is reused or 16,384 other
/// processes have ended. The table holds at most 114,688 processes in at most 32 MiB of memory. A
/// [detailed](ProcessTable::detailed) table also holds their threads and details, in at most 72 MiB
/// or a [lower limit](ProcessTable::set_memory_limit). Dropped items are
/// [counted](ProcessTable::incomplete).
#[derive(Clone, Debug, Default)]
pub struct ProcessTable {
    processes: HashMap<Tgid, Process>,
    /// IDs and generations of ended processes, in the order of their ends.
    ended: VecDeque<(Tgid, u64)>,
    last_generation: u64,
    /// Number of threads, not counting the first thread of each process.
    threads: usize,
    /// Number of times that events were lost so far. Knowledge about threads from an earlier era
    /// may be wrong.
    era: u64,
    /// Effect of the latest record on its process, if it is an exit.
    last_exit: Option<ProcessExit>,
    /// Whether the OOM killer killed the process that the latest record ended, if that is known.
    last_oom_kill: Option<bool>,
    live: Option<Box<LiveProcesses>>,
    /// Number of processes dropped for lack of memory.
    dropped: u64,
}

impl ProcessTable {
    /// Creates an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a table that also keeps the details of running processes: see
    /// [`ProcessTable::live_process`]. `meta` states the length of the clock ticks in start times.
    pub fn detailed(meta: &Meta) -> Self {
        Self { live: Some(Box::new(LiveProcesses::new(meta))), ..Self::default() }
    }

    /// Returns whether the table keeps the details of running processes.
    pub fn is_detailed(&self) -> bool {
        self.live.is_some()
    }

    /// Applies the next record.
    pub fn apply(&mut self, record: &OwnedRecord) {
        (self.last_exit, self.last_oom_kill) = (None, None);
        match record {
            OwnedRecord::Event(item) => {
                if let Some(event) = &item.event {
                    self.apply_event(event, item.details.as_deref(), item.usage.as_deref());
                    self.last_oom_kill = ProcessExit::is_oom_kill(self.last_exit, item.usage.as_deref());
                }
            }
            OwnedRecord::Details(details) => self.apply_details(details),
            OwnedRecord::Loss(_) | OwnedRecord::Blind(_) | OwnedRecord::Unobserved(_) => self.era += 1,
            _ => {}
        }
        if let Some(live) = &mut self.live {
            live.apply(record, self.last_exit);
        }
    }

    /// Sets the memory limit of a [detailed](ProcessTable::detailed) table in bytes, at most
    /// [`MAX_BYTES`]. If more is in use, the texts of details are dropped.
    pub fn set_memory_limit(&mut self, bytes: usize) {
        if let Some(live) = &mut self.live {
            live.set_memory_limit(bytes.min(MAX_BYTES));
        }
    }

    /// Returns the number of processes, threads, parents and details that are incomplete for lack
    /// of memory or time.
    pub fn incomplete(&self) -> u64 {
        self.dropped + self.live.as_ref().map_or(0, |live| live.incomplete())
    }

    /// Returns the effect of the latest record on its process, if it was an exit.
    pub fn last_exit(&self) -> Option<ProcessExit> {
        self.last_exit
    }

    /// Returns whether the OOM killer killed the process that the latest record ended, if that is
    /// known.
    pub fn last_oom_kill(&self) -> Option<bool> {
        self.last_oom_kill
    }

    /// Returns the process with this ID, which may have ended.
    pub fn process(&self, pid: Tgid) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// Returns the name of the process with this ID.
    pub fn name(&self, pid: Tgid) -> Option<&[u8]> {
        self.process(pid)?.name.as_deref()
    }

    /// Returns the existing processes of a [detailed](ProcessTable::detailed) table, in the order
    /// of their IDs.
    ///
    /// An exited process is a zombie until the next event of any process: the capture does not show
    /// when the parent waited for it, and nearly always the parent does so at once. A process known
    /// only from a scan exists from its start time on. If the exit of a process is missing, a later
    /// scan removes the process.
    pub fn live_processes(&self) -> impl Iterator<Item = &LiveProcess> {
        self.live.iter().flat_map(|live| live.iter())
    }

    /// Returns the existing process with this ID from a [detailed](ProcessTable::detailed) table.
    pub fn live_process(&self, pid: Tgid) -> Option<&LiveProcess> {
        self.live.as_ref()?.get(pid)
    }

    /// Returns how long a process of this [detailed](ProcessTable::detailed) table has existed at
    /// `time`, in ns without suspend. `None` if its start is unknown.
    pub fn age_ns(&self, process: &LiveProcess, time: MonoNs) -> Option<u64> {
        let start = process.start.or_else(|| self.live.as_ref()?.mono_of_ticks(process.start_ticks?))?;
        Some(time.0.saturating_sub(start.0))
    }

    /// Returns the existing process that has this thread, unless it is the process's first thread.
    pub fn process_of_thread(&self, tid: Tid) -> Option<&LiveProcess> {
        self.live.as_ref()?.process_of_thread(tid)
    }

    fn apply_event(&mut self, event: &Event, details: Option<&Details>, usage: Option<&Usage>) {
        match event.body {
            EventBody::Fork { parent, child } if child.is_leader() => {
                self.fork(parent, child.tgid, event.time)
            }
            // The fork event of a thread names the parent of its process.
            EventBody::Fork { parent, child } => {
                let is_full = self.threads >= MAX_THREADS;
                let Some(process) = self.get_or_insert(child.tgid) else { return };
                process.parent.get_or_insert(parent.tgid);
                if is_full {
                    process.group.mark_incomplete();
                } else if process.group.add(child.tid) {
                    self.threads += 1;
                }
            }
            EventBody::Exec { task } => self.exec(task.tgid, details),
            EventBody::Comm { task, comm } if task.is_leader() => {
                if let Some(process) = self.get_or_insert(task.tgid) {
                    process.name = Some(comm.as_bytes().into());
                }
            }
            EventBody::Exit { task, code, parent, .. } => {
                let state =
                    usage.map_or(ProcessState::Unknown, |usage| usage.process_state(task.is_leader(), code));
                self.end((event.time, task, code), parent, state);
            }
            _ => {}
        }
    }

    fn fork(&mut self, parent: Task, child: Tgid, time: MonoNs) {
        let parent_process = self.processes.get(&parent.tgid).cloned().unwrap_or_default();
        self.insert(Process {
            pid: child,
            start: Some(time),
            parent: Some(parent.tgid),
            end: None,
            group: ThreadGroup::forked(self.era),
            has_fork: true,
            ..parent_process
        });
    }

    fn exec(&mut self, pid: Tgid, details: Option<&Details>) {
        let Some(process) = self.get_or_insert(pid) else { return };
        // If a thread other than the first execs, the first thread exits before, and the process
        // keeps its ID.
        (process.end, process.name) = (None, None);
        let threads = process.group.len();
        process.group.exec();
        if let Some(details) = details {
            fill(process, details);
        }
        self.threads -= threads;
    }

    fn end(&mut self, exit: (MonoNs, Task, u32), parent: Option<Task>, state: ProcessState) {
        let ((time, task, code), era) = (exit, self.era);
        let Some(process) = self.get_or_insert(task.tgid) else { return };
        if let Some(parent) = parent.filter(|parent| parent.tgid != Tgid(0)) {
            process.parent.get_or_insert(parent.tgid);
        }
        let before = process.group.len();
        let exit = process.group.end((time, task, code), state, era);
        let exited = before - process.group.len();
        let status = match exit {
            ProcessExit::Ended { status } => Some(Some(WaitStatus::from_raw(status))),
            ProcessExit::Unknown if task.is_leader() => Some(None),
            ProcessExit::Unknown | ProcessExit::GoesOn => None,
        };
        let had_ended = process.end.is_some();
        process.end = status.map(|status| (time, status)).or(process.end);
        let ended = (process.pid, process.generation);
        self.last_exit = Some(exit);
        self.threads -= exited;
        if status.is_none() || had_ended {
            return;
        }
        self.ended.push_back(ended);
        if self.ended.len() > MAX_DEAD {
            self.remove_oldest_ended();
        }
    }

    /// Removes the process that ended first, unless its ID was reused.
    fn remove_oldest_ended(&mut self) {
        if let Some((pid, generation)) = self.ended.pop_front()
            && self
                .processes
                .get(&pid)
                .is_some_and(|process| process.generation == generation && process.end.is_some())
        {
            self.remove(pid);
        }
    }

    fn remove(&mut self, pid: Tgid) {
        if let Some(process) = self.processes.remove(&pid) {
            self.threads -= process.group.len();
        }
    }

    /// Fills unknown fields from the details of a scan, or from late details of an exec.
    fn apply_details(&mut self, details: &Details) {
        let is_scan = matches!(details.subject, DetailsSubject::Snapshot { .. });
        let era = self.era;
        let Some(process) = self.get_or_insert(details.subject.tgid()) else { return };
        if is_scan && process.has_fork && process.end.is_some() {
            return;
        }
        if is_scan && details.threads == Some(1) {
            process.group.mark_single_threaded(era);
        }
        fill(process, details);
    }

    /// Returns the process with this ID, and adds it first if it is unknown. Returns `None` if the
    /// table is full.
    fn get_or_insert(&mut self, pid: Tgid) -> Option<&mut Process> {
        if !self.processes.contains_key(&pid) {
            self.insert(Process { pid, ..Process::default() });
        }
        self.processes.get_mut(&pid)
    }

    fn insert(&mut self, process: Process) {
        let is_known = self.processes.contains_key(&process.pid);
        while self.processes.len() >= MAX_PROCESSES && !self.ended.is_empty() && !is_known {
            self.remove_oldest_ended();
        }
        if self.processes.len() < MAX_PROCESSES || is_known {
            self.last_generation += 1;
            self.remove(process.pid);
            self.processes.insert(process.pid, Process { generation: self.last_generation, ..process });
        } else {
            self.dropped += 1;
        }
    }
}

/// Fills the unknown fields of `process` from `details`.
fn fill(process: &mut Process, details: &Details) {
    process.parent = process.parent.or(details.ppid.filter(|&ppid| ppid != 0).map(Tgid));
    process.start = process.start.or(details.forked);
    let name = details.comm.as_deref().map(|name| Arc::from(&name[..name.len().min(MAX_NAME)]));
    process.name = process.name.take().or(name);
}

#[cfg(test)]
mod tests;
