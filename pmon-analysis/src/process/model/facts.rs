//! What the model knows of a process, for the rows of [`life`](crate::life).

use std::collections::VecDeque;

use pmon_core::{MonoNs, Tgid};

use super::name::Name;
use super::table::{NONE, Process, Slot};
use super::{ProcessExit, ProcessModel, ProcessRef};
use crate::process::clock::mono_of_ticks;

/// What the model knows of a process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessFacts {
    pub(crate) pid: u32,
    pub(crate) ppid: Option<u32>,
    /// Whether the parent is only assumed to be init.
    pub(crate) is_parent_assumed: bool,
    pub(crate) name: Name,
    /// Time of the fork event.
    pub(crate) forked: Option<MonoNs>,
    /// Start time in clock ticks since boot.
    pub(crate) start_ticks: Option<u64>,
    pub(crate) uid: Option<(u32, u32)>,
    pub(crate) gid: Option<(u32, u32)>,
    pub(crate) session: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) namespace_pid: Option<u32>,
    pub(crate) last_event: MonoNs,
    /// Whether no event names the process, only a scan.
    pub(crate) is_only_scanned: bool,
}

impl ProcessFacts {
    pub(super) fn new(process: &Process, name: Name, ppid: Option<u32>) -> Self {
        Self {
            pid: process.pid,
            ppid,
            is_parent_assumed: process.is_parent_assumed && ppid.is_some(),
            name,
            forked: process.fork.map(|(time, _)| time),
            start_ticks: process.start_ticks,
            uid: process.uid,
            gid: process.gid,
            session: process.session,
            group: process.group,
            namespace_pid: process.namespace_pid,
            last_event: process.last_event,
            is_only_scanned: process.is_only_scanned,
        }
    }
}

impl ProcessModel {
    /// Keeps removed processes for [`ProcessModel::take_removed`], and new ones for
    /// [`ProcessModel::take_found`]. The caller calls both after each record.
    pub(crate) fn keep_removed(&mut self) {
        self.table.removed = Some(VecDeque::new());
    }

    /// Keeps no texts of programs. [`ProcessRef`] then lacks them.
    pub(crate) fn omit_texts(&mut self) {
        self.table.images.has_texts = false;
    }

    /// Returns the next process that was removed, and the slot that it had.
    pub(crate) fn take_removed(&mut self) -> Option<(Slot, ProcessFacts)> {
        self.table.removed.as_mut()?.pop_front()
    }

    /// Returns a process without a fork event that the latest record has named first. The caller
    /// takes all of them after each record.
    pub(crate) fn take_found(&mut self) -> Option<Slot> {
        self.found.pop()
    }

    /// Notes that no event happened between the latest one and `time`.
    pub(crate) fn advance_to(&mut self, time: MonoNs) {
        self.now = self.now.max(time);
    }

    /// Returns the effect of the latest exit event on its process.
    pub fn last_exit(&self) -> Option<ProcessExit> {
        self.last_exit
    }

    /// Returns the slot of a process, which may be a zombie. Another process can have the slot once
    /// this one is removed.
    pub(crate) fn slot(&self, pid: Tgid) -> Option<Slot> {
        self.table.find_recent(pid.0).or_else(|| self.table.find(pid.0))
    }

    /// Returns the process that has this ID, which may be a zombie.
    pub(crate) fn last_process(&self, pid: Tgid) -> Option<ProcessRef<'_>> {
        Some(ProcessRef { model: self, slot: self.slot(pid)? })
    }

    /// Returns the slot of the current parent of a process.
    pub(crate) fn parent_slot(&self, slot: Slot) -> Option<Slot> {
        let parent = self.table.get(slot).parent;
        (parent != NONE && self.table.get(parent).is_known).then_some(parent)
    }

    /// Returns the last known parent of a process.
    pub(crate) fn ppid(&self, slot: Slot) -> Option<u32> {
        self.table.ppid(slot)
    }

    /// Returns whether the parent of a process is only assumed to be init.
    pub(crate) fn is_parent_assumed(&self, slot: Slot) -> bool {
        self.table.get(slot).is_parent_assumed && self.ppid(slot).is_some()
    }

    /// Returns the real and the effective user ID of a process.
    pub(crate) fn uid(&self, slot: Slot) -> Option<(u32, u32)> {
        self.table.get(slot).uid
    }

    /// Returns the start time of a process in clock ticks since boot.
    pub(crate) fn start_ticks(&self, slot: Slot) -> Option<u64> {
        self.table.get(slot).start_ticks
    }

    /// Returns what is known of the process in a slot.
    pub(crate) fn facts(&self, slot: Slot) -> ProcessFacts {
        ProcessFacts::new(self.table.get(slot), self.name(slot).clone(), self.table.ppid(slot))
    }

    /// Returns the running processes, and whether one is a zombie.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (Slot, bool)> + '_ {
        self.table
            .iter()
            .filter(|(_, process)| process.is_zombie() || self.exists(process))
            .map(|(slot, process)| (slot, process.is_zombie()))
    }

    /// Converts clock ticks since boot to the monotonic clock; `None` if the recording does not
    /// state the length of a tick.
    pub(crate) fn mono_of_ticks(&self, ticks: u64) -> Option<MonoNs> {
        mono_of_ticks(ticks, self.ticks_per_second, self.clock)
    }

    /// Converts a time of the monotonic clock to clock ticks since boot; `None` if the recording
    /// does not state the length of a tick.
    pub(crate) fn ticks_of(&self, time: MonoNs) -> Option<u64> {
        self.boot_ticks(self.boot_ns(time))
    }

    /// Returns whether a process that starts now can be the one with this start time in clock
    /// ticks.
    pub(crate) fn starts_at(&self, ticks: u64) -> bool {
        self.boot_ticks(self.boot_ns(self.now)).is_some_and(|now| now.abs_diff(ticks) <= 1)
    }
}
