//! The processes of a capture, as of the record at hand: who is who ([`Process`]), and where asked for, all that is known of those that
//! are there ([`LiveProcess`]).

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

/// One process. What is not known is `None`.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its id, which is its own only until it has ended.
    pub pid: Tgid,
    /// When it was forked; `None` if that was before the capture, or lost.
    pub start: Option<MonoNs>,
    /// The process that it was a child of when it was first heard of. When that one ends, the kernel gives it
    /// another parent without an event; this stays.
    pub parent: Option<Tgid>,
    /// Name of its first thread.
    pub name: Option<Arc<[u8]>>,
    /// Time and status of its end. The status is `None` if its first thread exited and the capture
    /// does not show whether that was the last thread.
    pub end: Option<(MonoNs, Option<WaitStatus>)>,
    group: ThreadGroup,
    /// Whether anything before the first scan told of it.
    heard: bool,
    birth: u64,
}

/// The table of processes.
///
/// Apply every [`OwnedRecord`] in order; the table then shows which process each ID refers to at that
/// moment. An ended process stays in the table until its ID is reused or 16,384 other processes
/// have ended. The table holds at most 114,688 processes in at most 32 MiB of memory. A
/// [detailed](ProcessTable::detailed) table also holds their threads and details, in at most 72 MiB
/// or a [lower limit](ProcessTable::limit). Dropped items are [counted](ProcessTable::forgotten).
#[derive(Clone, Debug, Default)]
pub struct ProcessTable {
    table: HashMap<Tgid, Process>,
    dead: VecDeque<(Tgid, u64)>,
    births: u64,
    /// Number of threads other than the first ones.
    threads: usize,
    /// Number of times that events were lost so far. Knowledge about threads from an earlier era
    /// may be wrong.
    era: u64,
    /// Effect of the current entry on its process, if it is an exit.
    exit: Option<ProcessExit>,
    live: Option<Box<LiveProcesses>>,
    forgotten: u64,
}

impl ProcessTable {
    /// A table that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a table that also keeps the details of running processes: see [`ProcessTable::live_process`].
    /// `meta` states the length of the clock ticks in start times.
    pub fn detailed(meta: &Meta) -> Self {
        Self { live: Some(Box::new(LiveProcesses::new(meta))), ..Self::default() }
    }

    /// Learns from the next entry.
    pub fn apply(&mut self, entry: &OwnedRecord) {
        self.exit = None;
        match entry {
            OwnedRecord::Event(occurrence) => {
                if let Some(event) = &occurrence.event {
                    self.apply_event(event, occurrence.details.as_deref(), occurrence.usage.as_deref());
                }
            }
            OwnedRecord::Details(details) => self.apply_details(details),
            OwnedRecord::Loss(_) | OwnedRecord::Blind(_) => self.era += 1,
            _ => {}
        }
        if let Some(live) = &mut self.live {
            live.apply(entry, self.exit);
        }
    }

    /// Sets the memory limit of a [detailed](ProcessTable::detailed) table in bytes, at most
    /// [`MAX_BYTES`]. If more is in use, the texts of details are dropped.
    pub fn limit(&mut self, bytes: usize) {
        if let Some(live) = &mut self.live {
            live.limit(bytes.min(MAX_BYTES));
        }
    }

    /// Returns the number of processes, threads, parents and details that are incomplete for lack
    /// of memory or time.
    pub fn forgotten(&self) -> u64 {
        self.forgotten + self.live.as_ref().map_or(0, |live| live.forgotten())
    }

    /// Returns the effect of the latest entry on its process, if it was an exit.
    pub fn exit(&self) -> Option<ProcessExit> {
        self.exit
    }

    /// The process of that id; perhaps one that has ended.
    pub fn process(&self, pid: Tgid) -> Option<&Process> {
        self.table.get(&pid)
    }

    /// Its name.
    pub fn name(&self, pid: Tgid) -> Option<&[u8]> {
        self.process(pid)?.name.as_deref()
    }

    /// Where they are kept [in detail](ProcessTable::detailed), the processes that are there, in the order of their ids.
    ///
    /// One that has ended is there, as a zombie, until the next event, whoever's that is: the capture does not say when its parent waited for
    /// it, and nearly always that is at once. One that only a scan saw is there from its start on. What was not heard to end, a later
    /// scan finds gone.
    pub fn live_processes(&self) -> impl Iterator<Item = &LiveProcess> {
        self.live.iter().flat_map(|live| live.iter())
    }

    /// One of them.
    pub fn live_process(&self, pid: Tgid) -> Option<&LiveProcess> {
        self.live.as_ref()?.get(pid)
    }

    /// The one of them that has that thread, which is not its first.
    pub fn process_of_thread(&self, tid: Tid) -> Option<&LiveProcess> {
        self.live.as_ref()?.owner(tid)
    }

