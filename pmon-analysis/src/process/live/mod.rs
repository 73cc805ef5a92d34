//! All processes that are there, in detail.

mod index;
mod process;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pmon_core::capture::{ClockAnchor, Details, DetailsSubject, Meta, Snapshot, Usage};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{MonoNs, Task, Tgid, Tid};

use self::process::{lasting, merged};
use super::limits::MAX_BYTES;
use super::thread_group::ProcessExit;
use crate::timeline::OwnedRecord;

pub use self::process::{LiveProcess, RunState, Thread};

/// The parent of those whose own has ended.
const INIT: Tgid = Tgid(1);

/// The processes that are there.
///
/// A process that has ended is a zombie until the next event, whoever's that is. The capture does not say when its parent waited for it;
/// nearly always that is at once, and whoever is told of the exit finds it gone or about to go.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveProcesses {
    ticks_per_second: u64,
    clock: ClockAnchor,
    now: MonoNs,
    /// All processes, including zombies. Each is boxed, because tree nodes are only half full.
    lives: BTreeMap<Tgid, Box<LiveProcess>>,
    /// ProcessTable by their threads beside the first.
    threads: HashMap<Tid, Tgid>,
    children: HashMap<Tgid, BTreeSet<Tgid>>,
    /// The zombie that is gone with the next event.
    corpse: Option<Tgid>,
    versions: u64,
    /// The number of the scan at hand, and how many processes it has seen.
    scan: u64,
    scanned: u32,
    /// Bytes of memory in use.
    bytes: usize,
    /// Maximum of `bytes`.
    most_bytes: usize,
    /// Number of processes that may still be visited in addition to those that entries name. Each
    /// entry adds to it, so that a capture takes time proportional to its length, whatever its
    /// processes are.
    credit: u64,
    forgotten: u64,
}

/// Number of extra processes that each entry permits to visit, for example on the way to the oldest
/// ancestor, or to find those that a scan missed.
const CREDIT: u64 = 64;
/// Number of extra processes that may be visited before the first entry.
const FIRST_CREDIT: u64 = 1 << 20;

impl LiveProcesses {
    pub(super) fn new(meta: &Meta) -> Self {
        let ticks_per_second = u64::from(meta.ticks_per_second);
        Self {
            ticks_per_second,
            clock: meta.start,
            now: meta.start.mono,
            scan: 1,
            most_bytes: MAX_BYTES,
            credit: FIRST_CREDIT,
            ..Self::default()
        }
    }

