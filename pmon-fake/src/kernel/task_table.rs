//! The processes and threads of the fake kernel, and the allocation of their ids.

use std::sync::Arc;

use pmon_core::wire::Comm;
use pmon_core::{Task, Tgid, Tid};

use super::id_map::IdMap;

mod ids;

const INIT: Tgid = Tgid(1);
/// The lowest id given out after ids have wrapped (`RESERVED_PIDS`), and the first one given out.
const FIRST_ID: u32 = 300;
/// `kernel.pid_max` of a 64-bit system.
pub(crate) const PID_MAX: u32 = 4 << 20;

/// A process of the fake kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeProcess {
    /// The parent process.
    pub parent: Tgid,
    /// Real and effective user id of the first thread.
    pub uid: (u32, u32),
    /// Real and effective group id of the first thread.
    pub gid: (u32, u32),
    /// The session, named by its leader.
    pub session: Tgid,
    /// The path of the last `execve`, inherited by `fork`; empty without one.
    pub exe: Arc<str>,
    /// The arguments of the last `execve`, each followed by a zero byte, as in
    /// `/proc/<pid>/cmdline`.
    pub cmdline: Arc<str>,
    /// The threads and their names, in the order of their ids.
    threads: Vec<(Tid, Comm)>,
    /// The ids of the threads that differ from those of the first thread: each thread has its own.
    ids: Vec<(Tid, CredentialIds)>,
    /// The thread of `parent` that is the parent.
    parent_tid: Tid,
    links: FamilyLinks,
}

/// The real and effective ids of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CredentialIds {
    pub(crate) uid: (u32, u32),
    pub(crate) gid: (u32, u32),
}

/// A process's links to its children and siblings, as in the kernel's lists, to avoid searching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FamilyLinks {
    first_child: Option<Tgid>,
    previous: Option<Tgid>,
    next: Option<Tgid>,
}

impl FakeProcess {
    /// Returns the arguments one by one.
    pub fn args(&self) -> impl Iterator<Item = &str> {
        self.cmdline.split_terminator('\0')
    }

    /// Returns the ids of the threads in ascending order.
    pub fn threads(&self) -> impl Iterator<Item = Tid> {
        self.threads.iter().map(|&(tid, _)| tid)
    }

    /// Returns the name of a thread.
    pub fn comm(&self, tid: Tid) -> Option<Comm> {
        self.thread_index(tid).ok().map(|index| self.threads[index].1)
    }

    /// Returns the name of the first thread, or after its end of the oldest one.
    pub(crate) fn name(&self) -> Option<&[u8]> {
        self.threads.first().map(|(_, comm)| comm.as_bytes())
    }

    /// Returns the parent as the kernel's `real_parent`: the thread that forked this process, or
    /// after its end another thread of the same process.
    pub(crate) fn real_parent(&self) -> Task {
        Task { tid: self.parent_tid, tgid: self.parent }
    }

    pub(crate) fn ids(&self, tid: Tid) -> CredentialIds {
        let own = self.ids.iter().find(|(owner, _)| *owner == tid);
        own.map_or(CredentialIds { uid: self.uid, gid: self.gid }, |&(_, ids)| ids)
    }

    /// Sets the ids of one thread; those of the other threads do not change.
    pub(crate) fn set_ids(&mut self, task: Task, ids: CredentialIds) {
        if task.tid.0 != task.tgid.0 {
            self.ids.retain(|(owner, _)| *owner != task.tid);
            self.ids.push((task.tid, ids));
            return;
        }
        let others: Vec<_> =
            self.threads().filter(|&tid| tid != task.tid).map(|tid| (tid, self.ids(tid))).collect();
        self.ids = others;
        (self.uid, self.gid) = (ids.uid, ids.gid);
    }

    /// Returns the index of a thread, or the index at which it would be inserted.
    #[inline]
    fn thread_index(&self, tid: Tid) -> Result<usize, usize> {
        match self.threads[..] {
            [(only, _)] if only == tid => Ok(0),
            _ => self.threads.binary_search_by_key(&tid, |&(tid, _)| tid),
        }
    }
}

/// All running processes and threads.
#[derive(Debug)]
pub(crate) struct TaskTable {
    processes: IdMap<FakeProcess>,
    /// The ids of threads other than their process's first.
    threads: IdMap<Tgid>,
    next_id: u32,
    /// A reused buffer for the next command line.
    cmdline: String,
}

