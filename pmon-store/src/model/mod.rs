//! The processes of a recording as of its last record, from which each segment's opening is
//! written.
//!
//! The rules are those of `pmon_analysis::process`, and a property test compares the two. This
//! model is made for the recorder: it allocates nothing in a steady state, and uses at most 32 MiB.

mod image;
mod name;
mod process;
mod table;

use pmon_analysis::process::{ExitState, ProcessExit};
use pmon_core::capture::{ClockAnchor, Details, DetailsSubject, ProcessState, Record, Snapshot, Usage};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{MonoNs, Task, Tgid};

use self::image::Image;
use self::name::Name;
pub use self::process::ProcessRef;
use self::table::{Changed, Id, NONE, Process, Slot, Table};

/// Number of extra processes that each record permits to visit, to find those that a scan missed.
const CREDIT: u64 = 64;
/// Number of extra processes that may be visited before the first record.
const FIRST_CREDIT: u64 = 1 << 20;

/// The running processes as of the last record.
///
/// Apply every record of a recording in order. A process whose exit was lost stays until a scan
/// does not find it, or until its id is used again. To continue from the opening of a segment,
/// apply its details and its snapshot to an empty model.
///
/// The model holds at most 57,344 processes and as many additional threads. Items that are dropped
/// for lack of memory are [counted](ProcessModel::incomplete).
#[derive(Debug)]
pub struct ProcessModel {
    order: ByteOrder,
    ticks_per_second: u64,
    clock: ClockAnchor,
    now: MonoNs,
    /// Number of times that events were lost so far: see [`ExitState`].
    era: u64,
    /// The zombie, which the next event removes.
    zombie: Slot,
    /// Number of the current scan.
    scan: u32,
    /// Number of processes that the current scan has found.
    scanned: u32,
    /// Number of processes that may still be visited in addition to those that records name.
    credit: u64,
    table: Table,
}

impl ProcessModel {
    /// Creates an empty model of a recording whose datagrams have the byte order `order`.
    /// `ticks_per_second` is the frequency of the clock of start times
    /// ([`Meta::ticks_per_second`](pmon_core::capture::Meta)), and `start` a reading of the clocks.
    pub fn new(order: ByteOrder, ticks_per_second: u32, start: ClockAnchor) -> Self {
        Self {
            order,
            ticks_per_second: u64::from(ticks_per_second),
            clock: start,
            now: start.mono,
            era: 0,
            zombie: NONE,
            scan: 1,
            scanned: 0,
            credit: FIRST_CREDIT,
            table: Table::new(),
        }
    }

    /// Applies the next record.
    pub fn apply(&mut self, record: &Record<'_>) {
        self.credit = self.credit.saturating_add(CREDIT);
        match record {
            Record::Event(datagram, usage) => {
                if let Some(event) = datagram.event(self.order) {
                    self.apply_event(&event, usage.as_deref());
                }
            }
            Record::Details(details) => {
                match details.subject {
                    DetailsSubject::Exec { tgid, time } => self.exec_details(tgid, time, details),
                    DetailsSubject::Snapshot { tgid } => self.scanned_details(tgid, details),
                }
                self.table.shed();
            }
            Record::Snapshot(snapshot) => self.finish_scan(snapshot),
            Record::Clock(anchor) => self.clock = *anchor,
            Record::Loss(_) | Record::Blind(_) | Record::Unobserved(_) => self.era += 1,
            _ => {}
        }
    }

    /// Returns the number of running processes, including those that a scan found before their fork
    /// event.
    pub fn len(&self) -> usize {
        self.table.iter().filter(|(_, process)| !process.is_zombie()).count()
    }

    /// Returns whether no running process is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many processes, threads and texts were dropped for lack of memory.
    pub fn incomplete(&self) -> u64 {
        self.table.dropped
    }

    /// Returns the memory in use, in bytes; at most 32 MiB.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Returns the byte order of the recording's datagrams.
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// Returns the time of the latest event.
    pub fn now(&self) -> MonoNs {
        self.now
    }