    /// Returns how many items were dropped for lack of memory or time.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Applies the next entry. `exit` is the effect of an exit event on its process.
    pub(super) fn apply(&mut self, entry: &OwnedRecord, exit: Option<ProcessExit>) {
        self.credit = self.credit.saturating_add(CREDIT);
        match entry {
            OwnedRecord::Event(occurrence) => {
                if let Some(event) = &occurrence.event {
                    self.event(event, occurrence.details.as_deref(), exit);
                    self.used(event, occurrence.usage.as_deref());
                }
            }
            OwnedRecord::Details(details) => match details.subject {
                DetailsSubject::Exec { tgid, time } => self.late(tgid, time, details),
                DetailsSubject::Snapshot { tgid } => self.scanned(tgid, details),
            },
            OwnedRecord::Snapshot(snapshot) => self.complete(snapshot),
            OwnedRecord::Clock(anchor) => self.clock = *anchor,
            _ => {}
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LiveProcess> {
        let now = self.ticks(self.now);
        self.lives.values().map(|life| &**life).filter(move |life| is_there(life, now))
    }

    pub(super) fn get(&self, pid: Tgid) -> Option<&LiveProcess> {
        self.lives.get(&pid).map(|life| &**life).filter(|life| is_there(life, self.ticks(self.now)))
    }

    pub(super) fn owner(&self, tid: Tid) -> Option<&LiveProcess> {
        self.get(*self.threads.get(&tid)?)
    }

    fn event(&mut self, event: &Event, details: Option<&Details>, exit: Option<ProcessExit>) {
        self.now = self.now.max(event.time);
        // When a thread other than the first execs, the first one exits before, and its ID stays in
        // use. When the first thread and another exit at the same time, the other's exit can be the
        // first to report the end of the process.
        let lives_on = |corpse| match event.body {
            EventBody::Exec { task } => task.tgid == corpse,
            EventBody::Exit { task, .. } => task.tgid == corpse && task.is_leader(),
            _ => false,
        };
        if let Some(corpse) = self.corpse.take_if(|corpse| !lives_on(*corpse)) {
            self.remove(corpse);
        }
        match event.body {
            EventBody::Fork { parent, child } if child.is_leader() => {
                self.fork(event.time, parent, child.tgid)
            }
            EventBody::Fork { parent, child } => self.thread(event.time, parent, child),
            EventBody::Exec { task } => self.exec(event.time, task.tgid, details),
            EventBody::Comm { task, comm } => self.rename(task, comm.as_bytes()),
            EventBody::Exit { task, code, parent, .. } => self.exit((task, code), parent, exit),
            EventBody::Uid { task, real, effective } => {
                self.change(task, |life| life.uid = Some((real, effective)));
            }
            EventBody::Gid { task, real, effective } => {
                self.change(task, |life| life.gid = Some((real, effective)));
            }
            EventBody::Sid { task } => {
                // Any thread makes it of its process.
                if let Some(life) = self.alive(task) {
                    (life.session, life.group) = (Some(task.tgid.0), Some(task.tgid.0));
                }
            }
            EventBody::Ptrace { task, tracer } => self.change(task, |life| {
                life.tracer = (tracer.tgid != Tgid(0)).then_some(tracer.tgid);
            }),
            _ => {}
        }
    }

    fn fork(&mut self, time: MonoNs, parent: Task, child: Tgid) {
        let start_ticks = self.ticks(time);
        let of = self.entry(parent.tgid).map(|life| {
            (life.heard, life.unborn) = (time, false);
            &*life
        });
        let fresh =
            LiveProcess { pid: child, start: Some(time), start_ticks, heard: time, ..LiveProcess::default() };
        let life = match of {
            Some(of) => LiveProcess {
                // It is named as the thread that forked.
                name: of.threads.get(&parent.tid).and_then(|of| of.name.clone()).or_else(|| of.name.clone()),
                details: of.details.clone(),
                uid: of.uid,
                gid: of.gid,
                session: of.session,
                group: of.group,
                exec: of.exec,
                ..fresh
            },
            None => fresh,
        };
        self.insert(life);
        self.adopt(child, Some(parent.tgid));
    }

    fn thread(&mut self, time: MonoNs, parent: Task, child: Task) {
        let start_ticks = self.ticks(time);
        self.alive(child);
        if let Some(life) = self.lives.get_mut(&child.tgid)
            && let Some(thread) = life.threads.get_mut(&child.tid)
        {
            *thread = Thread { name: life.name.clone(), start_ticks };
        }
        // The parent is that of the process.
        self.adopt(child.tgid, Some(parent.tgid));
    }

    fn exec(&mut self, time: MonoNs, pid: Tgid, details: Option<&Details>) {
        let start_ticks = details.and_then(|details| details.start_ticks);
        if self.lives.get(&pid).is_some_and(|life| life.is_other(start_ticks)) {
            self.remove(pid);
        }
        self.corpse.take_if(|corpse| *corpse == pid);
        let Some(life) = self.entry(pid) else { return };
        life.exec(time, details);
        life.heard = time;
        life.unborn = false;
        let others = std::mem::take(&mut life.threads);
        let before = life.details.as_deref().map(lasting);
        for tid in others.keys() {
            self.threads.remove(tid);
        }
        self.bytes = self.bytes.saturating_sub(others.len() * index::THREAD);
        let all = match (details, before) {
            (Some(details), Some(before)) => Some(merged(details, &before)),
            (details, before) => details.cloned().or(before),
        };
        self.describe(pid, all);
        if let (Some(life), Some(details)) = (self.lives.get_mut(&pid), details) {
            life.fill(details);
        }
        self.touch(pid);
        if let Some(ppid) = details.and_then(|details| details.ppid) {
            self.adopt(pid, Some(Tgid(ppid)));
        }
    }

    fn rename(&mut self, task: Task, name: &[u8]) {
        let Some(life) = self.alive(task) else { return };
        match life.threads.get_mut(&task.tid) {
            Some(thread) => thread.name = Some(name.into()),
            None if task.is_leader() => life.name = Some(name.into()),
            None => {}
        }
    }

    fn exit(&mut self, (task, code): (Task, u32), parent: Option<Task>, exit: Option<ProcessExit>) {
        let now = self.now;
        if task.is_leader() {
            // One that was not known had its time.
            let Some(life) = self.entry(task.tgid) else { return };
            (life.exit, life.heard, life.unborn) = (Some(code), now, false);
        } else {
            // Of a process that has ended, threads that were not known end later.
            let Some(life) = self.lives.get_mut(&task.tgid) else { return };
            life.heard = now;
            if life.threads.remove(&task.tid).is_some() {
                self.threads.remove(&task.tid);
                self.bytes = self.bytes.saturating_sub(index::THREAD);
            }
        }
        match exit {
            Some(ProcessExit::Ended { status }) => self.over(task.tgid, status),
            Some(ProcessExit::GoesOn) if task.is_leader() && self.corpse != Some(task.tgid) => {
                if let Some(life) = self.lives.get_mut(&task.tgid) {
                    life.goes_on = true;
                }
            }
            _ => {}
        }
        self.touch(task.tgid);
        if let Some(parent) = parent {
            self.adopt(task.tgid, Some(parent.tgid));
        }
        if self.lives.get(&task.tgid).is_some_and(|life| life.state() == RunState::Zombie) {
            self.corpse = Some(task.tgid);
            self.orphan(task.tgid);
        }
    }

    /// Marks a process as ended and removes its threads; some of them may have been unknown.
    fn over(&mut self, pid: Tgid, status: u32) {
        let Some(life) = self.lives.get_mut(&pid) else { return };
        (life.exit, life.goes_on) = (Some(status), false);
        for tid in std::mem::take(&mut life.threads).into_keys() {
            self.threads.remove(&tid);
            self.bytes = self.bytes.saturating_sub(index::THREAD);
        }
    }

    /// What the process of a first thread has used until its exit.
    fn used(&mut self, event: &Event, usage: Option<&Usage>) {
        if let (EventBody::Exit { task, .. }, Some(usage)) = (event.body, usage)
            && let Some(life) = self.lives.get_mut(&task.tgid).filter(|_| task.is_leader())
        {
            life.usage = Some(Box::new(*usage));
        }
    }

    /// A change to a process by its first thread; another one only shows that it is there.
    fn change(&mut self, task: Task, change: impl FnOnce(&mut LiveProcess)) {
        if let Some(life) = self.alive(task)
            && task.is_leader()
        {
            change(life);
        }
    }

    /// Details of an exec that come after it.
    fn late(&mut self, pid: Tgid, time: MonoNs, details: &Details) {
        if self.lives.get(&pid).is_some_and(|life| life.exec == Some(time)) {
            self.fill(pid, details);
        }
    }

    fn scanned(&mut self, pid: Tgid, details: &Details) {
        self.scanned += 1;
        if self.lives.get(&pid).is_some_and(|life| life.is_other(details.start_ticks)) {
            self.remove(pid);
        }
        // A scan takes time: it may see what is forked only behind the event at hand.
        let (scan, unborn) = (self.scan, !self.lives.contains_key(&pid));
        let Some(life) = self.entry(pid) else { return };
        life.unborn |= unborn;
        life.scan = scan;
        if life.exit.is_none() {
            self.fill(pid, details);
        }
    }

    /// A scan is complete: what it did not see, and was not heard of since, has ended unheard.
    fn complete(&mut self, snapshot: &Snapshot) {
        let scan = self.scan;
        let is_missing = |life: &LiveProcess| life.scan != scan && life.heard < snapshot.started;
        if self.scanned == snapshot.processes && self.affords(self.lives.len() as u64) {
            let missing: Vec<_> =
                self.lives.values().filter(|life| is_missing(life)).map(|life| life.pid).collect();
            for pid in missing {
                self.remove(pid);
            }
        }
        self.scan += 1;
        self.scanned = 0;
    }

    fn fill(&mut self, pid: Tgid, details: &Details) {
        let Some(life) = self.lives.get_mut(&pid) else { return };
        life.fill(details);
        let (ppid, all) = (life.ppid, life.details.as_deref().map(|known| merged(known, details)));
        self.describe(pid, Some(all.unwrap_or_else(|| details.clone())));
        self.touch(pid);
        if let (None, Some(ppid)) = (ppid, details.ppid) {
            self.adopt(pid, Some(Tgid(ppid)));
        }
    }

    /// Clock ticks since boot at that time, if the capture says how long they are.
    fn ticks(&self, time: MonoNs) -> Option<u64> {
        let since_boot = i128::from(time.0) + i128::from(self.clock.boot_ns) - i128::from(self.clock.mono.0);
        let ticks = since_boot * i128::from(self.ticks_per_second) / 1_000_000_000;
        (self.ticks_per_second != 0).then_some(u64::try_from(ticks).ok()?)
    }
}

/// Whether it is there at that time, in clock ticks since boot: what only a scan told of has been there since its start.
fn is_there(life: &LiveProcess, now: Option<u64>) -> bool {
    !life.unborn || life.start_ticks.zip(now).is_none_or(|(start, now)| start <= now)
}

#[cfg(test)]
mod tests;
