//! The processes of the fake kernel.

use std::collections::BTreeMap;

use pmon_core::wire::Comm;
use pmon_core::{Task, Tgid, Tid};

use crate::kernel::comm;

const INIT: Tgid = Tgid(1);
/// Processes that do not belong to the system have ids from here on, also after the highest was given out.
const FIRST: u32 = 300;
/// `kernel.pid_max` of a 64-bit system.
pub(crate) const PID_MAX: u32 = 4 << 20;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its parent.
    pub parent: Tgid,
    /// Real and effective user id, of its first thread.
    pub uid: (u32, u32),
    /// Real and effective group id, of its first thread.
    pub gid: (u32, u32),
    /// Its session, by its leader.
    pub session: Tgid,
    /// What it runs; empty if it has not run anything since it was there.
    pub exe: String,
    /// The arguments of that.
    pub args: Vec<String>,
    threads: BTreeMap<Tid, Comm>,
    /// Which of its parent's threads is its parent.
    parent_tid: Tid,
    /// Real and effective user and group ids of threads that do not go by the process's: each thread has its own.
    ids: BTreeMap<Tid, Ids>,
}

/// Real and effective ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: (u32, u32),
    pub(crate) gid: (u32, u32),
}

impl Process {
    /// Its threads.
    pub fn threads(&self) -> impl Iterator<Item = Tid> {
        self.threads.keys().copied()
    }

    /// The name of one of them.
    pub fn comm(&self, tid: Tid) -> Option<Comm> {
        self.threads.get(&tid).copied()
    }

    /// `real_parent`: a thread, the one that made it, or after its end another of that process.
    pub(crate) fn real_parent(&self) -> Task {
        Task { tid: self.parent_tid, tgid: self.parent }
    }

    pub(crate) fn ids(&self, tid: Tid) -> Ids {
        self.ids.get(&tid).copied().unwrap_or(Ids { uid: self.uid, gid: self.gid })
    }

    /// Changes the ids of that thread; those of its first thread are the process's.
    pub(crate) fn set_ids(&mut self, task: Task, ids: Ids) {
        if task.tid.0 != task.tgid.0 {
            self.ids.insert(task.tid, ids);
            return;
        }
        let before = self.ids(task.tid);
        for &tid in self.threads.keys().filter(|&&tid| tid != task.tid) {
            self.ids.entry(tid).or_insert(before);
        }
        (self.uid, self.gid) = (ids.uid, ids.gid);
    }
}

/// All that live.
#[derive(Debug)]
pub(crate) struct Processes {
    alive: BTreeMap<Tgid, Process>,
    /// The ids of threads that are no process's first.
    threads: BTreeMap<Tid, Tgid>,
    next: u32,
}

impl Processes {
    pub(crate) fn new() -> Self {
        let mut this = Self { alive: BTreeMap::new(), threads: BTreeMap::new(), next: FIRST };
        this.alive.insert(INIT, process(INIT, Tgid(0), "init"));
        this
    }

    pub(crate) fn boot(&mut self, comm: &str) -> Task {
        let tgid = Tgid(self.id());
        self.alive.insert(tgid, Process { session: INIT, ..process(tgid, INIT, comm) });
        Task::new(tgid.0, tgid.0)
    }

    pub(crate) fn fork(&mut self, parent: Task) -> Task {
        let mut child = self.of(parent).clone();
        let comm = child.threads.get(&parent.tid).copied().unwrap_or_default();
        let id = self.id();
        let Ids { uid, gid } = child.ids(parent.tid);
        (child.uid, child.gid) = (uid, gid);
        child.ids.clear();
        (child.parent, child.parent_tid) = (parent.tgid, parent.tid);
        child.threads = BTreeMap::from([(Tid(id), comm)]);
        self.alive.insert(Tgid(id), child);
        Task::new(id, id)
    }