impl TaskTable {
    pub(crate) fn new() -> Self {
        let mut processes = IdMap::default();
        processes.insert(INIT.0, process(INIT, Tgid(0), "init"));
        Self { processes, threads: IdMap::default(), next_id: FIRST_ID, cmdline: String::new() }
    }

    pub(crate) fn add_process(&mut self, comm: &str) -> Task {
        let id = self.allocate_id();
        self.add(id, FakeProcess { session: INIT, ..process(Tgid(id), INIT, comm) });
        Task::new(id, id)
    }

    pub(crate) fn fork(&mut self, parent: Task) -> Task {
        let id = self.allocate_id();
        let process = self.process_of(parent);
        let comm = process.comm(parent.tid).unwrap_or_default();
        let (CredentialIds { uid, gid }, session) = (process.ids(parent.tid), process.session);
        let (exe, cmdline) = (process.exe.clone(), process.cmdline.clone());
        let (threads, ids) = (vec![(Tid(id), comm)], Vec::new());
        let (parent, parent_tid, links) = (parent.tgid, parent.tid, FamilyLinks::default());
        self.add(
            id,
            FakeProcess { parent, uid, gid, session, exe, cmdline, threads, ids, parent_tid, links },
        );
        Task::new(id, id)
    }

    pub(crate) fn clone_thread(&mut self, creator: Task) -> Task {
        let id = self.allocate_id();
        let process = self.process_of_mut(creator);
        let comm = process.comm(creator.tid).unwrap_or_default();
        let index = process.thread_index(Tid(id)).unwrap_or_else(|index| index);
        process.threads.insert(index, (Tid(id), comm));
        if let Some(&(_, ids)) = process.ids.iter().find(|(tid, _)| *tid == creator.tid) {
            process.ids.push((Tid(id), ids));
        }
        self.threads.insert(id, creator.tgid);
        Task { tid: Tid(id), tgid: creator.tgid }
    }

    /// Replaces the program of a process and ends all its threads but one, which becomes the first
    /// thread.
    pub(crate) fn exec(&mut self, task: Task, path: &str, args: &[&str]) {
        let mut cmdline = std::mem::take(&mut self.cmdline);
        cmdline.clear();
        for arg in args {
            cmdline.push_str(arg);
            cmdline.push('\0');
        }
        let process = self.process_of_mut(task);
        process.exe = path.into();
        process.cmdline = cmdline.as_str().into();
        let name = path.rsplit('/').next().unwrap_or(path);
        let first = (Tid(task.tgid.0), comm(name));
        let CredentialIds { uid, gid } = process.ids(task.tid);
        (process.uid, process.gid) = (uid, gid);
        process.ids.clear();
        let is_only_thread = process.threads.len() == 1 && task.tid.0 == task.tgid.0;
        match &mut process.threads[..] {
            [only] => *only = first,
            _ => {
                let threads = std::mem::replace(&mut process.threads, vec![first]);
                for (tid, _) in threads {
                    self.threads.remove(tid.0);
                }
            }
        }
        // The match does not remove the id of a single thread that is not the first.
        self.threads.remove(task.tid.0);
        self.cmdline = cmdline;
        if !is_only_thread {
            self.reparent_children(task.tgid, None, Tid(task.tgid.0));
        }
    }

    pub(crate) fn rename(&mut self, task: Task, name: &str) -> Comm {
        let comm = comm(name);
        let process = self.process_of_mut(task);
        if let Ok(index) = process.thread_index(task.tid) {
            process.threads[index].1 = comm;
        }
        comm
    }

    /// Ends a thread, and with its last thread the process.
    ///
    /// The thread's children are reparented to another thread of the process, or to `init`.
    pub(crate) fn end_thread(&mut self, task: Task) {
        let process = self.process_of_mut(task);
        if let Ok(index) = process.thread_index(task.tid) {
            process.threads.remove(index);
        }
        process.ids.retain(|(owner, _)| *owner != task.tid);
        // The first thread, or after its end the oldest one.
        let new_parent = process.threads().next();
        self.threads.remove(task.tid.0);
        match new_parent {
            Some(new_parent) => self.reparent_children(task.tgid, Some(task.tid), new_parent),
            None => self.remove(task.tgid),
        }
    }

