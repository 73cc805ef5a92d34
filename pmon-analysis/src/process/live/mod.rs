//! All existing processes, with everything that the capture shows about them.

mod index;
mod process;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pmon_core::capture::{ClockAnchor, Details, DetailsSubject, Meta, Snapshot, Usage};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{MonoNs, Task, Tgid, Tid};

use self::process::{merged, preserved_by_exec};
use super::clock::mono_of_ticks;
use super::limits::MAX_BYTES;
use super::recent_exits::RecentExits;
use super::thread_group::ProcessExit;
use crate::timeline::OwnedRecord;

pub use self::process::{LiveProcess, RunState, Thread};

/// Process that adopts orphans.
const INIT: Tgid = Tgid(1);

/// The running processes and zombies.
///
/// An exited process is a zombie until the next event of any process. The capture does not show
/// when the parent waited for it; nearly always the parent does so at once, and a consumer of the
/// exit event finds the process gone or about to go.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveProcesses {
    ticks_per_second: u64,
    clock: ClockAnchor,
    now: MonoNs,
    /// All processes, including zombies. Each is boxed, because tree nodes are only half full.
    processes: BTreeMap<Tgid, Box<LiveProcess>>,
    /// Processes by their threads other than the first.
    threads: HashMap<Tid, Tgid>,
    children: HashMap<Tgid, BTreeSet<Tgid>>,
    /// The zombie, which the next event removes.
    zombie: Option<Tgid>,
    recent_exits: RecentExits,
    last_version: u64,
    /// Number of the current scan.
    scan: u64,
    /// Number of processes that the current scan has found.
    scanned: u32,
    /// Bytes of memory in use.
    bytes: usize,
    /// Maximum of `bytes`.
    max_bytes: usize,
    /// Number of processes that may still be visited in addition to those that records name. Each
    /// record adds to it, so that a capture takes time proportional to its length, whatever its
    /// processes are.
    credit: u64,
    /// Number of items dropped for lack of memory or time.
    dropped: u64,
}

/// Number of extra processes that each record permits to visit, for example on the way to the
/// oldest ancestor, or to find those that a scan missed.
const CREDIT: u64 = 64;
/// Number of extra processes that may be visited before the first record.
const FIRST_CREDIT: u64 = 1 << 20;

impl LiveProcesses {
    pub(super) fn new(meta: &Meta) -> Self {
        let ticks_per_second = u64::from(meta.ticks_per_second);
        Self {
            ticks_per_second,
            clock: meta.start,
            now: meta.start.mono,
            scan: 1,
            max_bytes: MAX_BYTES,
            credit: FIRST_CREDIT,
            ..Self::default()
        }
    }

    /// Returns how many items were dropped for lack of memory or time.
    pub(super) fn incomplete(&self) -> u64 {
        self.dropped
    }