    pub(crate) fn thread(&mut self, of: Task) -> Task {
        let id = self.id();
        let process = self.of_mut(of);
        let comm = process.threads.get(&of.tid).copied().unwrap_or_default();
        process.threads.insert(Tid(id), comm);
        if let Some(&ids) = process.ids.get(&of.tid) {
            process.ids.insert(Tid(id), ids);
        }
        self.threads.insert(Tid(id), of.tgid);
        Task { tid: Tid(id), tgid: of.tgid }
    }

    pub(crate) fn exec(&mut self, task: Task, path: &str, args: &[&str]) {
        let process = self.of_mut(task);
        path.clone_into(&mut process.exe);
        process.args = args.iter().map(|&arg| arg.to_owned()).collect();
        let name = path.rsplit('/').next().unwrap_or(path);
        let tids = std::mem::replace(&mut process.threads, BTreeMap::from([(Tid(task.tgid.0), comm(name))]));
        let Ids { uid, gid } = process.ids(task.tid);
        (process.uid, process.gid) = (uid, gid);
        process.ids.clear();
        self.threads.retain(|tid, _| !tids.contains_key(tid));
        if tids.len() > 1 || task.tid.0 != task.tgid.0 {
            self.hand_on(task.tgid, |_| true, Task::new(task.tgid.0, task.tgid.0));
        }
    }

    pub(crate) fn rename(&mut self, task: Task, name: &str) -> Comm {
        let comm = comm(name);
        self.of_mut(task).threads.insert(task.tid, comm);
        comm
    }

    /// A thread ends; with the last one its process. Its children go to another thread of the process, or to `init`.
    pub(crate) fn end(&mut self, task: Task) {
        let process = self.of_mut(task);
        process.threads.remove(&task.tid);
        process.ids.remove(&task.tid);
        // The process's first thread, or the one that has been there longest.
        let heir = process.threads().next();
        self.threads.remove(&task.tid);
        match heir {
            Some(tid) => {
                self.hand_on(task.tgid, |child| child.parent_tid == task.tid, Task { tid, tgid: task.tgid })
            }
            None => {
                self.alive.remove(&task.tgid);
                self.hand_on(task.tgid, |_| true, Task::new(INIT.0, INIT.0));
            }
        }
    }

    /// Children of a process get another parent.
    fn hand_on(&mut self, from: Tgid, which: impl Fn(&Process) -> bool, to: Task) {
        for child in self.alive.values_mut().filter(|child| child.parent == from && which(child)) {
            (child.parent, child.parent_tid) = (to.tgid, to.tid);
        }
    }

    /// The process of a task that exists.
    #[track_caller]
    pub(crate) fn of(&self, task: Task) -> &Process {
        let process = self.alive.get(&task.tgid).filter(|process| process.threads.contains_key(&task.tid));
        process.unwrap_or_else(|| panic!("no such task: {task:?}"))
    }

    #[track_caller]
    pub(crate) fn of_mut(&mut self, task: Task) -> &mut Process {
        self.of(task);
        self.alive.get_mut(&task.tgid).expect("it was there a moment ago")
    }

    pub(crate) fn get(&self, tgid: Tgid) -> Option<&Process> {
        self.alive.get(&tgid)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tgid, &Process)> {
        self.alive.iter().map(|(&tgid, process)| (tgid, process))
    }

    /// An id that nothing has: the next one, as the kernel gives them out.
    fn id(&mut self) -> u32 {
        loop {
            let id = self.next;
            self.next = if id + 1 >= PID_MAX { FIRST } else { id + 1 };
            if !self.alive.contains_key(&Tgid(id)) && !self.threads.contains_key(&Tid(id)) {
                return id;
            }
        }
    }
}

fn process(tgid: Tgid, parent: Tgid, name: &str) -> Process {
    Process {
        parent,
        uid: (0, 0),
        gid: (0, 0),
        session: tgid,
        exe: String::new(),
        args: Vec::new(),
        threads: BTreeMap::from([(Tid(tgid.0), comm(name))]),
        parent_tid: Tid(parent.0),
        ids: BTreeMap::new(),
    }
}