    /// Reparents the children of one thread of a process, or of all with `None`, to another thread
    /// of that process.
    fn reparent_children(&mut self, tgid: Tgid, old_parent: Option<Tid>, new_parent: Tid) {
        let mut next = self.processes.get(tgid.0).and_then(|process| process.links.first_child);
        while let Some(child) = next.and_then(|child| self.processes.get_mut(child.0)) {
            if old_parent.is_none_or(|tid| child.parent_tid == tid) {
                child.parent_tid = new_parent;
            }
            next = child.links.next;
        }
    }

    /// Returns the process of a task that exists.
    #[track_caller]
    #[inline]
    pub(crate) fn process_of(&self, task: Task) -> &FakeProcess {
        let process =
            self.processes.get(task.tgid.0).filter(|process| process.thread_index(task.tid).is_ok());
        process.unwrap_or_else(|| panic!("no such task: {task:?}"))
    }

    #[track_caller]
    #[inline]
    pub(crate) fn process_of_mut(&mut self, task: Task) -> &mut FakeProcess {
        let process =
            self.processes.get_mut(task.tgid.0).filter(|process| process.thread_index(task.tid).is_ok());
        process.unwrap_or_else(|| panic!("no such task: {task:?}"))
    }

    pub(crate) fn get(&self, tgid: Tgid) -> Option<&FakeProcess> {
        self.processes.get(tgid.0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tgid, &FakeProcess)> {
        self.processes.iter().map(|(id, process)| (Tgid(id), process))
    }

    /// Inserts a process and links it to its parent.
    fn add(&mut self, id: u32, process: FakeProcess) {
        let parent = process.real_parent();
        self.processes.insert(id, process);
        self.link_to_parent(Tgid(id), parent);
    }

    fn link_to_parent(&mut self, child: Tgid, parent: Task) {
        let Some(parent_process) = self.processes.get_mut(parent.tgid.0) else { return };
        let next = parent_process.links.first_child.replace(child);
        if let Some(process) = self.processes.get_mut(child.0) {
            (process.parent, process.parent_tid) = (parent.tgid, parent.tid);
            (process.links.previous, process.links.next) = (None, next);
        }
        if let Some(process) = next.and_then(|next| self.processes.get_mut(next.0)) {
            process.links.previous = Some(child);
        }
    }

    fn remove(&mut self, tgid: Tgid) {
        let Some(FakeProcess { parent, links, .. }) = self.processes.remove(tgid.0) else { return };
        let FamilyLinks { first_child, previous, next } = links;
        if let Some(process) = self.processes.get_mut(previous.unwrap_or(parent).0) {
            let link =
                if previous.is_some() { &mut process.links.next } else { &mut process.links.first_child };
            *link = next;
        }
        if let Some(process) = next.and_then(|next| self.processes.get_mut(next.0)) {
            process.links.previous = previous;
        }
        let mut next_orphan = first_child;
        while let Some(orphan) = next_orphan {
            next_orphan = self.processes.get(orphan.0).and_then(|process| process.links.next);
            self.link_to_parent(orphan, Task::new(INIT.0, INIT.0));
        }
    }

    /// Returns the next free id; as in the kernel, ids ascend and wrap at [`PID_MAX`].
    fn allocate_id(&mut self) -> u32 {
        for _ in FIRST_ID..PID_MAX {
            let id = self.next_id;
            self.next_id = if id + 1 >= PID_MAX { FIRST_ID } else { id + 1 };
            if self.processes.get(id).is_none() && self.threads.get(id).is_none() {
                return id;
            }
        }
        panic!("all ids are taken: fork would fail with EAGAIN");
    }
}

/// Returns a thread's name as the kernel stores it: up to the first zero byte, and at most 15
/// bytes.
fn comm(name: &str) -> Comm {
    let mut comm = Comm::default();
    let name = name.split('\0').next().unwrap_or(name);
    let kept = name.len().min(comm.0.len() - 1);
    comm.0[..kept].copy_from_slice(&name.as_bytes()[..kept]);
    comm
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
        links: FamilyLinks::default(),
    }
}

#[cfg(test)]
mod tests;
