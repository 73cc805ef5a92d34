//! The state of a simulated filesystem.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use oorandom::{Rand32, Rand64};

use super::directory::{Inode, SimulatedDirectory};
use super::file::{SimulatedFile, UNIT};
use super::{Conditions, Extremes, Operation};

#[derive(Clone, Default)]
pub(super) struct FilesystemState {
    pub(super) files: BTreeMap<Inode, Arc<SimulatedFile>>,
    /// Bytes on disk per file.
    allocated: BTreeMap<Inode, u64>,
    /// Number of handles per file.
    pub(super) handles: BTreeMap<Inode, usize>,
    pub(super) directory: SimulatedDirectory,
    next_inode: Inode,
    pub(super) conditions: Conditions,
    /// Operations that will fail: the kind, how many of that kind succeed before, and the errno.
    pub(super) failures: VecDeque<(Operation, u32, i32)>,
    pub(super) is_locked: bool,
    pub(super) uuid_seed: u64,
    /// Number of UUIDs so far.
    uuids: u64,
    pub(super) now: Duration,
    pub(super) operations: u64,
    pub(super) counts: BTreeMap<Operation, u64>,
    pub(super) extremes: Extremes,
    /// Number of syncs of files that have failed.
    pub(super) failed_syncs: u64,
    /// The steps of the sync that is about to begin, if one is.
    pub(super) beginning: Option<Vec<SyncStep>>,
    /// The steps of running syncs, with the times of their ends.
    running: Vec<(Duration, Vec<SyncStep>)>,
}

/// A part of a sync, which has its effect at the end of the sync.
#[derive(Clone, Copy, Debug)]
pub(super) enum SyncStep {
    /// The first changes of a file become durable, or are lost.
    File { inode: Inode, changes: u64, is_lost: bool },
    /// The first changes of the directory become durable.
    Names { changes: u64 },
}

pub(super) fn errno<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

impl FilesystemState {
    /// Turns the state into the one that the next recorder finds.
    pub(super) fn restart(mut self) -> Self {
        self.handles.clear();
        self.collect();
        (self.is_locked, self.extremes) = (false, Extremes::default());
        (self.beginning, self.running) = (None, Vec::new());
        self.failures.clear();
        self
    }

    pub(super) fn lose_power(&mut self, random: &mut Rand32) {
        self.directory = self.directory.after_power_loss(random);
        for (inode, file) in self.files.iter_mut().filter(|(_, file)| !file.is_durable()) {
            *file = Arc::new(file.after_power_loss(random));
            self.allocated.insert(*inode, file.cached.allocated());
        }
    }

