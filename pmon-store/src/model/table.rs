//! The processes and threads in memory: slots, the index of ids, and the links between them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher, RandomState};

use pmon_analysis::process::ExitState;
use pmon_core::MonoNs;

use super::image::{IMAGE_BYTES, ImageId, Images, NO_IMAGE};
use super::name::Name;

/// Maximum number of processes; new ones are dropped beyond it.
pub(super) const MAX_PROCESSES: usize = (1 << 16) / 8 * 7;
/// Maximum number of threads, not counting the first thread of each process.
pub(super) const MAX_THREADS: usize = MAX_PROCESSES;
/// Maximum memory of the model, in bytes; the texts of processes are dropped beyond it.
pub(super) const MAX_BYTES: usize = 32 << 20;

/// Memory of an entry in the index, at its lowest load.
const INDEX_BYTES: usize = 20;
/// Maximum number of ancestors that are visited to find a cycle.
const MAX_ANCESTORS: usize = 1024;

/// Index of a process or a thread in its slab.
pub(super) type Slot = u32;
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
    pub(super) images: Images,
    /// Number of processes and threads that were not added, and of processes without texts, for
    /// lack of memory.
    pub(super) dropped: u64,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            processes: Vec::new(),
            free_processes: Vec::new(),
            threads: Vec::new(),
            free_threads: Vec::new(),
            index: HashMap::with_hasher(IdHash::new()),
            images: Images::default(),
            dropped: 0,
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
        let slots = self.processes.len() * (size_of::<Process>() + 4)
            + self.threads.len() * (size_of::<Thread>() + 4);
        slots + (self.processes.len() + self.threads.len()) * INDEX_BYTES + self.images.bytes()
    }

    /// Drops texts until the model is within its limit.
    pub(super) fn shed(&mut self) {
        let bytes = self.bytes();
        if bytes > MAX_BYTES {
            // Shed more than necessary, so that this happens rarely.
            let others = bytes - self.images.bytes();
            self.dropped += self.images.shed((MAX_BYTES - MAX_BYTES / 8).saturating_sub(others));
        }
    }

    /// Adds a process without parent, in place of any process or thread that has its id. Returns
    /// `None` if the table is full.
    pub(super) fn insert(&mut self, process: Process) -> Option<Slot> {
        self.release_id(process.pid);
        self.add(process)
    }

    fn add(&mut self, process: Process) -> Option<Slot> {
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
    pub(super) fn release_id(&mut self, id: u32) {
        match self.id(id) {
            Some(Id::Process(slot)) if self.get(slot).is_known => self.remove(slot),
            Some(Id::Thread(slot)) => {
                let process = self.thread(slot).process;
                self.remove_thread(slot);
                if self.get(process).is_zombie() {
                    self.remove(process);
                }
            }
            _ => {}
        }
    }

    /// Removes a process with its threads, and gives its children to init.
    pub(super) fn remove(&mut self, slot: Slot) {
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

    /// Frees the slot of an unknown process that has no children.
    fn release_unknown(&mut self, slot: Slot) {
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

    /// Gives the children of a process to init.
    pub(super) fn reparent_children(&mut self, slot: Slot) {
        let is_init = self.get(slot).pid == 1;
        while self.get(slot).first_child != NONE {
            let child = self.get(slot).first_child;
            self.unlink(child);
            self.get_mut(child).changed.parent = true;
            if !is_init {
                self.set_parent(child, 1);
            }
        }
    }

    /// Sets the parent of a process. Parent 0 means that the parent is unknown, and changes
    /// nothing.
    pub(super) fn set_parent(&mut self, slot: Slot, ppid: u32) {
        let process = self.get(slot);
        if ppid == 0 || ppid == process.pid || self.ppid(slot) == Some(ppid) {
            return;
        }
        let is_leaf = process.first_child == NONE;
        let parent = match self.id(ppid) {
            Some(Id::Process(parent)) => parent,
            // A thread is no parent.
            Some(Id::Thread(_)) => return,
            None => {
                let Some(parent) = self.add(Process { is_known: false, ..Process::new(ppid) }) else {
                    return;
                };
                parent
            }
        };
        // A process never descends from itself, even in a forged capture.
        if !is_leaf && self.descends(parent, slot) {
            return;
        }
        self.unlink_parent(slot);
        self.link(slot, parent);
    }

    /// Sets the parent of a process that has none yet. `parent` is the slot in which `ppid` was
    /// found before the process was added, which may have removed it.
    pub(super) fn set_first_parent(&mut self, slot: Slot, parent: Slot, ppid: u32) {
        let Process { pid, is_known, .. } = *self.get(parent);
        if is_known && pid == ppid && parent != slot && self.get(slot).first_child == NONE {
            self.link(slot, parent);
        } else {
            self.set_parent(slot, ppid);
        }
    }

    /// Adds a process without parent to the children of another one.
    fn link(&mut self, slot: Slot, parent: Slot) {
        let next = std::mem::replace(&mut self.get_mut(parent).first_child, slot);
        if next != NONE {
            self.get_mut(next).siblings.0 = slot;
        }
        let process = self.get_mut(slot);
        (process.parent, process.siblings) = (parent, (NONE, next));
    }

    /// Returns the parent of a process, known or not.
    pub(super) fn ppid(&self, slot: Slot) -> Option<u32> {
        let parent = self.get(slot).parent;
        (parent != NONE).then(|| self.get(parent).pid)
    }

    fn descends(&self, slot: Slot, from: Slot) -> bool {
        let parent = |&slot: &Slot| Some(self.get(slot).parent).filter(|&parent| parent != NONE);
        let mut ancestry = std::iter::successors(Some(slot), parent);
        ancestry.by_ref().take(MAX_ANCESTORS).any(|ancestor| ancestor == from) || ancestry.next().is_some()
    }

    fn unlink_parent(&mut self, slot: Slot) {
        let parent = self.get(slot).parent;
        if parent != NONE {
            self.unlink(slot);
            self.release_unknown(parent);
        }
    }

    /// Removes a process from the children of its parent, whose slot stays.
    fn unlink(&mut self, slot: Slot) {
        let process = self.get_mut(slot);
        let (parent, (before, after)) = (process.parent, process.siblings);
        (process.parent, process.siblings) = (NONE, (NONE, NONE));
        match before {
            NONE => self.get_mut(parent).first_child = after,
            before => self.get_mut(before).siblings.1 = after,
        }
        if after != NONE {
            self.get_mut(after).siblings.0 = before;
        }
    }
}

// All processes and threads, each process with an image of its own, leave 4 MiB for texts.
const _: () = assert!(
    MAX_PROCESSES * (size_of::<Process>() + 4 + INDEX_BYTES + IMAGE_BYTES + 4)
        + MAX_THREADS * (size_of::<Thread>() + 4 + INDEX_BYTES)
        <= MAX_BYTES - (4 << 20)
);

/// Hashes process ids with a secret multiplier, so that a forged capture cannot choose ids that
/// collide.
#[derive(Clone, Copy, Debug)]
struct IdHash {
    factor: u64,
}

impl IdHash {
    fn new() -> Self {
        Self { factor: RandomState::new().hash_one(0) | 1 }
    }
}

impl BuildHasher for IdHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { factor: self.factor, hash: 0 }
    }
}

/// The state of [`IdHash`].
#[derive(Debug)]
struct IdHasher {
    factor: u64,
    hash: u64,
}

impl Hasher for IdHasher {
    #[inline]
    fn write_u32(&mut self, id: u32) {
        // The upper half of the product depends on all bits of the id.
        let product = u128::from(self.factor) * u128::from(u64::from(id) ^ self.factor.rotate_left(32));
        self.hash = (product >> 64) as u64 ^ product as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(u32::from(byte) ^ self.hash as u32));
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
}
