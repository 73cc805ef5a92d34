//! Who is there, with whose threads and whose children: the tables agree.

use std::mem;
use std::sync::Arc;

use pmon_core::capture::{Details, Miss};
use pmon_core::{Task, Tgid, Tid};

use super::{Census, INIT};
use crate::join::size_of_details;
use crate::process::life::{Life, State, Thread};
use crate::process::{MAX_DETAILS_BYTES, MAX_PROCESSES, MAX_THREADS};

impl Census {
    /// The process of a task that does something, known from now on with that thread; `None` if there is no room.
    pub(super) fn alive(&mut self, task: Task) -> Option<&mut Life> {
        let now = self.now;
        if task.is_leader() && self.lives.get(&task.tgid).is_some_and(|life| life.exit.is_some()) {
            // It has ended: this is another one, whose fork was lost.
            self.remove(task.tgid);
        }
        self.entry(task.tgid)?;
        if !task.is_leader()
            && self.threads.get(&task.tid) != Some(&task.tgid)
            && (self.threads.len() < MAX_THREADS || self.threads.contains_key(&task.tid))
        {
            self.free(task.tid);
            self.threads.insert(task.tid, task.tgid);
            if let Some(life) = self.lives.get_mut(&task.tgid) {
                life.threads.insert(task.tid, Thread::default());
            }
        }
        self.touch(task.tgid);
        let life = self.lives.get_mut(&task.tgid)?;
        (life.heard, life.unborn) = (now, false);
        Some(life)
    }

    /// The process of that id, known from now on; `None` if there is no room.
    pub(super) fn entry(&mut self, pid: Tgid) -> Option<&mut Life> {
        if pid != Tgid(0) && !self.lives.contains_key(&pid) {
            self.insert(Life { pid, heard: self.now, ..Life::default() });
        }
        self.lives.get_mut(&pid)
    }

    pub(super) fn insert(&mut self, life: Life) {
        let pid = life.pid;
        self.free(Tid(pid.0));
        if self.lives.len() < MAX_PROCESSES {
            self.lives.insert(pid, life);
            self.touch(pid);
        }
    }

    /// Whatever has this id has ended unheard.
    fn free(&mut self, id: Tid) {
        self.remove(Tgid(id.0));
        let Some(tgid) = self.threads.remove(&id) else { return };
        self.touch(tgid);
        if let Some(life) = self.lives.get_mut(&tgid) {
            life.threads.remove(&id);
            if life.state() == State::Zombie {
                self.remove(tgid);
            }
        }
    }

    pub(super) fn remove(&mut self, pid: Tgid) {
        self.adopt(pid, None);
        self.corpse.take_if(|corpse| *corpse == pid);
        if let Some(life) = self.lives.remove(&pid) {
            for tid in life.threads.keys() {
                self.threads.remove(tid);
            }
            self.let_go(life.details);
            self.orphan(pid);
        }
    }

    /// The children of that process get another parent.
    pub(super) fn orphan(&mut self, pid: Tgid) {
        for child in self.children.get(&pid).cloned().unwrap_or_default() {
            self.adopt(child, Some(INIT).filter(|&init| init != pid));
        }
    }

    /// It is a child of that process now; 0 is nobody that is known.
    pub(super) fn adopt(&mut self, pid: Tgid, ppid: Option<Tgid>) {
        // No kernel says that somebody descends from itself; who goes up the tree must come to its top whatever a capture says.
        if ppid == Some(Tgid(0)) || ppid.is_some_and(|ppid| self.ancestry(ppid).any(|of| of == pid)) {
            return;
        }
        let Some(life) = self.lives.get_mut(&pid) else { return };
        let before = mem::replace(&mut life.ppid, ppid);
        if before == ppid {
            return;
        }
        if let Some(before) = before
            && let Some(children) = self.children.get_mut(&before)
        {
            children.remove(&pid);
            if children.is_empty() {
                self.children.remove(&before);
            }
        }
        if let Some(ppid) = ppid {
            self.children.entry(ppid).or_default().insert(pid);
        }
        self.touch(pid);
    }

    /// A process, its parent, and so on.
    fn ancestry(&self, pid: Tgid) -> impl Iterator<Item = Tgid> {
        std::iter::successors(Some(pid), |pid| self.lives.get(pid)?.ppid)
    }

    /// Keeps details of a process; without its texts, if there is no room for them.
    pub(super) fn describe(&mut self, pid: Tgid, details: Option<Details>) {
        let details = details.map(|details| {
            if self.details_bytes + size_of_details(&details) <= MAX_DETAILS_BYTES {
                return details;
            }
            let Details { subject, ids, membership, .. } = details;
            Details { ids, membership, ..Details::missed(subject, Miss::TooLong) }
        });
        if let Some(life) = self.lives.get_mut(&pid) {
            self.details_bytes += details.as_ref().map_or(0, size_of_details);
            let before = mem::replace(&mut life.details, details.map(Arc::new));
            self.let_go(before);
        }
    }

    fn let_go(&mut self, details: Option<Arc<Details>>) {
        if let Some(details) = details.and_then(Arc::into_inner) {
            self.details_bytes = self.details_bytes.saturating_sub(size_of_details(&details));
        }
    }

    pub(super) fn touch(&mut self, pid: Tgid) {
        self.versions += 1;
        if let Some(life) = self.lives.get_mut(&pid) {
            life.version = self.versions;
        }
    }
}