    fn apply_event(&mut self, event: &Event, details: Option<&Details>, usage: Option<&Usage>) {
        match event.body {
            EventBody::Fork { parent, child } if child.is_leader() => {
                self.fork(parent, child.tgid, event.time)
            }
            // A new thread: the payload names the parent of its process.
            EventBody::Fork { parent, child } => {
                let is_full = self.threads >= MAX_THREADS;
                let Some(process) = self.entry(child.tgid) else { return };
                process.parent.get_or_insert(parent.tgid);
                if is_full {
                    process.group.lose_track();
                } else {
                    let before = process.group.len();
                    process.group.begin(child.tid);
                    self.threads +=
                        self.table.get(&child.tgid).map_or(0, |process| process.group.len()) - before;
                }
            }
            EventBody::Exec { task } => self.exec(task.tgid, details),
            EventBody::Comm { task, comm } if task.is_leader() => {
                if let Some(process) = self.entry(task.tgid) {
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
        let inherited = self.table.get(&parent.tgid).cloned().unwrap_or_default();
        self.insert(Process {
            pid: child,
            start: Some(time),
            parent: Some(parent.tgid),
            end: None,
            group: ThreadGroup::forked(self.era),
            heard: true,
            ..inherited
        });
    }

    fn exec(&mut self, pid: Tgid, details: Option<&Details>) {
        let Some(process) = self.entry(pid) else { return };
        // Another thread than the first may exec: the first then ends, and its id lives on.
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
        let Some(process) = self.entry(task.tgid) else { return };
        if let Some(parent) = parent.filter(|parent| parent.tgid != Tgid(0)) {
            process.parent.get_or_insert(parent.tgid);
        }
        let before = process.group.len();
        let exit = process.group.end((time, task, code), state, era);
        let gone = before - process.group.len();
        let status = match exit {
            ProcessExit::Ended { status } => Some(Some(WaitStatus::from_raw(status))),
            ProcessExit::Unknown if task.is_leader() => Some(None),
            ProcessExit::Unknown | ProcessExit::GoesOn => None,
        };
        let was_known = process.end.is_some();
        process.end = status.map(|status| (time, status)).or(process.end);
        let corpse = (process.pid, process.birth);
        self.exit = Some(exit);
        self.threads -= gone;
        if status.is_none() || was_known {
            return;
        }
        self.dead.push_back(corpse);
        if self.dead.len() > MAX_DEAD {
            self.bury();
        }
    }

    /// Removes the process that ended first, unless its ID was reused.
    fn bury(&mut self) {
        if let Some((pid, birth)) = self.dead.pop_front()
            && self.table.get(&pid).is_some_and(|process| process.birth == birth && process.end.is_some())
        {
            self.remove(pid);
        }
    }

    fn remove(&mut self, pid: Tgid) {
        if let Some(process) = self.table.remove(&pid) {
            self.threads -= process.group.len();
        }
    }

    /// A scan's details, or those of an exec that came late: they fill what is not known.
    fn apply_details(&mut self, details: &Details) {
        let is_scan = matches!(details.subject, DetailsSubject::Snapshot { .. });
        let era = self.era;
        let Some(process) = self.entry(details.subject.tgid()) else { return };
        if is_scan && process.heard && process.end.is_some() {
            return;
        }
        if is_scan && details.threads == Some(1) {
            process.group.found_alone(era);
        }
        fill(process, details);
    }

    /// The process of that id, known from now on; `None` if the table is full.
    fn entry(&mut self, pid: Tgid) -> Option<&mut Process> {
        if !self.table.contains_key(&pid) {
            self.insert(Process { pid, ..Process::default() });
        }
        self.table.get_mut(&pid)
    }

    fn insert(&mut self, process: Process) {
        while self.table.len() >= MAX_PROCESSES
            && !self.dead.is_empty()
            && !self.table.contains_key(&process.pid)
        {
            self.bury();
        }
        if self.table.len() < MAX_PROCESSES || self.table.contains_key(&process.pid) {
            self.births += 1;
            self.remove(process.pid);
            self.table.insert(process.pid, Process { birth: self.births, ..process });
        } else {
            self.forgotten += 1;
        }
    }
}

/// Takes what `details` know and `process` does not.
fn fill(process: &mut Process, details: &Details) {
    process.parent = process.parent.or(details.ppid.filter(|&ppid| ppid != 0).map(Tgid));
    let name = details.comm.as_deref().map(|name| Arc::from(&name[..name.len().min(MAX_NAME)]));
    process.name = process.name.take().or(name);
}

#[cfg(test)]
mod tests {
    use pmon_core::capture::MissReason;
    use pmon_core::wire::Comm;
    use pmon_core::{Cpu, Seq};

    use super::*;
    use crate::timeline::TimelineItem;

    fn event(time: u64, body: EventBody, details: Option<Details>) -> OwnedRecord {
        let event = Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body };
        OwnedRecord::Event(TimelineItem {
            event: Some(event),
            raw: None,
            details: details.map(Box::new),
            usage: None,
        })
    }

    fn fork(time: u64, parent: u32, child: (u32, u32)) -> OwnedRecord {
        event(
            time,
            EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child.0, child.1) },
            None,
        )
    }

