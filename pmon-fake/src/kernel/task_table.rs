//! The processes of the fake kernel.

use std::sync::Arc;

use pmon_core::wire::Comm;
use pmon_core::{Task, Tgid, Tid};

use crate::kernel::comm;
use crate::kernel::id_map::IdMap;

const INIT: Tgid = Tgid(1);
/// TaskTable that do not belong to the system have ids from here on, also after the highest was given out.
const FIRST: u32 = 300;
/// `kernel.pid_max` of a 64-bit system.
pub(crate) const PID_MAX: u32 = 4 << 20;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeProcess {
    /// Its parent.
    pub parent: Tgid,
    /// Real and effective user id, of its first thread.
    pub uid: (u32, u32),
    /// Real and effective group id, of its first thread.
    pub gid: (u32, u32),
    /// Its session, by its leader.
    pub session: Tgid,
    /// What it runs; empty if it has not run anything since it was there.
    pub exe: Arc<str>,
    /// The arguments of that, as `/proc/<pid>/cmdline` has them: each with a zero byte behind.
    pub cmdline: Arc<str>,
    /// By their ids.
    threads: Vec<(Tid, Comm)>,
    /// Real and effective user and group ids of threads that do not go by the process's: each thread has its own.
    ids: Vec<(Tid, Ids)>,
    /// Which of its parent's threads is its parent.
    parent_tid: Tid,
    kin: SiblingLinks,
}

/// Real and effective ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: (u32, u32),
    pub(crate) gid: (u32, u32),
}

/// A process's place among its siblings, as the kernel keeps it: a list, so that nobody has to be looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SiblingLinks {
    child: Option<Tgid>,
    before: Option<Tgid>,
    behind: Option<Tgid>,
}

impl FakeProcess {
    /// The arguments, one by one.
    pub fn args(&self) -> impl Iterator<Item = &str> {
        self.cmdline.split_terminator('\0')
    }

    /// Its threads.
    pub fn threads(&self) -> impl Iterator<Item = Tid> {
        self.threads.iter().map(|&(tid, _)| tid)
    }

    /// The name of one of them.
    pub fn comm(&self, tid: Tid) -> Option<Comm> {
        self.place(tid).ok().map(|at| self.threads[at].1)
    }

    /// `real_parent`: a thread, the one that made it, or after its end another of that process.
    pub(crate) fn real_parent(&self) -> Task {
        Task { tid: self.parent_tid, tgid: self.parent }
    }

    pub(crate) fn ids(&self, tid: Tid) -> Ids {
        let own = self.ids.iter().find(|(of, _)| *of == tid);
        own.map_or(Ids { uid: self.uid, gid: self.gid }, |&(_, ids)| ids)
    }

    /// Changes the ids of that thread; those of its first thread are the process's.
    pub(crate) fn set_ids(&mut self, task: Task, ids: Ids) {
        if task.tid.0 != task.tgid.0 {
            self.ids.retain(|(of, _)| *of != task.tid);
            self.ids.push((task.tid, ids));
            return;
        }
        let others: Vec<_> =
            self.threads().filter(|&tid| tid != task.tid).map(|tid| (tid, self.ids(tid))).collect();
        self.ids = others;
        (self.uid, self.gid) = (ids.uid, ids.gid);
    }

    #[inline]
    fn place(&self, tid: Tid) -> Result<usize, usize> {
        match self.threads[..] {
            [(only, _)] if only == tid => Ok(0),
            _ => self.threads.binary_search_by_key(&tid, |&(tid, _)| tid),
        }
    }
}

/// All that live.
#[derive(Debug)]
pub(crate) struct TaskTable {
    alive: IdMap<FakeProcess>,
    /// The ids of threads that are no process's first.
    threads: IdMap<Tgid>,
    next: u32,
    /// Memory for the next command line.
    cmdline: String,
}

