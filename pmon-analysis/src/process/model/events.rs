//! Applies events to the model.
//!
//! The functions for rare or expensive events are not inlined. Otherwise, every event would pay for
//! their stack frames.

use pmon_core::capture::Usage;
use pmon_core::wire::{Event, EventBody};
use pmon_core::{MonoNs, Task};

use super::image::Image;
use super::name::Name;
use super::table::{Changed, Id, NONE, Process, Slot};
use super::{ProcessModel, process_state, start_of_exit};
use crate::process::{ExitState, ProcessExit};

impl ProcessModel {
    pub(super) fn apply_event(&mut self, event: &Event, usage: Option<&Usage>) {
        self.now = self.now.max(event.time);
        if self.zombie != NONE {
            self.remove_zombie(event);
        }
        match event.body {
            EventBody::Fork { parent, child } if child.is_leader() => {
                self.fork(event.time, parent, child.tgid.0)
            }
            EventBody::Fork { parent, child } => self.fork_thread(parent, child),
            EventBody::Exec { task } => {
                self.exec(event.time, task.tgid.0);
            }
            // A copy of a name whose bytes were just stored would stall the processor.
            EventBody::Comm { task, ref comm } => {
                let (slot, thread) = self.active(task);
                match thread {
                    NONE if slot == NONE || !task.is_leader() => {}
                    NONE => self.table.get_mut(slot).name = Name::of_comm(comm),
                    thread => self.table.thread_mut(thread).name = Name::of_comm(comm),
                }
            }
            EventBody::Exit { task, code, parent, .. } => self.exit(event.time, (task, code), parent, usage),
            EventBody::Uid { task, real, effective } => {
                if let Some(process) = self.active_leader(task) {
                    (process.uid, process.changed.uid) = (Some((real, effective)), true);
                }
            }
            EventBody::Gid { task, real, effective } => {
                if let Some(process) = self.active_leader(task) {
                    (process.gid, process.changed.gid) = (Some((real, effective)), true);
                }
            }
            EventBody::Sid { task } => {
                // Any thread can create a session for its process.
                if let (slot, _) = self.active(task)
                    && slot != NONE
                {
                    let process = self.table.get_mut(slot);
                    (process.session, process.group) = (Some(task.tgid.0), Some(task.tgid.0));
                    process.changed.session = true;
                }
            }
            EventBody::Ptrace { task, .. } => {
                self.active(task);
            }
            _ => {}
        }
    }

