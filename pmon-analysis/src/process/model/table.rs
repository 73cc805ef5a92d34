//! The processes and threads in memory: slots, and the index of ids.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use pmon_core::MonoNs;

use super::facts::ProcessFacts;
use super::image::{IMAGE_BYTES, ImageId, Images, NO_IMAGE};
use super::name::Name;
use crate::process::{ExitState, IdHash};

/// Maximum number of processes; new ones are dropped beyond it.
pub(super) const MAX_PROCESSES: usize = (1 << 16) / 8 * 7;
/// Maximum number of threads, not counting the first thread of each process.
pub(super) const MAX_THREADS: usize = MAX_PROCESSES;
/// Maximum memory of the model, in bytes; the texts of processes are dropped beyond it.
pub(super) const MAX_BYTES: usize = 32 << 20;

/// Memory of an entry in the index, at its lowest load, and in the list of free slots, in bytes.
const ENTRY_BYTES: usize = 20 + size_of::<Slot>();
/// Memory of a process without its image, in bytes.
pub(super) const PROCESS_BYTES: usize = size_of::<Process>() + ENTRY_BYTES;
/// Memory of a thread, in bytes.
pub(super) const THREAD_BYTES: usize = size_of::<Thread>() + ENTRY_BYTES;
/// Number of processes that [`Table::find_recent`] finds without the index, a power of two.
const RECENT: usize = 64;
/// Index of a process or a thread in its slab.
pub(crate) type Slot = u32;
/// No slot.
pub(super) const NONE: Slot = u32::MAX;
/// Bit that distinguishes threads from processes in the index.
const THREAD: Slot = 1 << 31;

/// A process, or only the parent of processes.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Whether this process is known. Otherwise the slot only links the children that name it as
    /// their parent.
    pub(super) is_known: bool,
    /// Whether the process is known only from a scan.
    pub(super) is_only_scanned: bool,
    /// Whether unknown threads still run after the exit of the first one.
    pub(super) has_unknown_threads: bool,
    /// Changes since the exec that late details must not undo.
    pub(super) changed: Changed,
    /// Number of threads whose fork is known, without the first one.
    pub(super) forked_threads: u32,
    pub(super) parent: Slot,
    /// Whether the parent is only assumed to be init, which adopts orphans unless an ancestor is a
    /// subreaper (`prctl(2)`).
    pub(super) is_parent_assumed: bool,
    pub(super) first_child: Slot,
    /// Siblings before and after this process.
    pub(super) siblings: (Slot, Slot),
    pub(super) first_thread: Slot,
    pub(super) image: ImageId,
    /// Name of the first thread, unless it is that of the image.
    pub(super) name: Name,
    pub(super) uid: Option<(u32, u32)>,
    pub(super) gid: Option<(u32, u32)>,
    pub(super) session: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) namespace_pid: Option<u32>,
    /// Start time from the kernel, in clock ticks since boot.
    pub(super) start_ticks: Option<u64>,
    /// Time of the fork event, and the same in ns since boot.
    pub(super) fork: Option<(MonoNs, u64)>,
    /// Time of the exec of the current program.
    pub(super) exec: Option<MonoNs>,
    pub(super) exits: ExitState,
    /// Raw wait status of the process, or of its first thread if only that has exited.
    pub(super) exit: Option<u32>,
    pub(super) last_event: MonoNs,
    /// Number of the last scan that found the process.
    pub(super) last_scan: u32,
}

/// Which properties changed since the latest exec.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changed {
    pub(super) uid: bool,
    pub(super) gid: bool,
    pub(super) session: bool,
    pub(super) parent: bool,
}

impl Process {
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            is_known: true,
            is_only_scanned: false,
            has_unknown_threads: false,
            changed: Changed::default(),
            forked_threads: 0,
            parent: NONE,
            is_parent_assumed: false,
            first_child: NONE,
            siblings: (NONE, NONE),
            first_thread: NONE,
            image: NO_IMAGE,
            name: Name::Unknown,
            uid: None,
            gid: None,
            session: None,
            group: None,
            namespace_pid: None,
            start_ticks: None,
            fork: None,
            exec: None,
            exits: ExitState::default(),
            exit: None,
            last_event: MonoNs(0),
            last_scan: 0,
        }
    }

    /// Whether no thread is left.
    pub(super) fn is_zombie(&self) -> bool {
        self.exit.is_some() && self.first_thread == NONE && !self.has_unknown_threads
    }
}

