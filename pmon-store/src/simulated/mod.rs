//! A filesystem in memory and in virtual time, for tests: it can lose un-synced data at every
//! operation, fill up, fail, and be slow.
//!
//! The model is that of POSIX, without the guarantees that particular filesystems add:
//!
//! * Reads return what was written last. After a kill, they still do; a write that was interrupted
//!   may be there in part.
//! * After a power loss, each page of 512 bytes has any of its versions since the last sync of its
//!   file, and the file any of its lengths. Changes of names are on the disk in their order, up to
//!   any of those since the last sync of the directory. Neither sync includes the other.
//! * A sync makes durable what was written before it began, once it has ended. A failed one is
//!   reported once: what it should have written never reaches the disk, and reads return the old
//!   bytes at once or not.
//! * Other writers take and free space. A removed file keeps its space while it is open.
//!
//! Every random decision comes from an argument, so a run is the same each time.

mod clips;
mod directory;
mod file;
mod filesystem;
mod state;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use oorandom::Rand32;

pub use clips::SimulatedClips;
use directory::Inode;
use file::UNIT;
use state::FilesystemState;

/// A kind of operation that changes a simulated filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// A file is created.
    Create,
    /// Bytes are written.
    Write,
    /// The length of a file is set.
    SetLen,
    /// A part of a file is made a hole.
    PunchHole,
    /// A sync of a file begins.
    Sync,
    /// A file is renamed.
    Rename,
    /// A file is removed.
    Remove,
    /// A sync of the directory begins.
    SyncDirectory,
}

/// How a simulated filesystem behaves.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Bytes of the whole filesystem; `None` if it is never full.
    pub capacity: Option<u64>,
    /// Bytes that other writers use.
    pub used_by_others: u64,
    /// `RLIMIT_FSIZE` of the recorder.
    pub size_limit: Option<u64>,
    /// Duration of a sync.
    pub sync_takes: Duration,
    /// Whether the work beside the writer happens at the end of its time, not at the start.
    pub works_late: bool,
    /// Whether files may have no holes.
    pub has_no_holes: bool,
    /// Whether `fallocate(2)` is unsupported.
    pub has_no_punch: bool,
    /// Whether every change is refused with `EROFS`.
    pub is_read_only: bool,
    /// Whether the directory was deleted: nothing can be created or found in it.
    pub is_deleted: bool,
    /// Whether the directory cannot be synced. Its names are then durable at once.
    pub has_no_directory_sync: bool,
    /// Whether reads return the old bytes after a failed sync.
    pub drops_pages: bool,
    /// An operation that reports success and has no effect: a mistake that tests must find.
    pub omits: Option<Operation>,
}

/// The most and the fewest bytes since they were taken last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extremes {
    /// The most bytes that the files of the directory took after a change.
    pub most_used: u64,
    /// The fewest bytes that were available right after the recorder had allocated some.
    pub least_available: u64,
}

impl Default for Extremes {
    fn default() -> Self {
        Self { most_used: 0, least_available: u64::MAX }
    }
}

/// A directory in a simulated filesystem. Copies refer to the same one.
#[derive(Clone, Default)]
pub struct SimulatedFilesystem {
    shared: Arc<SharedState>,
}

#[derive(Default)]
struct SharedState {
    state: Mutex<FilesystemState>,
    watcher: Mutex<Option<Watcher>>,
}

/// Called before each operation that changes the filesystem.
type Watcher = Box<dyn FnMut(&Moment<'_>) + Send>;

/// The filesystem right before an operation.
pub struct Moment<'a> {
    /// The operation.
    pub operation: Operation,
    /// Number of operations before this one.
    pub number: u64,
    /// Name of the file that the operation creates, renames, removes or changes.
    pub name: &'a str,
    state: &'a FilesystemState,
    /// The write that is about to happen.
    write: Option<(Inode, &'a [u8], u64)>,
}

impl Moment<'_> {
    /// Returns the virtual time.
    pub fn now(&self) -> Duration {
        self.state.now
    }

    /// Returns a copy of the filesystem as it is now.
    pub fn filesystem(&self) -> SimulatedFilesystem {
        SimulatedFilesystem::from_state(self.state.clone())
    }

    /// Returns the filesystem if the recorder is killed now. A part of a write may have happened.
    pub fn after_kill(&self, random: &mut Rand32) -> SimulatedFilesystem {
        let mut state = self.state.clone();
        if let Some((inode, bytes, at)) = self.write {
            // A signal interrupts a write between two pages.
            let units = random.rand_range(0..(bytes.len() as u64).div_ceil(UNIT) as u32 + 1);
            let len = bytes.len().min(units as usize * UNIT as usize);
            // An error ends the write earlier still.
            let _ = state.write(inode, &bytes[..len], at);
        }
        SimulatedFilesystem::from_state(state.restart())
    }

    /// Returns the filesystem after a power loss now.
    pub fn after_power_loss(&self, random: &mut Rand32) -> SimulatedFilesystem {
        let mut state = self.state.clone();
        if let Some((inode, bytes, at)) = self.write {
            // An error ends the write earlier.
            let _ = state.write(inode, bytes, at);
        }
        state.lose_power(random);
        SimulatedFilesystem::from_state(state.restart())
    }
}