    /// Removes the zombie, unless the event is about the same process.
    #[inline(never)]
    fn remove_zombie(&mut self, event: &Event) {
        let zombie = self.table.get(self.zombie).pid;
        // When a thread other than the first execs, the first one exits before, and its id stays in
        // use. When the first thread and another exit at the same time, the other's exit can be the
        // first to report the end of the process.
        let keeps_id = match event.body {
            EventBody::Exec { task } => task.tgid.0 == zombie,
            EventBody::Exit { task, .. } => task.tgid.0 == zombie && task.is_leader(),
            _ => false,
        };
        if !keeps_id {
            self.remove(self.zombie);
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        if self.zombie == slot {
            self.zombie = NONE;
        }
        self.table.remove(slot);
    }

    /// Returns the process with this id, and adds it first if it is unknown. Returns [`NONE`] if
    /// there is no room.
    #[inline]
    pub(super) fn get_or_insert(&mut self, pid: u32) -> Slot {
        self.table.find_recent(pid).unwrap_or_else(|| self.find_or_insert(pid))
    }

    /// Finds or adds a process as [`ProcessModel::get_or_insert`], and makes it a recent one.
    #[inline(never)]
    fn find_or_insert(&mut self, pid: u32) -> Slot {
        let slot = match self.table.find(pid) {
            Some(slot) => slot,
            None if pid == 0 => NONE,
            None => {
                let slot =
                    self.table.insert(Process { last_event: self.now, ..Process::new(pid) }).unwrap_or(NONE);
                if slot != NONE && self.table.removed.is_some() {
                    self.found.push(slot);
                }
                slot
            }
        };
        if slot != NONE {
            self.table.set_recent(slot);
        }
        slot
    }

    /// Returns the process and the thread of a task that has an event, and adds them first if they
    /// are unknown. A slot is [`NONE`] if there is no room, or for the first thread.
    #[inline]
    fn active(&mut self, task: Task) -> (Slot, Slot) {
        let mut slot = self.get_or_insert(task.tgid.0);
        if slot != NONE && task.is_leader() && self.table.get(slot).exit.is_some() {
            // The process has ended, so this is another one, whose fork was lost.
            self.remove(slot);
            slot = self.get_or_insert(task.tgid.0);
        }
        if slot == NONE {
            return (NONE, NONE);
        }
        let now = self.now;
        let process = self.table.get_mut(slot);
        (process.last_event, process.is_only_scanned) = (now, false);
        (slot, if task.is_leader() { NONE } else { self.active_thread(slot, task.tid.0) })
    }

    /// Returns a thread of a process, and adds it first if it is unknown. Returns [`NONE`] if there
    /// is no room.
    #[inline(never)]
    fn active_thread(&mut self, slot: Slot, tid: u32) -> Slot {
        match self.table.id(tid) {
            Some(Id::Thread(thread)) if self.table.thread(thread).process == slot => thread,
            _ => self.table.add_thread(slot, tid).unwrap_or(NONE),
        }
    }

    /// Returns the process of a task if it is the first thread. Other threads only show that the
    /// process exists.
    fn active_leader(&mut self, task: Task) -> Option<&mut Process> {
        let (slot, _) = self.active(task);
        (slot != NONE && task.is_leader()).then(|| self.table.get_mut(slot))
    }

    #[inline(never)]
    fn fork(&mut self, time: MonoNs, parent: Task, child: u32) {
        let fork = Some((time, self.boot_ns(time)));
        let mut new =
            Process { fork, last_event: time, exits: ExitState::forked(self.era), ..Process::new(child) };
        let slot = self.get_or_insert(parent.tgid.0);
        if slot == NONE {
            self.table.insert(new);
            return;
        }
        new.name = self.name_of_thread(slot, parent.tid.0);
        let process = self.table.get_mut(slot);
        (process.last_event, process.is_only_scanned) = (time, false);
        (new.image, new.exec) = (process.image, process.exec);
        (new.uid, new.gid) = (process.uid, process.gid);
        (new.session, new.group) = (process.session, process.group);
        self.table.images.share(new.image);
        if let Some(child) = self.table.insert(new) {
            self.table.set_recent(child);
            self.table.set_first_parent(child, slot, parent.tgid.0);
        }
    }

    /// Returns the name that a child inherits from a thread, unless it is that of the image.
    fn name_of_thread(&self, slot: Slot, tid: u32) -> Name {
        let process = self.table.get(slot);
        if process.first_thread == NONE {
            return process.name.clone();
        }
        let Some(Id::Thread(thread)) = self.table.id(tid) else { return process.name.clone() };
        let thread = self.table.thread(thread);
        let image = self.table.images.get(process.image);
        let has_image_name = thread.is_forked && image.is_some_and(Image::is_awaited);
        if thread.process != slot || thread.name.is_unknown() && !has_image_name {
            return process.name.clone();
        }
        thread.name.clone()
    }

    #[inline(never)]
    fn fork_thread(&mut self, parent: Task, child: Task) {
        let (slot, thread) = self.active(child);
        if slot == NONE {
            return;
        }
        if thread == NONE {
            self.table.get_mut(slot).exits.mark_incomplete();
        } else {
            let name = self.name(slot).clone();
            let thread = self.table.thread_mut(thread);
            let is_new = !std::mem::replace(&mut thread.is_forked, true);
            thread.name = name;
            self.table.get_mut(slot).forked_threads += u32::from(is_new);
        }
        // The fork event of a thread names the parent of its process.
        self.set_parent(slot, parent.tgid.0);
    }

    #[inline(never)]
    pub(super) fn exec(&mut self, time: MonoNs, pid: u32) -> Slot {
        let slot = self.get_or_insert(pid);
        if slot == NONE {
            return NONE;
        }
        if self.zombie == slot {
            self.zombie = NONE;
        }
        self.table.remove_threads(slot);
        let Process { image, exec, .. } = *self.table.get(slot);
        let image = self.table.images.exec(image, pid, exec);
        let process = self.table.get_mut(slot);
        (process.name, process.exit, process.exec, process.image) = (Name::Unknown, None, Some(time), image);
        (process.last_event, process.is_only_scanned) = (time, false);
        (process.has_unknown_threads, process.changed) = (false, Changed::default());
        process.exits.exec();
        slot
    }

    #[inline(never)]
    fn exit(&mut self, time: MonoNs, (task, code): (Task, u32), parent: Option<Task>, usage: Option<&Usage>) {
        self.last_exit = None;
        let slot = match task.is_leader() {
            // A process that was unknown until now is added as a zombie.
            true => self.exiting(task.tgid.0, usage),
            // Unknown threads of an ended process can exit after it.
            false => self.table.find(task.tgid.0).unwrap_or(NONE),
        };
        if slot == NONE {
            return;
        }
        if !task.is_leader()
            && let Some(Id::Thread(thread)) = self.table.id(task.tid.0)
            && self.table.thread(thread).process == slot
        {
            self.table.remove_thread(thread);
        }
        let (now, era) = (self.now, self.era);
        let process = self.table.get_mut(slot);
        process.last_event = now;
        if task.is_leader() {
            (process.exit, process.is_only_scanned) = (Some(code), false);
        }
        let others = process.forked_threads as usize;
        let exit = process.exits.end((time, task, code), process_state(task, code, usage), era, others);
        self.last_exit = Some(exit);
        match exit {
            ProcessExit::Ended { status } => {
                // Some of its threads may have been unknown.
                (process.exit, process.has_unknown_threads) = (Some(status), false);
                self.table.remove_threads(slot);
            }
            ProcessExit::GoesOn if task.is_leader() && self.zombie != slot => {
                process.has_unknown_threads = true
            }
            _ => {}
        }
        if let Some(parent) = parent {
            self.set_parent(slot, parent.tgid.0);
        }
        if self.table.get(slot).is_zombie() {
            self.zombie = slot;
            let has_ended = matches!(exit, ProcessExit::Ended { .. });
            self.recent_exits.add(task.tgid, self.boot_ns(now), has_ended);
            self.table.reparent_children(slot);
        }
    }

    /// Returns the process whose first thread exits. If the start time shows that the known process
    /// with this id is another one, whose exit was lost, replaces it.
    fn exiting(&mut self, pid: u32, usage: Option<&Usage>) -> Slot {
        let mut slot = self.get_or_insert(pid);
        let start_ticks = start_of_exit(usage);
        if slot != NONE && self.differs_from_start(self.table.get(slot), start_ticks) {
            self.remove(slot);
            slot = self.get_or_insert(pid);
        }
        if slot != NONE {
            let process = self.table.get_mut(slot);
            process.start_ticks = process.start_ticks.or(start_ticks);
        }
        slot
    }

    fn set_parent(&mut self, slot: Slot, ppid: u32) {
        if ppid != 0 {
            self.table.get_mut(slot).changed.parent = true;
        }
        self.table.set_parent(slot, ppid);
    }
}