impl TaskTable {
    pub(crate) fn new() -> Self {
        let mut alive = IdMap::default();
        alive.insert(INIT.0, process(INIT, Tgid(0), "init"));
        Self { alive, threads: IdMap::default(), next: FIRST, cmdline: String::new() }
    }

    pub(crate) fn boot(&mut self, comm: &str) -> Task {
        let id = self.id();
        self.add(id, FakeProcess { session: INIT, ..process(Tgid(id), INIT, comm) });
        Task::new(id, id)
    }

    pub(crate) fn fork(&mut self, parent: Task) -> Task {
        let id = self.id();
        let process = self.of(parent);
        let comm = process.comm(parent.tid).unwrap_or_default();
        let (Ids { uid, gid }, session) = (process.ids(parent.tid), process.session);
        let (exe, cmdline) = (process.exe.clone(), process.cmdline.clone());
        let (threads, ids) = (vec![(Tid(id), comm)], Vec::new());
        let (parent, parent_tid, kin) = (parent.tgid, parent.tid, SiblingLinks::default());
        self.add(id, FakeProcess { parent, uid, gid, session, exe, cmdline, threads, ids, parent_tid, kin });
        Task::new(id, id)
    }

    pub(crate) fn thread(&mut self, of: Task) -> Task {
        let id = self.id();
        let process = self.of_mut(of);
        let comm = process.comm(of.tid).unwrap_or_default();
        let at = process.place(Tid(id)).unwrap_or_else(|at| at);
        process.threads.insert(at, (Tid(id), comm));
        if let Some(&(_, ids)) = process.ids.iter().find(|(tid, _)| *tid == of.tid) {
            process.ids.push((Tid(id), ids));
        }
        self.threads.insert(id, of.tgid);
        Task { tid: Tid(id), tgid: of.tgid }
    }

    pub(crate) fn exec(&mut self, task: Task, path: &str, args: &[&str]) {
        let mut cmdline = std::mem::take(&mut self.cmdline);
        cmdline.clear();
        for arg in args {
            cmdline.push_str(arg);
            cmdline.push('\0');
        }
        let process = self.of_mut(task);
        process.exe = path.into();
        process.cmdline = cmdline.as_str().into();
        let name = path.rsplit('/').next().unwrap_or(path);
        let first = (Tid(task.tgid.0), comm(name));
        let Ids { uid, gid } = process.ids(task.tid);
        (process.uid, process.gid) = (uid, gid);
        process.ids.clear();
        let is_alone = process.threads.len() == 1 && task.tid.0 == task.tgid.0;
        match &mut process.threads[..] {
            [only] => *only = first,
            _ => {
                let threads = std::mem::replace(&mut process.threads, vec![first]);
                for (tid, _) in threads {
                    self.threads.remove(tid.0);
                }
            }
        }
        // Of one that was the only one.
        self.threads.remove(task.tid.0);
        self.cmdline = cmdline;
        if !is_alone {
            self.hand_on(task.tgid, None, Tid(task.tgid.0));
        }
    }

    pub(crate) fn rename(&mut self, task: Task, name: &str) -> Comm {
        let comm = comm(name);
        let process = self.of_mut(task);
        if let Ok(at) = process.place(task.tid) {
            process.threads[at].1 = comm;
        }
        comm
    }

    /// A thread ends; with the last one its process. Its children go to another thread of the process, or to `init`.
    pub(crate) fn end(&mut self, task: Task) {
        let process = self.of_mut(task);
        if let Ok(at) = process.place(task.tid) {
            process.threads.remove(at);
        }
        process.ids.retain(|(of, _)| *of != task.tid);
        // The process's first thread, or the one that has been there longest.
        let heir = process.threads().next();
        self.threads.remove(task.tid.0);
        match heir {
            Some(heir) => self.hand_on(task.tgid, Some(task.tid), heir),
            None => self.remove(task.tgid),
        }
    }