    /// Returns the details of each running process, with a snapshot as subject, in the order of the
    /// process IDs.
    pub fn processes(&self) -> impl Iterator<Item = Details> + '_ {
        let mut slots: Vec<_> = self
            .table
            .iter()
            .filter(|(_, process)| self.exists(process))
            .map(|(slot, process)| (process.pid, slot))
            .collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| ProcessRef { model: self, slot }.details())
    }

    /// Returns the running process with this ID.
    pub fn get(&self, pid: Tgid) -> Option<ProcessRef<'_>> {
        let slot = self.table.find(pid.0).filter(|&slot| self.exists(self.table.get(slot)))?;
        Some(ProcessRef { model: self, slot })
    }

    /// Returns the effect that an exit will have on its process. `event` is the exit event that is
    /// applied next, and `usage` the usage that was recorded with it.
    pub fn exit_effect(&self, task: Task, code: u32, time: MonoNs, usage: Option<&Usage>) -> ProcessExit {
        let (mut exits, others) = match self.table.find(task.tgid.0) {
            Some(slot) => (self.table.get(slot).exits, self.threads_after(slot, task)),
            None => (ExitState::default(), 0),
        };
        exits.end((time, task, code), process_state(task, code, usage), self.era, others)
    }

    /// Returns the name of the first thread of a process.
    fn name(&self, slot: Slot) -> &Name {
        let process = self.table.get(slot);
        match self.table.images.get(process.image) {
            Some(image) if process.name.is_unknown() => &image.name,
            _ => &process.name,
        }
    }

    /// Returns the number of known threads that remain after the exit of `task`, without the first.
    fn threads_after(&self, slot: Slot, task: Task) -> usize {
        let forked = self.table.get(slot).forked_threads as usize;
        match self.table.id(task.tid.0) {
            Some(Id::Thread(thread)) if !task.is_leader() => {
                let thread = self.table.thread(thread);
                forked - usize::from(thread.is_forked && thread.process == slot)
            }
            _ => forked,
        }
    }

    /// Whether a process is running. One that is known only from a scan exists from its start time
    /// on, because a scan can find processes whose fork event follows the last record.
    fn exists(&self, process: &Process) -> bool {
        let is_future = || {
            let now = self.boot_ticks(self.boot_ns(self.now));
            process.start_ticks.zip(now).is_some_and(|(start, now)| start > now)
        };
        !(process.is_zombie() || process.is_only_scanned && is_future())
    }

    fn apply_event(&mut self, event: &Event, usage: Option<&Usage>) {
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
            EventBody::Comm { task, comm } => {
                let (slot, thread) = self.active(task);
                let name = Name::new(comm.as_bytes());
                match thread {
                    NONE if slot == NONE || !task.is_leader() => {}
                    NONE => self.table.get_mut(slot).name = name,
                    thread => self.table.thread_mut(thread).name = name,
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

    fn remove(&mut self, slot: Slot) {
        if self.zombie == slot {
            self.zombie = NONE;
        }
        self.table.remove(slot);
    }

    fn insert(&mut self, process: Process) -> Option<Slot> {
        if self.zombie != NONE && self.table.get(self.zombie).pid == process.pid {
            self.zombie = NONE;
        }
        self.table.insert(process)
    }

    /// Returns the process with this id, and adds it first if it is unknown. Returns [`NONE`] if
    /// there is no room.
    #[inline]
    fn get_or_insert(&mut self, pid: u32) -> Slot {
        match self.table.find(pid) {
            Some(slot) => slot,
            None if pid == 0 => NONE,
            None => self.insert(Process { last_event: self.now, ..Process::new(pid) }).unwrap_or(NONE),
        }
    }

    /// Returns the process and the thread of a task that has an event, and adds them first if they
    /// are unknown. A slot is [`NONE`] if there is no room, or for the first thread.
    fn active(&mut self, task: Task) -> (Slot, Slot) {
        if task.is_leader()
            && let Some(slot) = self.table.find(task.tgid.0)
            && self.table.get(slot).exit.is_some()
        {
            // The process has ended, so this is another one, whose fork was lost.
            self.remove(slot);
        }
        let slot = self.get_or_insert(task.tgid.0);
        if slot == NONE {
            return (NONE, NONE);
        }
        let now = self.now;
        let process = self.table.get_mut(slot);
        (process.last_event, process.is_only_scanned) = (now, false);
        let thread = match self.table.id(task.tid.0) {
            _ if task.is_leader() => NONE,
            Some(Id::Thread(thread)) if self.table.thread(thread).process == slot => thread,
            id => {
                if let Some(Id::Process(other)) = id
                    && other == self.zombie
                {
                    self.zombie = NONE;
                }
                self.table.add_thread(slot, task.tid.0).unwrap_or(NONE)
            }
        };
        (slot, thread)
    }

    /// Returns the process of a task if it is the first thread. Other threads only show that the
    /// process exists.
    fn active_leader(&mut self, task: Task) -> Option<&mut Process> {
        let (slot, _) = self.active(task);
        (slot != NONE && task.is_leader()).then(|| self.table.get_mut(slot))
    }

    fn fork(&mut self, time: MonoNs, parent: Task, child: u32) {
        let fork = Some((time, self.boot_ns(time)));
        let new =
            Process { fork, last_event: time, exits: ExitState::forked(self.era), ..Process::new(child) };
        let slot = self.get_or_insert(parent.tgid.0);
        if slot == NONE {
            self.insert(new);
            return;
        }
        let name = self.name_of_thread(slot, parent.tid.0);
        let process = self.table.get_mut(slot);
        (process.last_event, process.is_only_scanned) = (time, false);
        let new = Process {
            name,
            image: process.image,
            uid: process.uid,
            gid: process.gid,
            session: process.session,
            group: process.group,
            exec: process.exec,
            ..new
        };
        self.table.images.share(new.image);
        if let Some(child) = self.insert(new) {
            self.table.set_parent(child, parent.tgid.0);
        }
    }

    /// Returns the name that a child inherits from a thread, unless it is that of the image.
    fn name_of_thread(&self, slot: Slot, tid: u32) -> Name {
        let process = self.table.get(slot);
        let Some(Id::Thread(thread)) = self.table.id(tid) else { return process.name.clone() };
        let thread = self.table.thread(thread);
        let image = self.table.images.get(process.image);
        let has_image_name = thread.is_forked && image.is_some_and(Image::is_awaited);
        if thread.process != slot || thread.name.is_unknown() && !has_image_name {
            return process.name.clone();
        }
        thread.name.clone()
    }

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

    fn exec(&mut self, time: MonoNs, pid: u32) -> Slot {
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

    /// Applies the details of an exec that was applied before.
    ///
    /// The result is the same as if the details had been known at the exec: they replace what the
    /// process had before it, and what happened since replaces them.
    fn exec_details(&mut self, pid: Tgid, time: MonoNs, details: &Details) {
        let runs_it = |&slot: &Slot| self.table.get(slot).exec == Some(time);
        let Some(mut slot) = self.table.find(pid.0).filter(runs_it) else {
            return self.table.images.set_awaited(pid.0, time, details);
        };
        if self.differs_from_start(self.table.get(slot), details.start_ticks) {
            // The exec was of another process, whose fork was lost.
            let name = self.table.get(slot).name.clone();
            self.remove(slot);
            slot = self.exec(time, pid.0);
            if slot == NONE {
                return;
            }
            self.table.get_mut(slot).name = name;
        }
        self.table.images.set_details(self.table.get(slot).image, details);
        let process = self.table.get_mut(slot);
        let Changed { uid, gid, session, parent } = process.changed;
        if let Some(ids) = details.ids {
            process.uid = process.uid.filter(|_| uid).or(Some((ids.uid, ids.euid)));
            process.gid = process.gid.filter(|_| gid).or(Some((ids.gid, ids.egid)));
        }
        if let Some(context) = details.context {
            process.session = process.session.filter(|_| session).or(Some(context.session));
            process.group = process.group.filter(|_| session).or(Some(context.group));
            process.namespace_pid = Some(context.pid).filter(|&pid| pid != 0);
        }
        process.start_ticks = process.start_ticks.or(details.start_ticks);
        if let Some(ppid) = details.ppid.filter(|_| !parent) {
            self.table.set_parent(slot, ppid);
        }
    }

    fn exit(&mut self, time: MonoNs, (task, code): (Task, u32), parent: Option<Task>, usage: Option<&Usage>) {
        let slot = match task.is_leader() {
            // A process that was unknown until now is added as a zombie.
            true => self.get_or_insert(task.tgid.0),
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
        match process.exits.end((time, task, code), process_state(task, code, usage), era, others) {
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
            self.table.reparent_children(slot);
        }
    }

    fn scanned_details(&mut self, pid: Tgid, details: &Details) {
        self.scanned += 1;
        if let Some(slot) = self.table.find(pid.0)
            && self.differs_from_start(self.table.get(slot), details.start_ticks)
        {
            self.remove(slot);
        }
        let is_new = self.table.find(pid.0).is_none();
        let slot = self.get_or_insert(pid.0);
        if slot == NONE {
            return;
        }
        let (scan, era) = (self.scan, self.era);
        let process = self.table.get_mut(slot);
        process.is_only_scanned |= is_new;
        process.last_scan = scan;
        if process.exit.is_some() {
            return;
        }
        if details.threads == Some(1) {
            process.exits.mark_single_threaded(era, process.forked_threads as usize);
        }
        process.uid = process.uid.or(details.ids.map(|ids| (ids.uid, ids.euid)));
        process.gid = process.gid.or(details.ids.map(|ids| (ids.gid, ids.egid)));
        process.session = process.session.or(details.context.map(|of| of.session));
        process.group = process.group.or(details.context.map(|of| of.group));
        process.namespace_pid =
            process.namespace_pid.or(details.context.map(|of| of.pid).filter(|&pid| pid != 0));
        process.start_ticks = process.start_ticks.or(details.start_ticks);
        if self.name(slot).is_unknown() {
            self.table.get_mut(slot).name = Name::of_details(details);
        }
        let image = self.table.images.fill(self.table.get(slot).image, details);
        self.table.get_mut(slot).image = image;
        if let (None, Some(ppid)) = (self.table.ppid(slot), details.ppid) {
            self.table.set_parent(slot, ppid);
        }
    }

    /// Completes a scan: removes processes that the scan did not find and that have no later event.
    /// Their exits are missing from the recording.
    fn finish_scan(&mut self, snapshot: &Snapshot) {
        let (scan, scanned) = (self.scan, std::mem::take(&mut self.scanned));
        self.scan += 1;
        if scanned != snapshot.processes {
            return;
        }
        let Some(credit) = self.credit.checked_sub(self.table.slots()) else {
            self.table.dropped += 1;
            return;
        };
        self.credit = credit;
        let gone: Vec<Slot> = self
            .table
            .iter()
            .filter(|(_, process)| process.last_scan != scan && process.last_event < snapshot.started)
            .map(|(slot, _)| slot)
            .filter(|&slot| slot != self.zombie)
            .collect();
        gone.into_iter().for_each(|slot| self.remove(slot));
    }

    fn set_parent(&mut self, slot: Slot, ppid: u32) {
        if ppid != 0 {
            self.table.get_mut(slot).changed.parent = true;
        }
        self.table.set_parent(slot, ppid);
    }

    /// Returns whether a process with this start time from the kernel is a different process.
    fn differs_from_start(&self, process: &Process, start_ticks: Option<u64>) -> bool {
        let Some(ticks) = start_ticks else { return false };
        match (process.start_ticks, process.fork) {
            // The opening of a segment has the times of fork events, which are slightly later.
            (Some(known), _) => known.abs_diff(ticks) > 1,
            (None, Some((_, boot_ns))) => self.boot_ticks(boot_ns).is_some_and(|known| ticks > known + 1),
            (None, None) => false,
        }
    }

    /// Converts a time to ns since boot.
    fn boot_ns(&self, time: MonoNs) -> u64 {
        time.0.wrapping_sub(self.clock.mono.0).wrapping_add(self.clock.boot_ns)
    }

    /// Converts ns since boot to clock ticks, if the recording states the length of a tick.
    fn boot_ticks(&self, boot_ns: u64) -> Option<u64> {
        let ticks = u128::from(boot_ns) * u128::from(self.ticks_per_second) / 1_000_000_000;
        (self.ticks_per_second != 0).then_some(u64::try_from(ticks).ok()?)
    }
}

fn process_state(task: Task, code: u32, usage: Option<&Usage>) -> ProcessState {
    usage.map_or(ProcessState::Unknown, |usage| usage.process_state(task.is_leader(), code))
}

#[cfg(test)]
mod tests;