/// A thread other than the first of its process.
#[derive(Clone, Debug)]
pub(super) struct Thread {
    pub(super) tid: u32,
    pub(super) process: Slot,
    /// Whether the fork of the thread is known.
    pub(super) is_forked: bool,
    /// Threads of the process before and after this one.
    pub(super) links: (Slot, Slot),
    pub(super) name: Name,
}

/// What an id refers to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Id {
    Process(Slot),
    Thread(Slot),
}

/// All processes and threads. An id belongs to one of them at a time.
#[derive(Debug)]
pub(super) struct Table {
    processes: Vec<Process>,
    free_processes: Vec<Slot>,
    threads: Vec<Thread>,
    free_threads: Vec<Slot>,
    index: HashMap<u32, Slot, IdHash>,
    /// Slots of processes that had events lately, by the lowest bits of their ids. A slot may have
    /// been freed or reused since.
    recent: [Slot; RECENT],
    pub(super) images: Images,
    /// Number of processes and threads that were not added, and of processes without texts, for
    /// lack of memory.
    pub(super) dropped: u64,
    /// Processes that were removed, with their slots, for a caller that takes them.
    pub(super) removed: Option<VecDeque<(Slot, ProcessFacts)>>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            processes: Vec::new(),
            free_processes: Vec::new(),
            threads: Vec::new(),
            free_threads: Vec::new(),
            index: HashMap::with_hasher(IdHash::new()),
            recent: [NONE; RECENT],
            images: Images::new(),
            dropped: 0,
            removed: None,
        }
    }

    #[inline]
    pub(super) fn id(&self, id: u32) -> Option<Id> {
        self.index.get(&id).map(|&slot| match slot & THREAD {
            0 => Id::Process(slot),
            _ => Id::Thread(slot & !THREAD),
        })
    }

    /// Returns the slot of a known process.
    #[inline]
    pub(super) fn find(&self, pid: u32) -> Option<Slot> {
        match self.id(pid) {
            Some(Id::Process(slot)) if self.processes[slot as usize].is_known => Some(slot),
            _ => None,
        }
    }

    /// Returns the slot of a known process if it is among the recent ones. This takes no hash.
    #[inline]
    pub(super) fn find_recent(&self, pid: u32) -> Option<Slot> {
        let slot = self.recent[pid as usize % RECENT];
        let process = self.processes.get(slot as usize)?;
        let is_found = process.pid == pid && process.is_known;
        debug_assert!(!is_found || self.find(pid) == Some(slot));
        is_found.then_some(slot)
    }

    /// Adds a known process to the recent ones.
    #[inline]
    pub(super) fn set_recent(&mut self, slot: Slot) {
        self.recent[self.get(slot).pid as usize % RECENT] = slot;
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> &Process {
        &self.processes[slot as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Process {
        &mut self.processes[slot as usize]
    }

    pub(super) fn thread(&self, slot: Slot) -> &Thread {
        &self.threads[slot as usize]
    }

    pub(super) fn thread_mut(&mut self, slot: Slot) -> &mut Thread {
        &mut self.threads[slot as usize]
    }

    /// Returns all known processes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Process)> {
        self.processes
            .iter()
            .enumerate()
            .map(|(slot, process)| (slot as Slot, process))
            .filter(|(_, process)| process.is_known)
    }

    /// Returns the number of slots that a visit of all processes takes.
    pub(super) fn slots(&self) -> u64 {
        self.processes.len() as u64
    }

    /// Returns the memory in use, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.processes.len() * PROCESS_BYTES + self.threads.len() * THREAD_BYTES + self.images.bytes()
    }

    /// Drops texts until the model is within its limit.
    pub(super) fn shed(&mut self) {
        let bytes = self.bytes();
        if bytes <= MAX_BYTES {
            return;
        }
        // Shed more than necessary, so that this happens rarely.
        let others = bytes - self.images.bytes();
        self.dropped += self.images.shed((MAX_BYTES / 8 * 7).saturating_sub(others));
    }

    /// Adds a process without parent, in place of any process or thread that has its id. Returns
    /// `None` if the table is full.
    pub(super) fn insert(&mut self, mut process: Process) -> Option<Slot> {
        process.last_scan = self.release_id(process.pid).unwrap_or(0);
        self.add(process)
    }

    pub(super) fn add(&mut self, process: Process) -> Option<Slot> {
        let entry = match self.index.entry(process.pid) {
            Entry::Occupied(entry) => {
                // Only its children were known so far.
                let slot = *entry.get();
                let known = &mut self.processes[slot as usize];
                let first_child = known.first_child;
                *known = Process { first_child, ..process };
                return Some(slot);
            }
            Entry::Vacant(entry) => entry,
        };
        let slot = match self.free_processes.pop() {
            Some(slot) => {
                self.processes[slot as usize] = process;
                slot
            }
            None if self.processes.len() < MAX_PROCESSES => {
                self.processes.push(process);
                (self.processes.len() - 1) as Slot
            }
            None => {
                self.dropped += 1;
                self.images.release(process.image);
                return None;
            }
        };
        entry.insert(slot);
        Some(slot)
    }

    /// Removes the process or thread that has this id, unless it is only named as a parent.
    ///
    /// Returns the number of the scan that found the process before its fork event arrived.
    pub(super) fn release_id(&mut self, id: u32) -> Option<u32> {
        match self.id(id) {
            Some(Id::Process(slot)) if self.get(slot).is_known => {
                let Process { is_only_scanned, last_scan, .. } = *self.get(slot);
                self.remove(slot);
                return is_only_scanned.then_some(last_scan);
            }
            Some(Id::Thread(slot)) => {
                let process = self.thread(slot).process;
                self.remove_thread(slot);
                if self.get(process).is_zombie() {
                    self.remove(process);
                }
            }
            _ => {}
        }
        None
    }

    /// Removes a process with its threads, and gives its children to init.
    pub(super) fn remove(&mut self, slot: Slot) {
        self.keep_removed(slot);
        self.unlink_parent(slot);
        self.remove_threads(slot);
        let process = self.get_mut(slot);
        let image = std::mem::replace(&mut process.image, NO_IMAGE);
        process.is_known = false;
        let Process { pid, exec, .. } = *process;
        self.images.leave(image, pid, exec);
        self.reparent_children(slot);
        self.release_unknown(slot);
    }

    /// Keeps a process that is about to be removed, if a caller takes these.
    fn keep_removed(&mut self, slot: Slot) {
        if let Some(removed) = &mut self.removed {
            let process = &self.processes[slot as usize];
            let ppid = (process.parent != NONE).then(|| self.processes[process.parent as usize].pid);
            removed.push_back((slot, ProcessFacts::new(process, self.images.name(process).clone(), ppid)));
        }
    }

    /// Frees the slot of an unknown process that has no children.
    pub(super) fn release_unknown(&mut self, slot: Slot) {
        let Process { pid, is_known, first_child, .. } = *self.get(slot);
        if !is_known && first_child == NONE {
            self.index.remove(&pid);
            self.free_processes.push(slot);
        }
    }

    /// Adds a thread to a process, in place of any process or thread that has its id. Returns
    /// `None` if the table is full.
    pub(super) fn add_thread(&mut self, process: Slot, tid: u32) -> Option<Slot> {
        self.release_id(tid);
        if let Some(Id::Process(parent)) = self.id(tid) {
            // A thread is no parent.
            self.reparent_children(parent);
            self.release_unknown(parent);
        }
        let first = self.get(process).first_thread;
        let thread = Thread { tid, process, is_forked: false, links: (NONE, first), name: Name::Unknown };
        let slot = match self.free_threads.pop() {
            Some(slot) => {
                self.threads[slot as usize] = thread;
                slot
            }
            None if self.threads.len() < MAX_THREADS => {
                self.threads.push(thread);
                (self.threads.len() - 1) as Slot
            }
            None => {
                self.dropped += 1;
                return None;
            }
        };
        if first != NONE {
            self.threads[first as usize].links.0 = slot;
        }
        self.get_mut(process).first_thread = slot;
        self.index.insert(tid, slot | THREAD);
        Some(slot)
    }

    pub(super) fn remove_thread(&mut self, slot: Slot) {
        let Thread { tid, process, is_forked, links: (before, after), .. } = *self.thread(slot);
        match before {
            NONE => self.get_mut(process).first_thread = after,
            before => self.threads[before as usize].links.1 = after,
        }
        if after != NONE {
            self.threads[after as usize].links.0 = before;
        }
        self.get_mut(process).forked_threads -= u32::from(is_forked);
        self.index.remove(&tid);
        self.threads[slot as usize].name = Name::Unknown;
        self.free_threads.push(slot);
    }

    pub(super) fn remove_threads(&mut self, process: Slot) {
        while self.get(process).first_thread != NONE {
            self.remove_thread(self.get(process).first_thread);
        }
    }
}

// All processes and threads, each process with an image of its own, leave 4 MiB for texts.
const _: () = assert!(
    MAX_PROCESSES * (PROCESS_BYTES + IMAGE_BYTES) + MAX_THREADS * THREAD_BYTES <= MAX_BYTES - (4 << 20)
);