    fn exit(time: u64, tid: u32, pid: u32, code: u32) -> OwnedRecord {
        event(time, EventBody::Exit { task: Task::new(tid, pid), code, signal: 17, parent: None }, None)
    }

    fn details(subject: DetailsSubject, comm: &str, ppid: u32) -> Details {
        Details {
            miss: None,
            ppid: Some(ppid),
            comm: Some(comm.into()),
            args: Some(format!("{comm}\0-x\0").into_bytes()),
            ..Details::missed(subject, MissReason::Gone)
        }
    }

    fn exec(time: u64, pid: u32, comm: Option<&str>) -> OwnedRecord {
        let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(time) };
        event(time, EventBody::Exec { task: Task::new(pid, pid) }, comm.map(|comm| details(subject, comm, 1)))
    }

    fn scanned(pid: u32, comm: &str, ppid: u32) -> OwnedRecord {
        OwnedRecord::Details(Box::new(details(DetailsSubject::Snapshot { tgid: Tgid(pid) }, comm, ppid)))
    }

    fn processes(entries: &[OwnedRecord]) -> ProcessTable {
        let mut processes = ProcessTable::new();
        entries.iter().for_each(|entry| processes.apply(entry));
        processes
    }

    fn parent(known: &ProcessTable, pid: u32) -> Option<Tgid> {
        known.process(Tgid(pid))?.parent
    }

    #[test]
    fn a_child_inherits_and_an_exec_replaces() {
        let mut known = processes(&[scanned(10, "sh", 1), fork(5, 10, (20, 20))]);
        assert_eq!(known.name(Tgid(20)), Some(&b"sh"[..]));
        assert_eq!(parent(&known, 20), Some(Tgid(10)));
        assert_eq!(known.process(Tgid(20)).and_then(|p| p.start), Some(MonoNs(5)));
        known.apply(&exec(6, 20, Some("git")));
        assert_eq!(known.name(Tgid(20)), Some(&b"git"[..]));
        assert_eq!(known.name(Tgid(10)), Some(&b"sh"[..]));
    }

    #[test]
    fn after_an_exec_with_missed_details_the_old_name_is_not_claimed() {
        let known = processes(&[scanned(10, "sh", 1), exec(6, 10, None)]);
        assert_eq!(known.name(Tgid(10)), None);
        assert_eq!(parent(&known, 10), Some(Tgid(1)));
    }

    #[test]
    fn a_thread_is_no_process_and_tells_of_the_parent() {
        let known = processes(&[fork(1, 10, (21, 20)), exit(2, 21, 20, 0)]);
        assert!(known.process(Tgid(21)).is_none());
        assert_eq!(parent(&known, 20), Some(Tgid(10)));
        assert!(known.process(Tgid(20)).is_some_and(|process| process.end.is_none()));
    }

    #[test]
    fn an_exec_by_another_thread_lets_the_process_live_on() {
        let mut known = processes(&[fork(1, 10, (20, 20)), fork(2, 10, (21, 20)), exit(3, 20, 20, 0)]);
        assert_eq!(known.exit(), Some(ProcessExit::GoesOn));
        assert!(known.process(Tgid(20)).is_some_and(|process| process.end.is_none()));
        known.apply(&exec(4, 20, Some("next")));
        assert!(known.process(Tgid(20)).is_some_and(|process| process.end.is_none()));
        known.apply(&exit(5, 20, 20, 512));
        assert_eq!(known.exit(), Some(ProcessExit::Ended { status: 512 }));
        assert_eq!(known.threads, 0);
    }

    #[test]
    fn a_process_ends_with_its_last_thread_and_with_that_ones_status() {
        let begun = [fork(1, 10, (20, 20)), fork(2, 10, (21, 20))];
        let mut known = processes(&begun);
        known.apply(&exit(3, 20, 20, 0));
        known.apply(&exit(900_000_000, 21, 20, 7 << 8));
        assert_eq!(known.exit(), Some(ProcessExit::Ended { status: 7 << 8 }));
        let end = known.process(Tgid(20)).and_then(|process| process.end);
        assert_eq!(end, Some((MonoNs(900_000_000), Some(WaitStatus::Exited(7)))));
        assert_eq!(known.threads, 0);
        // A scan can show that the process has no other threads.
        let OwnedRecord::Details(mut alone) = scanned(10, "sh", 1) else { unreachable!() };
        alone.threads = Some(1);
        let known = processes(&[OwnedRecord::Details(alone), exit(3, 10, 10, 512)]);
        assert_eq!(known.exit(), Some(ProcessExit::Ended { status: 512 }));
        // A process older than the capture can have unknown threads.
        let mut known = processes(&[scanned(10, "sh", 1), exit(3, 10, 10, 0)]);
        assert_eq!(known.exit(), Some(ProcessExit::Unknown));
        assert_eq!(known.process(Tgid(10)).and_then(|process| process.end), Some((MonoNs(3), None)));
        known.apply(&fork(4, 1, (11, 11)));
        assert_eq!(known.exit(), None);
    }

    #[test]
    fn after_a_loss_what_was_known_of_threads_is_not_relied_on() {
        use pmon_core::capture::Blind;
        let mut known = processes(&[fork(1, 10, (20, 20))]);
        known.apply(&OwnedRecord::Blind(Blind { from: MonoNs(2), until: MonoNs(3) }));
        known.apply(&exit(4, 20, 20, 0));
        assert_eq!(known.exit(), Some(ProcessExit::Unknown));
        known.apply(&fork(5, 10, (22, 22)));
        known.apply(&exit(6, 22, 22, 0));
        assert_eq!(known.exit(), Some(ProcessExit::Ended { status: 0 }));
    }

    #[test]
    fn only_the_first_thread_names_the_process() {
        let mut comm = Comm::default();
        comm.0[..3].copy_from_slice(b"new");
        let named = |tid| event(2, EventBody::Comm { task: Task::new(tid, 10), comm }, None);
        let mut known = processes(&[scanned(10, "old", 1), named(11)]);
        assert_eq!(known.name(Tgid(10)), Some(&b"old"[..]));
        known.apply(&named(10));
        assert_eq!(known.name(Tgid(10)), Some(&b"new"[..]));
    }

    #[test]
    fn an_id_taken_anew_is_another_process() {
        let known = processes(&[fork(1, 10, (20, 20)), exit(2, 20, 20, 256), fork(3, 11, (20, 20))]);
        let process = known.process(Tgid(20));
        assert_eq!(process.and_then(|p| p.start), Some(MonoNs(3)));
        assert_eq!(parent(&known, 20), Some(Tgid(11)));
        assert!(process.is_some_and(|p| p.end.is_none()));
    }

    #[test]
    fn where_there_is_no_room_the_dead_go_first_and_the_rest_is_counted() {
        let mut known = ProcessTable::new();
        let all = MAX_PROCESSES as u32;
        (1..=all).for_each(|pid| known.apply(&fork(1, all + 9, (pid, pid))));
        assert_eq!((known.table.len(), known.forgotten()), (MAX_PROCESSES, 0));
        known.apply(&exit(2, 7, 7, 0));
        known.apply(&fork(3, 1, (all + 1, all + 1)));
        assert!(known.process(Tgid(7)).is_none() && known.process(Tgid(all + 1)).is_some());
        known.apply(&fork(3, 1, (all + 2, all + 2)));
        assert!(known.process(Tgid(all + 2)).is_none());
        assert_eq!((known.table.len(), known.forgotten()), (MAX_PROCESSES, 1));
        // A known ID is reused all the same.
        known.apply(&fork(5, 1, (8, 8)));
        assert_eq!(known.process(Tgid(8)).and_then(|process| process.start), Some(MonoNs(5)));
    }

    #[test]
    fn the_dead_are_forgotten_in_their_order() {
        let mut known = ProcessTable::new();
        for pid in 1..=(MAX_DEAD as u32 + 5) {
            known.apply(&fork(1, 1_000_000, (pid, pid)));
            known.apply(&exit(2, pid, pid, 0));
        }
        assert!(known.process(Tgid(5)).is_none());
        assert!(known.process(Tgid(6)).is_some());
        assert_eq!(known.table.len(), MAX_DEAD);
    }

    #[test]
    fn a_capture_before_1_2_ends_a_process_with_its_first_thread_if_no_other_is_counted() {
        let end = |threads| {
            let usage = Usage { threads, ..Usage::default() };
            let mut entry = exit(2, 20, 20, 256);
            if let OwnedRecord::Event(occurrence) = &mut entry {
                occurrence.usage = Some(Box::new(usage));
            }
            processes(&[entry]).process(Tgid(20)).and_then(|process| process.end)
        };
        assert_eq!(end(0), Some((MonoNs(2), Some(WaitStatus::from_raw(256)))));
        assert_eq!(end(1), Some((MonoNs(2), None)));
    }
}