    /// Applies the next record. `exit` is the effect of an exit event on its process.
    pub(super) fn apply(&mut self, record: &OwnedRecord, exit: Option<ProcessExit>) {
        self.credit = self.credit.saturating_add(CREDIT);
        match record {
            OwnedRecord::Event(item) => {
                if let Some(event) = &item.event {
                    self.apply_event(event, item.details.as_deref(), exit);
                    self.store_usage(event, item.usage.as_deref());
                }
            }
            OwnedRecord::Details(details) => match details.subject {
                DetailsSubject::Exec { tgid, time } => self.late_exec_details(tgid, time, details),
                DetailsSubject::Snapshot { tgid } => self.scanned_details(tgid, details),
            },
            OwnedRecord::Snapshot(snapshot) => self.finish_scan(snapshot),
            OwnedRecord::Clock(anchor) => self.clock = *anchor,
            _ => {}
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LiveProcess> {
        let now = self.boot_ticks(self.now);
        self.processes.values().map(|process| &**process).filter(move |process| exists(process, now))
    }

    pub(super) fn get(&self, pid: Tgid) -> Option<&LiveProcess> {
        self.processes
            .get(&pid)
            .map(|process| &**process)
            .filter(|process| exists(process, self.boot_ticks(self.now)))
    }

    pub(super) fn process_of_thread(&self, tid: Tid) -> Option<&LiveProcess> {
        self.get(*self.threads.get(&tid)?)
    }

    fn apply_event(&mut self, event: &Event, details: Option<&Details>, exit: Option<ProcessExit>) {
        self.now = self.now.max(event.time);
        // When a thread other than the first execs, the first one exits before, and its ID stays in
        // use. When the first thread and another exit at the same time, the other's exit can be the
        // first to report the end of the process.
        let keeps_id = |zombie| match event.body {
            EventBody::Exec { task } => task.tgid == zombie,
            EventBody::Exit { task, .. } => task.tgid == zombie && task.is_leader(),
            _ => false,
        };
        if let Some(zombie) = self.zombie.take_if(|zombie| !keeps_id(*zombie)) {
            self.remove(zombie);
        }
        match event.body {
            EventBody::Fork { parent, child } if child.is_leader() => {
                self.fork(event.time, parent, child.tgid)
            }
            EventBody::Fork { parent, child } => self.add_thread(event.time, parent, child),
            EventBody::Exec { task } => self.exec(event.time, task.tgid, details),
            EventBody::Comm { task, comm } => self.set_name(task, comm.as_bytes()),
            EventBody::Exit { task, code, parent, .. } => self.exit((task, code), parent, exit),
            EventBody::Uid { task, real, effective } => {
                self.change_by_leader(task, |process| process.uid = Some((real, effective)));
            }
            EventBody::Gid { task, real, effective } => {
                self.change_by_leader(task, |process| process.gid = Some((real, effective)));
            }
            EventBody::Sid { task } => {
                // Any thread can create a session for its process.
                if let Some(process) = self.active_process(task) {
                    (process.session, process.group) = (Some(task.tgid.0), Some(task.tgid.0));
                }
            }
            EventBody::Ptrace { task, tracer } => self.change_by_leader(task, |process| {
                process.tracer = (tracer.tgid != Tgid(0)).then_some(tracer.tgid);
            }),
            _ => {}
        }
    }

    fn fork(&mut self, time: MonoNs, parent: Task, child: Tgid) {
        let start_ticks = self.boot_ticks(time);
        let inherited = self.get_or_insert(parent.tgid).map(|process| {
            (process.last_event, process.is_only_scanned) = (time, false);
            process.inherited(parent.tid)
        });
        let inherited = inherited.unwrap_or_default();
        // A scan can find a process before its fork event arrives.
        let found = self.processes.get(&child).filter(|found| found.is_only_scanned);
        let last_scan = found.map_or(0, |found| found.last_scan);
        self.insert(LiveProcess {
            pid: child,
            last_scan,
            start: Some(time),
            start_ticks,
            last_event: time,
            ..inherited
        });
        self.set_parent(child, Some(parent.tgid));
    }

    fn add_thread(&mut self, time: MonoNs, parent: Task, child: Task) {
        let start_ticks = self.boot_ticks(time);
        self.active_process(child);
        if let Some(process) = self.processes.get_mut(&child.tgid)
            && let Some(thread) = process.threads.get_mut(&child.tid)
        {
            *thread = Thread { name: process.name.clone(), start_ticks };
        }
        // The fork event of a thread names the parent of its process.
        self.set_parent(child.tgid, Some(parent.tgid));
    }

    fn exec(&mut self, time: MonoNs, pid: Tgid, details: Option<&Details>) {
        let start_ticks = details.and_then(|details| details.start_ticks);
        if self.processes.get(&pid).is_some_and(|process| process.differs_from_start(start_ticks)) {
            self.remove(pid);
        }
        self.zombie.take_if(|zombie| *zombie == pid);
        let Some(process) = self.get_or_insert(pid) else { return };
        process.exec(time, details);
        process.last_event = time;
        process.is_only_scanned = false;
        let others = std::mem::take(&mut process.threads);
        let before = process.details.as_deref().map(preserved_by_exec);
        others.into_keys().for_each(|tid| self.remove_thread(tid));
        let all = match (details, before) {
            (Some(details), Some(before)) => Some(merged(details, &before)),
            (details, before) => details.cloned().or(before),
        };
        self.set_details(pid, all);
        if let (Some(process), Some(details)) = (self.processes.get_mut(&pid), details) {
            process.fill(details);
        }
        self.bump_version(pid);
        if let Some(ppid) = details.and_then(|details| details.ppid) {
            self.set_parent(pid, Some(Tgid(ppid)));
        }
    }

    fn set_name(&mut self, task: Task, name: &[u8]) {
        let Some(process) = self.active_process(task) else { return };
        match process.threads.get_mut(&task.tid) {
            Some(thread) => thread.name = Some(name.into()),
            None if task.is_leader() => process.name = Some(name.into()),
            None => {}
        }
    }

    fn exit(&mut self, (task, code): (Task, u32), parent: Option<Task>, exit: Option<ProcessExit>) {
        let now = self.now;
        if task.is_leader() {
            // A process that was unknown until now is added as a zombie.
            let Some(process) = self.get_or_insert(task.tgid) else { return };
            (process.exit, process.last_event, process.is_only_scanned) = (Some(code), now, false);
        } else {
            // Unknown threads of an ended process can exit after it.
            let Some(process) = self.processes.get_mut(&task.tgid) else { return };
            process.last_event = now;
            if process.threads.remove(&task.tid).is_some() {
                self.remove_thread(task.tid);
            }
        }
        match exit {
            Some(ProcessExit::Ended { status }) => self.mark_ended(task.tgid, status),
            Some(ProcessExit::GoesOn) if task.is_leader() && self.zombie != Some(task.tgid) => {
                if let Some(process) = self.processes.get_mut(&task.tgid) {
                    process.has_unknown_threads = true;
                }
            }
            _ => {}
        }
        self.bump_version(task.tgid);
        if let Some(parent) = parent {
            self.set_parent(task.tgid, Some(parent.tgid));
        }
        if self.processes.get(&task.tgid).is_some_and(|process| process.state() == RunState::Zombie) {
            let has_ended = matches!(exit, Some(ProcessExit::Ended { .. }));
            self.recent_exits.add(task.tgid, self.boot_ns(now), has_ended);
            self.zombie = Some(task.tgid);
            self.reparent_children(task.tgid);
        }
    }

    /// Marks a process as ended and removes its threads; some of them may have been unknown.
    fn mark_ended(&mut self, pid: Tgid, status: u32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        (process.exit, process.has_unknown_threads) = (Some(status), false);
        let threads = std::mem::take(&mut process.threads);
        threads.into_keys().for_each(|tid| self.remove_thread(tid));
    }

    /// Stores the usage of a process at the exit of its first thread.
    fn store_usage(&mut self, event: &Event, usage: Option<&Usage>) {
        if let (EventBody::Exit { task, .. }, Some(usage)) = (event.body, usage)
            && let Some(process) = self.processes.get_mut(&task.tgid).filter(|_| task.is_leader())
        {
            process.usage = Some(Box::new(*usage));
        }
    }

    /// Changes a process if the event is of its first thread. Other threads only show that the
    /// process exists.
    fn change_by_leader(&mut self, task: Task, change: impl FnOnce(&mut LiveProcess)) {
        if let Some(process) = self.active_process(task)
            && task.is_leader()
        {
            change(process);
        }
    }

    /// Applies details that arrive after their exec.
    fn late_exec_details(&mut self, pid: Tgid, time: MonoNs, details: &Details) {
        if self.processes.get(&pid).is_some_and(|process| process.exec == Some(time)) {
            self.fill(pid, details);
        }
    }

    fn scanned_details(&mut self, pid: Tgid, details: &Details) {
        self.scanned += 1;
        if self.processes.get(&pid).is_some_and(|process| process.differs_from_start(details.start_ticks)) {
            self.remove(pid);
        }
        if !self.processes.contains_key(&pid)
            && self.recent_exits.contains(pid, details, self.ticks_per_second)
        {
            return;
        }
        // A scan takes time: it can find processes whose fork event follows the current event.
        let (scan, is_new) = (self.scan, !self.processes.contains_key(&pid));
        let Some(process) = self.get_or_insert(pid) else { return };
        process.is_only_scanned |= is_new;
        process.last_scan = scan;
        if process.exit.is_none() {
            self.fill(pid, details);
        }
    }

    /// Completes a scan: removes processes that the scan did not find and that have no later event.
    /// Their exits are missing from the capture.
    fn finish_scan(&mut self, snapshot: &Snapshot) {
        let (scan, started) = (self.scan, snapshot.started);
        if self.scanned == snapshot.processes && self.spend_credit(self.processes.len() as u64) {
            // The zombie exists until the next event, although the opening of a segment lacks it.
            let zombie = self.zombie;
            let is_gone = |process: &LiveProcess| {
                process.last_scan != scan && process.last_event < started && zombie != Some(process.pid)
            };
            for pid in self.pids_where(is_gone) {
                self.remove(pid);
            }
        }
        self.scan += 1;
        self.scanned = 0;
    }

    fn fill(&mut self, pid: Tgid, details: &Details) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.fill(details);
        let (ppid, all) = (process.ppid, process.details.as_deref().map(|known| merged(known, details)));
        self.set_details(pid, Some(all.unwrap_or_else(|| details.clone())));
        self.bump_version(pid);
        if let (None, Some(ppid)) = (ppid, details.ppid) {
            self.set_parent(pid, Some(Tgid(ppid)));
        }
    }

    /// Converts a time to ns since boot.
    fn boot_ns(&self, time: MonoNs) -> u64 {
        time.0.wrapping_sub(self.clock.mono.0).wrapping_add(self.clock.boot_ns)
    }

    /// Converts clock ticks since boot to the monotonic clock, if the capture states the length
    /// of a tick.
    pub(super) fn mono_of_ticks(&self, ticks: u64) -> Option<MonoNs> {
        mono_of_ticks(ticks, self.ticks_per_second, self.clock)
    }

    /// Converts a time to clock ticks since boot, if the capture states the length of a tick.
    fn boot_ticks(&self, time: MonoNs) -> Option<u64> {
        let ticks = u128::from(self.boot_ns(time)) * u128::from(self.ticks_per_second) / 1_000_000_000;
        (self.ticks_per_second != 0).then_some(u64::try_from(ticks).ok()?)
    }
}

/// Returns whether a process exists at `now`, in clock ticks since boot. A process known only from
/// a scan exists from its start time on.
fn exists(process: &LiveProcess, now: Option<u64>) -> bool {
    !process.is_only_scanned || process.start_ticks.zip(now).is_none_or(|(start, now)| start <= now)
}

#[cfg(test)]
mod tests;