    /// The children of a thread, or of all threads of a process, get another thread of it as their parent.
    fn hand_on(&mut self, tgid: Tgid, of: Option<Tid>, heir: Tid) {
        let mut next = self.alive.get(tgid.0).and_then(|process| process.kin.child);
        while let Some(child) = next.and_then(|child| self.alive.get_mut(child.0)) {
            if of.is_none_or(|tid| child.parent_tid == tid) {
                child.parent_tid = heir;
            }
            next = child.kin.behind;
        }
    }

    /// The process of a task that exists.
    #[track_caller]
    #[inline]
    pub(crate) fn of(&self, task: Task) -> &FakeProcess {
        let process = self.alive.get(task.tgid.0).filter(|process| process.place(task.tid).is_ok());
        process.unwrap_or_else(|| panic!("no such task: {task:?}"))
    }

    #[track_caller]
    #[inline]
    pub(crate) fn of_mut(&mut self, task: Task) -> &mut FakeProcess {
        let process = self.alive.get_mut(task.tgid.0).filter(|process| process.place(task.tid).is_ok());
        process.unwrap_or_else(|| panic!("no such task: {task:?}"))
    }

    pub(crate) fn get(&self, tgid: Tgid) -> Option<&FakeProcess> {
        self.alive.get(tgid.0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tgid, &FakeProcess)> {
        self.alive.iter().map(|(id, process)| (Tgid(id), process))
    }

    /// A process comes to those of its parent.
    fn add(&mut self, id: u32, process: FakeProcess) {
        let parent = process.real_parent();
        self.alive.insert(id, process);
        self.adopt(Tgid(id), parent);
    }

    fn adopt(&mut self, child: Tgid, parent: Task) {
        let Some(of) = self.alive.get_mut(parent.tgid.0) else { return };
        let behind = of.kin.child.replace(child);
        if let Some(process) = self.alive.get_mut(child.0) {
            (process.parent, process.parent_tid) = (parent.tgid, parent.tid);
            (process.kin.before, process.kin.behind) = (None, behind);
        }
        if let Some(process) = behind.and_then(|behind| self.alive.get_mut(behind.0)) {
            process.kin.before = Some(child);
        }
    }

    fn remove(&mut self, tgid: Tgid) {
        let Some(FakeProcess { parent, kin, .. }) = self.alive.remove(tgid.0) else { return };
        let SiblingLinks { child, before, behind } = kin;
        match before {
            Some(before) => {
                if let Some(process) = self.alive.get_mut(before.0) {
                    process.kin.behind = behind;
                }
            }
            None => {
                if let Some(process) = self.alive.get_mut(parent.0) {
                    process.kin.child = behind;
                }
            }
        }
        if let Some(process) = behind.and_then(|behind| self.alive.get_mut(behind.0)) {
            process.kin.before = before;
        }
        let mut next = child;
        while let Some(orphan) = next {
            next = self.alive.get(orphan.0).and_then(|process| process.kin.behind);
            self.adopt(orphan, Task::new(INIT.0, INIT.0));
        }
    }

    /// An id that nothing has: the next one, as the kernel gives them out.
    fn id(&mut self) -> u32 {
        for _ in FIRST..PID_MAX {
            let id = self.next;
            self.next = if id + 1 >= PID_MAX { FIRST } else { id + 1 };
            if !self.alive.contains(id) && !self.threads.contains(id) {
                return id;
            }
        }
        panic!("all ids are taken: fork would fail with EAGAIN");
    }
}

fn process(tgid: Tgid, parent: Tgid, name: &str) -> FakeProcess {
    FakeProcess {
        parent,
        uid: (0, 0),
        gid: (0, 0),
        session: tgid,
        exe: "".into(),
        cmdline: "".into(),
        threads: vec![(Tid(tgid.0), comm(name))],
        ids: Vec::new(),
        parent_tid: Tid(parent.0),
        kin: SiblingLinks::default(),
    }
}

#[cfg(test)]
mod tests;
