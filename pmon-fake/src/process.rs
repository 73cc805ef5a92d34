//! The processes of the fake kernel.

use std::sync::Arc;

use pmon_core::wire::Comm;
use pmon_core::{Task, Tgid, Tid};

use crate::kernel::comm;
use crate::pids::Pids;

const INIT: Tgid = Tgid(1);
/// Processes that do not belong to the system have ids from here on, also after the highest was given out.
const FIRST: u32 = 300;
/// `kernel.pid_max` of a 64-bit system.
const PID_MAX: u32 = 4 << 20;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its parent.
    pub parent: Tgid,
    /// Real and effective user id.
    pub uid: (u32, u32),
    /// Real and effective group id.
    pub gid: (u32, u32),
    /// Its session, by its leader.
    pub session: Tgid,
    /// What it runs; empty if it has not run anything since it was there.
    pub exe: Arc<str>,
    /// The arguments of that, as `/proc/<pid>/cmdline` has them: each with a zero byte behind.
    pub cmdline: Arc<str>,
    /// By their ids.
    threads: Vec<(Tid, Comm)>,
    kin: Kin,
}

/// A process's place among its siblings, as the kernel keeps it: a list, so that nobody has to be looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kin {
    child: Option<Tgid>,
    before: Option<Tgid>,
    behind: Option<Tgid>,
}

impl Process {
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
pub(crate) struct Processes {
    alive: Pids<Process>,
    /// The ids of threads that are no process's first.
    threads: Pids<Tgid>,
    next: u32,
    /// Memory for the next command line.
    cmdline: String,
}

impl Processes {
    pub(crate) fn new() -> Self {
        let mut alive = Pids::default();
        alive.insert(INIT.0, process(INIT, Tgid(0), "init"));
        Self { alive, threads: Pids::default(), next: FIRST, cmdline: String::new() }
    }

    pub(crate) fn boot(&mut self, comm: &str) -> Task {
        let id = self.id();
        self.add(id, process(Tgid(id), INIT, comm));
        Task::new(id, id)
    }

    pub(crate) fn fork(&mut self, parent: Task) -> Task {
        let id = self.id();
        let process = self.of(parent);
        let comm = process.comm(parent.tid).unwrap_or_default();
        let Process { uid, gid, session, .. } = *process;
        let (exe, cmdline) = (process.exe.clone(), process.cmdline.clone());
        let (threads, kin) = (vec![(Tid(id), comm)], Kin::default());
        self.add(id, Process { parent: parent.tgid, uid, gid, session, exe, cmdline, threads, kin });
        Task::new(id, id)
    }

    pub(crate) fn thread(&mut self, of: Task) -> Task {
        let id = self.id();
        let process = self.of_mut(of);
        let comm = process.comm(of.tid).unwrap_or_default();
        let at = process.place(Tid(id)).unwrap_or_else(|at| at);
        process.threads.insert(at, (Tid(id), comm));
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
    }

    pub(crate) fn rename(&mut self, task: Task, name: &str) -> Comm {
        let comm = comm(name);
        let process = self.of_mut(task);
        if let Ok(at) = process.place(task.tid) {
            process.threads[at].1 = comm;
        }
        comm
    }

    /// A thread ends; with the last one its process, whose children go to `init`.
    pub(crate) fn end(&mut self, task: Task) {
        let process = self.of_mut(task);
        if let Ok(at) = process.place(task.tid) {
            process.threads.remove(at);
        }
        let is_last = process.threads.is_empty();
        self.threads.remove(task.tid.0);
        if is_last {
            self.remove(task.tgid);
        }
    }

    /// The process of a task that exists.
    #[track_caller]
    #[inline]
    pub(crate) fn of(&self, task: Task) -> &Process {
        let process = self.alive.get(task.tgid.0).filter(|process| process.place(task.tid).is_ok());
        process.unwrap_or_else(|| panic!("no such task: {task:?}"))
    }

    #[track_caller]
    #[inline]
    pub(crate) fn of_mut(&mut self, task: Task) -> &mut Process {
        let process = self.alive.get_mut(task.tgid.0).filter(|process| process.place(task.tid).is_ok());
        process.unwrap_or_else(|| panic!("no such task: {task:?}"))
    }

    pub(crate) fn get(&self, tgid: Tgid) -> Option<&Process> {
        self.alive.get(tgid.0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tgid, &Process)> {
        self.alive.iter().map(|(id, process)| (Tgid(id), process))
    }

    /// A process comes to those of its parent.
    fn add(&mut self, id: u32, process: Process) {
        let parent = process.parent;
        self.alive.insert(id, process);
        self.adopt(Tgid(id), parent);
    }

    fn adopt(&mut self, child: Tgid, parent: Tgid) {
        let Some(of) = self.alive.get_mut(parent.0) else { return };
        let behind = of.kin.child.replace(child);
        if let Some(process) = self.alive.get_mut(child.0) {
            process.parent = parent;
            (process.kin.before, process.kin.behind) = (None, behind);
        }
        if let Some(process) = behind.and_then(|behind| self.alive.get_mut(behind.0)) {
            process.kin.before = Some(child);
        }
    }

    fn remove(&mut self, tgid: Tgid) {
        let Some(Process { parent, kin, .. }) = self.alive.remove(tgid.0) else { return };
        let Kin { child, before, behind } = kin;
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
            self.adopt(orphan, INIT);
        }
    }

    /// An id that nothing has: the next one, as the kernel gives them out.
    fn id(&mut self) -> u32 {
        loop {
            let id = self.next;
            self.next = if id + 1 >= PID_MAX { FIRST } else { id + 1 };
            if !self.alive.contains(id) && !self.threads.contains(id) {
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
        exe: "".into(),
        cmdline: "".into(),
        threads: vec![(Tid(tgid.0), comm(name))],
        kin: Kin::default(),
    }
}

#[cfg(test)]
mod tests;
