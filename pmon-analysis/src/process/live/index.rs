//! Adds, removes and reparents processes, and keeps the tables of [`LiveProcesses`] consistent.

use std::mem;
use std::sync::Arc;

use pmon_core::capture::{Details, MissReason};
use pmon_core::{Task, Tgid, Tid};

use super::process::{LiveProcess, RunState, Thread};
use super::{INIT, LiveProcesses};
use crate::process::limits::{MAX_PROCESSES, MAX_THREADS};

/// Memory of a process without its details, in bytes: its state, name, and table entries. Only
/// processes whose first thread has exited have a usage.
pub(super) const PROCESS_BYTES: usize = size_of::<LiveProcess>() + 144;
/// Memory of a thread other than the first, in bytes. Most multithreaded processes have several
/// threads, and names are shared.
pub(super) const THREAD_BYTES: usize = 192;

impl LiveProcesses {
    /// Sets the memory limit in bytes. If more is in use, removes the texts of details, lowest
    /// process IDs first.
    pub(in crate::process) fn set_memory_limit(&mut self, bytes: usize) {
        self.max_bytes = bytes;
        if self.bytes <= bytes {
            return;
        }
        for pid in self.pids_where(|process| process.details.is_some()) {
            if self.bytes <= self.max_bytes {
                break;
            }
            let details =
                self.processes.get(&pid).and_then(|process| process.details.as_deref().map(without_texts));
            // Remove the old details first, which makes room for the new ones.
            self.set_details(pid, None);
            self.set_details(pid, details);
            self.dropped += 1;
        }
    }

    /// Returns the IDs of the processes that satisfy a condition.
    pub(super) fn pids_where(&self, condition: impl Fn(&LiveProcess) -> bool) -> Vec<Tgid> {
        self.processes.values().filter(|process| condition(process)).map(|process| process.pid).collect()
    }

    /// Returns whether that many processes may be visited, and deducts them from the credit.
    pub(super) fn spend_credit(&mut self, processes: u64) -> bool {
        let left = self.credit.checked_sub(processes);
        self.credit = left.unwrap_or(self.credit);
        self.dropped += u64::from(left.is_none());
        left.is_some()
    }

    /// Returns whether there is room for `bytes` more.
    fn has_room(&mut self, bytes: usize) -> bool {
        let has_room = self.bytes + bytes <= self.max_bytes;
        self.dropped += u64::from(!has_room);
        has_room
    }

    /// Returns the process of a task that has an event, and adds the process and the thread first
    /// if they are unknown. Returns `None` if there is no room.
    pub(super) fn active_process(&mut self, task: Task) -> Option<&mut LiveProcess> {
        let now = self.now;
        if task.is_leader() && self.processes.get(&task.tgid).is_some_and(|process| process.exit.is_some()) {
            // The process has ended, so this is another one, whose fork was lost.
            self.remove(task.tgid);
        }
        self.get_or_insert(task.tgid)?;
        if !task.is_leader()
            && self.threads.get(&task.tid) != Some(&task.tgid)
            && (self.threads.len() < MAX_THREADS || self.threads.contains_key(&task.tid))
            && self.has_room(THREAD_BYTES)
        {
            self.release_id(task.tid);
            self.threads.insert(task.tid, task.tgid);
            self.bytes += THREAD_BYTES;
            if let Some(process) = self.processes.get_mut(&task.tgid) {
                process.threads.insert(task.tid, Thread::default());
            }
        }
        self.bump_version(task.tgid);
        let process = &mut **self.processes.get_mut(&task.tgid)?;
        (process.last_event, process.is_only_scanned) = (now, false);
        Some(process)
    }

    /// Returns the process with this ID, and adds it first if it is unknown. Returns `None` if
    /// there is no room.
    pub(super) fn get_or_insert(&mut self, pid: Tgid) -> Option<&mut LiveProcess> {
        if pid != Tgid(0) && !self.processes.contains_key(&pid) {
            self.insert(LiveProcess { pid, last_event: self.now, ..LiveProcess::default() });
        }
        self.processes.get_mut(&pid).map(|process| &mut **process)
    }