impl SimulatedFilesystem {
    fn from_state(state: FilesystemState) -> Self {
        Self { shared: Arc::new(SharedState { state: Mutex::new(state), watcher: Mutex::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, FilesystemState> {
        self.shared.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn watcher(&self) -> MutexGuard<'_, Option<Watcher>> {
        self.shared.watcher.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Returns how the filesystem behaves.
    pub fn conditions(&self) -> Conditions {
        self.state().conditions.clone()
    }

    /// Changes how the filesystem behaves.
    pub fn set_conditions(&self, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.state().conditions);
    }

    /// Sets the seed of the UUIDs of new captures.
    pub fn seed_uuids(&self, seed: u64) {
        self.state().uuid_seed = seed;
    }

    /// Lets an operation of this kind fail, after `skip` more of the kind have succeeded.
    pub fn fail(&self, operation: Operation, skip: u32, errno: i32) {
        self.state().failures.push_back((operation, skip, errno));
    }

    /// Cancels the failures that have not happened yet.
    pub fn cancel_failures(&self) {
        self.state().failures.clear();
    }

    /// Calls `watcher` before each operation that changes the filesystem. It may use the moment,
    /// but not this filesystem.
    pub fn watch(&self, watcher: impl FnMut(&Moment<'_>) + Send + 'static) {
        *self.watcher() = Some(Box::new(watcher));
    }

    /// Stops calling the watcher.
    pub fn unwatch(&self) {
        *self.watcher() = None;
    }

    /// Sets the virtual time, which does not go backwards. Syncs that have run until then end.
    pub fn set_now(&self, now: Duration) {
        self.state().set_now(now);
    }

    /// Returns the virtual time. An operation that waits advances it.
    pub fn now(&self) -> Duration {
        self.state().now
    }

    /// Returns the number of operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Returns the number of operations of a kind so far.
    pub fn count(&self, operation: Operation) -> u64 {
        self.state().counts.get(&operation).copied().unwrap_or_default()
    }

    /// Returns the number of syncs of files that have failed, so that the disk lacks their data.
    pub fn failed_syncs(&self) -> u64 {
        self.state().failed_syncs
    }

    /// Returns the number of files that are open for writing.
    pub fn open_files(&self) -> usize {
        self.state().handles.values().sum()
    }

    /// Returns the bytes on disk of the files in the directory.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Returns the bytes that are available.
    pub fn available_bytes(&self) -> u64 {
        self.state().available()
    }

    /// Returns the extremes since the last call.
    pub fn take_extremes(&self) -> Extremes {
        std::mem::take(&mut self.state().extremes)
    }

    /// Returns the names of all files.
    pub fn names(&self) -> BTreeSet<String> {
        self.state().directory.names.keys().cloned().collect()
    }

    /// Returns the contents of a file; `None` if it does not exist.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.files.get(&state.inode(name).ok()?)?;
        Some(file.cached.read(0, file.cached.len as usize))
    }

    /// Returns a number that identifies the contents of a file: files with the same number have the
    /// same bytes, in copies of the filesystem too. `None` if the file does not exist.
    pub fn version(&self, name: &str) -> Option<u64> {
        let state = self.state();
        Some(state.files.get(&state.inode(name).ok()?)?.version)
    }

    /// Removes a file as another program does, without an operation of the recorder.
    pub fn delete(&self, name: &str) {
        // A file that is already gone needs no deletion.
        let _ = self.state().remove(name);
    }

    /// Returns the filesystem as the next recorder finds it if the recorder is killed now.
    pub fn after_kill(&self) -> Self {
        Self::from_state(self.state().clone().restart())
    }

    /// Returns the filesystem as the next recorder finds it after a power loss now.
    pub fn after_power_loss(&self, random: &mut Rand32) -> Self {
        let mut state = self.state().clone();
        state.lose_power(random);
        Self::from_state(state.restart())
    }

    /// Counts an operation, shows the moment to the watcher, and performs it unless it must fail.
    fn operate<T>(
        &self,
        operation: Operation,
        name: &str,
        write: Option<(Inode, &[u8], u64)>,
        perform: impl FnOnce(&mut FilesystemState) -> io::Result<T>,
    ) -> io::Result<T> {
        let watcher = self.watcher().take();
        let mut state = self.state();
        if !matches!(operation, Operation::Sync | Operation::SyncDirectory) {
            state.complete_steps();
        }
        if let Some(mut watcher) = watcher {
            watcher(&Moment { operation, number: state.operations, name, state: &state, write });
            *self.watcher() = Some(watcher);
        }
        state.operations += 1;
        *state.counts.entry(operation).or_default() += 1;
        match state.failure(operation) {
            Some(error) => Err(error),
            None => perform(&mut state),
        }
    }
}

#[cfg(test)]
mod tests;