    /// Returns the next UUID.
    pub(super) fn new_uuid(&mut self) -> [u8; 16] {
        self.uuids += 1;
        let mut random = Rand64::new(u128::from(self.uuid_seed) << 64 | u128::from(self.uuids));
        let [high, low] = [random.rand_u64(), random.rand_u64()];
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    /// Advances the time, and ends the syncs that have run until then.
    pub(super) fn set_now(&mut self, now: Duration) {
        self.now = self.now.max(now);
        self.end_run(self.now);
    }

    /// Ends the syncs that would have run until this time.
    pub(super) fn end_run(&mut self, time: Duration) {
        let ended = self.running.iter().filter(|(end, _)| *end <= time);
        let steps: Vec<SyncStep> = ended.flat_map(|(_, steps)| steps.iter().copied()).collect();
        self.running.retain(|(end, _)| *end > time);
        steps.into_iter().for_each(|step| self.end_step(step));
    }

    /// Begins a sync of these steps, and returns when it ends.
    pub(super) fn run(&mut self, steps: Vec<SyncStep>) -> Duration {
        let end = self.now + self.conditions.sync_takes;
        self.running.push((end, steps));
        self.set_now(self.now);
        end
    }

    fn end_step(&mut self, step: SyncStep) {
        let Conditions { drops_pages, omits, .. } = self.conditions;
        match step {
            SyncStep::File { inode, changes, is_lost } => {
                let Some(file) = self.file(inode) else { return };
                if is_lost {
                    file.fail_sync(changes, drops_pages);
                    let allocated = file.cached.allocated();
                    self.allocated.insert(inode, allocated);
                    self.failed_syncs += 1;
                } else if omits != Some(Operation::Sync) {
                    file.end_sync(changes);
                }
            }
            SyncStep::Names { changes } => {
                if self.conditions.omits != Some(Operation::SyncDirectory) {
                    self.directory.end_sync(changes);
                    self.collect();
                }
            }
        }
    }

    /// Performs a step of a sync: at its end if the caller is beginning one, otherwise at once.
    pub(super) fn sync_step(&mut self, step: SyncStep) {
        match &mut self.beginning {
            Some(steps) => steps.push(step),
            None => {
                let end = self.run(vec![step]);
                self.set_now(end);
            }
        }
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<Inode> {
        if self.directory.names.contains_key(name) {
            return errno(libc::EEXIST);
        }
        self.next_inode += 1;
        let inode = self.next_inode;
        self.files.insert(inode, Arc::default());
        self.directory.create(name, inode);
        self.keep_names();
        self.update(inode);
        Ok(inode)
    }

    /// Makes the names durable at once if the filesystem cannot sync them.
    fn keep_names(&mut self) {
        if self.conditions.has_no_directory_sync {
            self.directory.end_sync(self.directory.changes());
        }
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.inode(from)?;
        if self.directory.names.contains_key(to) {
            return errno(libc::EEXIST);
        }
        self.directory.rename(from, to);
        self.keep_names();
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.inode(name)?;
        self.directory.remove(name);
        self.keep_names();
        self.collect();
        Ok(())
    }

    pub(super) fn inode(&self, name: &str) -> io::Result<Inode> {
        let inode = self.directory.names.get(name).copied();
        inode.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    pub(super) fn write(&mut self, inode: Inode, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut end = at + bytes.len() as u64;
        if let Some(limit) = self.conditions.size_limit {
            end = end.min(limit);
            if end <= at {
                return errno(libc::EFBIG);
            }
        }
        let available = self.available() / UNIT;
        let has_no_holes = self.conditions.has_no_holes;
        let Some(file) = self.file(inode) else { return errno(libc::EBADF) };
        // Without holes, the filesystem writes zeros in between.
        let first = if has_no_holes { at.min(file.cached.len) } else { at };
        let mut missing = (first / UNIT..end.div_ceil(UNIT)).filter(|&unit| !file.cached.has_unit(unit));
        if let Some(full) = missing.nth(available as usize) {
            end = end.min(full * UNIT);
        }
        if end <= at {
            return errno(libc::ENOSPC);
        }
        file.write(&vec![0; (at - first) as usize], first);
        file.write(&bytes[..(end - at) as usize], at);
        self.update(inode);
        Ok((end - at) as usize)
    }

    /// Returns a file for a change. Copies of the state keep theirs.
    pub(super) fn file(&mut self, inode: Inode) -> Option<&mut SimulatedFile> {
        self.files.get_mut(&inode).map(Arc::make_mut)
    }

    /// Returns the bytes on disk of a file.
    pub(super) fn allocated(&self, inode: Inode) -> u64 {
        self.allocated.get(&inode).copied().unwrap_or_default()
    }

    /// Returns the bytes on disk of the files in the directory.
    pub(super) fn used(&self) -> u64 {
        self.directory.names.values().map(|&inode| self.allocated(inode)).sum()
    }

    /// Returns the bytes that are available. Removed files that are still open take space.
    pub(super) fn available(&self) -> u64 {
        let is_held = |inode: &Inode| {
            self.handles.contains_key(inode) || self.directory.names.values().any(|other| other == inode)
        };
        let used: u64 =
            self.allocated.iter().filter(|(inode, _)| is_held(inode)).map(|(_, bytes)| bytes).sum();
        let capacity = self.conditions.capacity.unwrap_or(1 << 40);
        capacity.saturating_sub(used + self.conditions.used_by_others)
    }

    /// Updates the space that a file takes.
    pub(super) fn update(&mut self, inode: Inode) {
        let now = self.now.as_nanos() as u64;
        let Some(file) = self.file(inode) else { return };
        file.modified = now;
        let allocated = file.cached.allocated();
        let before = self.allocated.insert(inode, allocated).unwrap_or_default();
        self.extremes.most_used = self.extremes.most_used.max(self.used());
        if allocated > before {
            self.extremes.least_available = self.extremes.least_available.min(self.available());
        }
    }

    /// Removes the files to which nothing refers any more.
    pub(super) fn collect(&mut self) {
        let (handles, directory) = (&self.handles, &self.directory);
        self.files.retain(|inode, _| handles.contains_key(inode) || directory.refers_to(*inode));
        let files = &self.files;
        self.allocated.retain(|inode, _| files.contains_key(inode));
    }

    /// Ends the steps of a sync that is beginning, because another operation depends on them.
    pub(super) fn complete_steps(&mut self) {
        let steps = self.beginning.as_mut().map(std::mem::take).unwrap_or_default();
        steps.into_iter().for_each(|step| self.end_step(step));
    }

    /// Returns the error that an operation must have now, if any.
    pub(super) fn failure(&mut self, operation: Operation) -> Option<io::Error> {
        if self.conditions.is_read_only {
            return Some(io::Error::from_raw_os_error(libc::EROFS));
        }
        let at = self.failures.iter().position(|(kind, ..)| *kind == operation)?;
        if let Some(later) = self.failures[at].1.checked_sub(1) {
            self.failures[at].1 = later;
            return None;
        }
        self.failures.remove(at).map(|(_, _, errno)| io::Error::from_raw_os_error(errno))
    }
}