    pub(super) fn insert(&mut self, process: LiveProcess) {
        let pid = process.pid;
        self.release_id(Tid(pid.0));
        if self.processes.len() < MAX_PROCESSES && self.has_room(PROCESS_BYTES) {
            self.bytes += PROCESS_BYTES;
            self.processes.insert(pid, Box::new(process));
            self.bump_version(pid);
        }
    }

    /// Removes the process or thread that has this ID. Its exit is missing from the capture.
    fn release_id(&mut self, id: Tid) {
        self.remove(Tgid(id.0));
        let Some(tgid) = self.threads.remove(&id) else { return };
        self.bytes = self.bytes.saturating_sub(THREAD_BYTES);
        self.bump_version(tgid);
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.threads.remove(&id);
            if process.state() == RunState::Zombie {
                self.remove(tgid);
            }
        }
    }

    pub(super) fn remove(&mut self, pid: Tgid) {
        self.set_parent(pid, None);
        self.zombie.take_if(|zombie| *zombie == pid);
        if let Some(process) = self.processes.remove(&pid) {
            process.threads.keys().for_each(|&tid| self.remove_thread(tid));
            self.bytes = self.bytes.saturating_sub(PROCESS_BYTES);
            self.release_details(process.details);
            self.reparent_children(pid);
        }
    }

    /// Removes a thread from the index.
    pub(super) fn remove_thread(&mut self, tid: Tid) {
        self.threads.remove(&tid);
        self.bytes = self.bytes.saturating_sub(THREAD_BYTES);
    }

    /// Gives the children of a process another parent.
    pub(super) fn reparent_children(&mut self, pid: Tgid) {
        for child in self.children.get(&pid).cloned().unwrap_or_default() {
            self.set_parent(child, Some(INIT).filter(|&init| init != pid));
        }
    }

    /// Sets the parent of a process. Parent 0 means that the parent is unknown, and changes
    /// nothing.
    pub(super) fn set_parent(&mut self, pid: Tgid, ppid: Option<Tgid>) {
        // Walks up the tree must reach its top, even for a forged capture: a process never descends
        // from itself.
        if ppid == Some(Tgid(0))
            || ppid == Some(pid)
            || self.processes.get(&pid).is_none_or(|process| process.ppid == ppid)
        {
            return;
        }
        if let Some(ppid) = ppid
            && self.children.contains_key(&pid)
            && self.may_descend(ppid, pid)
        {
            return;
        }
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let before = mem::replace(&mut process.ppid, ppid);
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
        self.bump_version(pid);
    }

    /// Returns whether `pid` is `from` or descends from it, or whether the answer would take too
    /// long.
    fn may_descend(&mut self, pid: Tgid, from: Tgid) -> bool {
        let max_steps = usize::try_from(self.credit).unwrap_or(usize::MAX);
        let ancestry = std::iter::successors(Some(pid), |pid| self.processes.get(pid)?.ppid);
        let mut walked = 0;
        let found = ancestry.take(max_steps).inspect(|_| walked += 1).any(|of| of == from);
        self.spend_credit(walked);
        if walked == max_steps as u64 {
            self.dropped += 1;
        }
        found || walked == max_steps as u64
    }

    /// Stores the details of a process, without their texts if there is no room for these.
    pub(super) fn set_details(&mut self, pid: Tgid, details: Option<Details>) {
        let details = details.map(|details| {
            if self.bytes + details.memory() <= self.max_bytes {
                return details;
            }
            self.dropped += 1;
            without_texts(&details)
        });
        if let Some(process) = self.processes.get_mut(&pid) {
            self.bytes += details.as_ref().map_or(0, |details| details.memory());
            let before = mem::replace(&mut process.details, details.map(Arc::new));
            self.release_details(before);
        }
    }

    fn release_details(&mut self, details: Option<Arc<Details>>) {
        if let Some(details) = details.and_then(Arc::into_inner) {
            self.bytes = self.bytes.saturating_sub(details.memory());
        }
    }

    pub(super) fn bump_version(&mut self, pid: Tgid) {
        self.last_version += 1;
        if let Some(process) = self.processes.get_mut(&pid) {
            process.version = self.last_version;
        }
    }
}

/// Copies details without the fields that take most of their memory.
fn without_texts(details: &Details) -> Details {
    let Details { subject, ids, context, .. } = *details;
    Details { ids, context, ..Details::missed(subject, MissReason::TooLong) }
}
