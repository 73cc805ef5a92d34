//! Who is there, with whose threads and whose children: the tables agree.

use std::mem;
use std::sync::Arc;

use pmon_core::capture::{Details, MissReason};
use pmon_core::{Task, Tgid, Tid};

use super::process::{LiveProcess, RunState, Thread};
use super::{INIT, LiveProcesses};
use crate::process::limits::{MAX_PROCESSES, MAX_THREADS};

/// Memory of a process without its details, in bytes: its state, name, usage, and table entries.
pub(super) const LIFE: usize = size_of::<LiveProcess>() + 144;
/// Memory of a thread other than the first, in bytes. Most multithreaded processes have several
/// threads, and names are shared.
pub(super) const THREAD: usize = 192;

impl LiveProcesses {
    /// Sets the memory limit in bytes. If more is in use, removes the texts of details, lowest
    /// process IDs first.
    pub(in crate::process) fn limit(&mut self, bytes: usize) {
        let is_less = std::mem::replace(&mut self.most_bytes, bytes) > bytes;
        if !is_less || self.bytes <= bytes {
            return;
        }
        let described: Vec<Tgid> =
            self.lives.values().filter(|life| life.details.is_some()).map(|life| life.pid).collect();
        for pid in described {
            if self.bytes <= self.most_bytes {
                break;
            }
            let details = self.lives.get(&pid).and_then(|life| life.details.as_deref().map(without_texts));
            // Remove the old details first, which makes room for the new ones.
            self.describe(pid, None);
            self.describe(pid, details);
            self.forgotten += 1;
        }
    }

    /// Returns whether that many processes may be visited, and deducts them from the credit.
    pub(super) fn affords(&mut self, processes: u64) -> bool {
        let left = self.credit.checked_sub(processes);
        self.credit = left.unwrap_or(self.credit);
        self.forgotten += u64::from(left.is_none());
        left.is_some()
    }

    /// Returns whether there is room for `bytes` more.
    fn has_room(&mut self, bytes: usize) -> bool {
        let has_room = self.bytes + bytes <= self.most_bytes;
        self.forgotten += u64::from(!has_room);
        has_room
    }

    /// The process of a task that does something, known from now on with that thread; `None` if there is no room.
    pub(super) fn alive(&mut self, task: Task) -> Option<&mut LiveProcess> {
        let now = self.now;
        if task.is_leader() && self.lives.get(&task.tgid).is_some_and(|life| life.exit.is_some()) {
            // It has ended: this is another one, whose fork was lost.
            self.remove(task.tgid);
        }
        self.entry(task.tgid)?;
        if !task.is_leader()
            && self.threads.get(&task.tid) != Some(&task.tgid)
            && (self.threads.len() < MAX_THREADS || self.threads.contains_key(&task.tid))
            && self.has_room(THREAD)
        {
            self.free(task.tid);
            self.threads.insert(task.tid, task.tgid);
            self.bytes += THREAD;
            if let Some(life) = self.lives.get_mut(&task.tgid) {
                life.threads.insert(task.tid, Thread::default());
            }
        }
        self.touch(task.tgid);
        let life = &mut **self.lives.get_mut(&task.tgid)?;
        (life.heard, life.unborn) = (now, false);
        Some(life)
    }

    /// The process of that id, known from now on; `None` if there is no room.
    pub(super) fn entry(&mut self, pid: Tgid) -> Option<&mut LiveProcess> {
        if pid != Tgid(0) && !self.lives.contains_key(&pid) {
            self.insert(LiveProcess { pid, heard: self.now, ..LiveProcess::default() });
        }
        self.lives.get_mut(&pid).map(|life| &mut **life)
    }

    pub(super) fn insert(&mut self, life: LiveProcess) {
        let pid = life.pid;
        self.free(Tid(pid.0));
        if self.lives.len() < MAX_PROCESSES && self.has_room(LIFE) {
            self.bytes += LIFE;
            self.lives.insert(pid, Box::new(life));
            self.touch(pid);
        }
    }

    /// Whatever has this id has ended unheard.
    fn free(&mut self, id: Tid) {
        self.remove(Tgid(id.0));
        let Some(tgid) = self.threads.remove(&id) else { return };
        self.bytes = self.bytes.saturating_sub(THREAD);
        self.touch(tgid);
        if let Some(life) = self.lives.get_mut(&tgid) {
            life.threads.remove(&id);
            if life.state() == RunState::Zombie {
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
            self.bytes = self.bytes.saturating_sub(LIFE + life.threads.len() * THREAD);
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
        // Walks up the tree must reach its top, even for a forged capture: a process never descends
        // from itself.
        if ppid == Some(Tgid(0))
            || ppid == Some(pid)
            || self.lives.get(&pid).is_none_or(|life| life.ppid == ppid)
        {
            return;
        }
        if let Some(ppid) = ppid
            && self.children.contains_key(&pid)
            && self.may_descend(ppid, pid)
        {
            return;
        }
        let Some(life) = self.lives.get_mut(&pid) else { return };
        let before = mem::replace(&mut life.ppid, ppid);
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

    /// Returns whether `pid` is `from` or descends from it, or whether the answer would take too
    /// long.
    fn may_descend(&mut self, pid: Tgid, from: Tgid) -> bool {
        let most = usize::try_from(self.credit).unwrap_or(usize::MAX);
        let ancestry = std::iter::successors(Some(pid), |pid| self.lives.get(pid)?.ppid);
        let mut walked = 0;
        let found = ancestry.take(most).inspect(|_| walked += 1).any(|of| of == from);
        self.affords(walked);
        if walked == most as u64 {
            self.forgotten += 1;
        }
        found || walked == most as u64
    }

    /// Keeps details of a process; without its texts, if there is no room for them.
    pub(super) fn describe(&mut self, pid: Tgid, details: Option<Details>) {
        let details = details.map(|details| {
            if self.bytes + details.memory() <= self.most_bytes {
                return details;
            }
            self.forgotten += 1;
            without_texts(&details)
        });
        if let Some(life) = self.lives.get_mut(&pid) {
            self.bytes += details.as_ref().map_or(0, |details| details.memory());
            let before = mem::replace(&mut life.details, details.map(Arc::new));
            self.let_go(before);
        }
    }

    fn let_go(&mut self, details: Option<Arc<Details>>) {
        if let Some(details) = details.and_then(Arc::into_inner) {
            self.bytes = self.bytes.saturating_sub(details.memory());
        }
    }

    pub(super) fn touch(&mut self, pid: Tgid) {
        self.versions += 1;
        if let Some(life) = self.lives.get_mut(&pid) {
            life.version = self.versions;
        }
    }
}

/// Copies details without the fields that take most of their memory.
fn without_texts(details: &Details) -> Details {
    let Details { subject, ids, context, .. } = *details;
    Details { ids, context, ..Details::missed(subject, MissReason::TooLong) }
}
