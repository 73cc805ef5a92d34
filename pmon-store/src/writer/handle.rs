//! Access to a running [`StoreWriter`](super::StoreWriter) from other threads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::StoreOptions;
use crate::disk::Filesystem;

/// The state of a store that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Bytes of the store on disk, everything included.
    pub used: u64,
    /// Number of segments, including those being written.
    pub segments: usize,
    /// Name of the oldest segment.
    pub oldest: Option<String>,
    /// Name of the segment being written, which ends in `.partial`; `None` while none can be
    /// written.
    pub current: Option<String>,
    /// Size of that segment in bytes.
    pub current_bytes: u64,
    /// Number of events that could not be written so far.
    pub lost_to_storage: u64,
    /// Number of segments that were removed because of a limit.
    pub pruned: u64,
    /// The last error of the filesystem, with the file and the operation; `None` once the store has
    /// been written for three seconds without one.
    pub last_error: Option<String>,
    /// Why names in the directory are not made durable; `None` if they are.
    pub unsynced_directory: Option<String>,
}

/// Access to a running [`StoreWriter`](super::StoreWriter), from any thread.
#[derive(Clone)]
pub struct StoreHandle {
    pub(super) shared: Arc<Shared>,
}

/// What the writer thread and the handles share.
pub(super) struct Shared {
    state: Mutex<SharedState>,
    changed: Condvar,
    filesystem: Arc<dyn Filesystem>,
}

/// The part of [`Shared`] behind a lock.
pub(super) struct SharedState {
    pub(super) options: StoreOptions,
    pub(super) status: StoreStatus,
    /// Whether a rotation is requested.
    pub(super) rotation: bool,
    /// Number of segments that have begun.
    pub(super) begun: u64,
    /// Number of segments that have ended, and have their final names.
    pub(super) ended: u64,
}

impl Shared {
    pub(super) fn new(options: StoreOptions, filesystem: Arc<dyn Filesystem>) -> Arc<Self> {
        let state =
            SharedState { options, status: StoreStatus::default(), rotation: false, begun: 0, ended: 0 };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new(), filesystem })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SharedState> {
        // The state is a few independent values, so a panic elsewhere leaves it consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }
}

impl StoreHandle {
    /// Requests that the current segment ends. Returns the number of ended segments at which every
    /// event so far is in an ended segment.
    pub fn request_rotation(&self) -> u64 {
        let mut state = self.shared.lock();
        state.rotation = true;
        state.begun
    }

    /// Returns the number of segments that have ended since the store was opened.
    pub fn ended(&self) -> u64 {
        self.shared.lock().ended
    }

    /// Waits until `count` segments have ended, for at most `timeout`. Returns whether they have.
    pub(crate) fn wait_ended(&self, count: u64, timeout: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, timeout, |state| state.ended < count);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended >= count
    }

    /// Replaces the options. They apply from the next check on, within a second.
    pub fn set_options(&self, options: StoreOptions) {
        self.shared.lock().options = options;
    }

    /// Returns the current options.
    pub fn options(&self) -> StoreOptions {
        self.shared.lock().options
    }

    /// Returns the state of the store.
    pub fn status(&self) -> StoreStatus {
        self.shared.lock().status.clone()
    }

    /// Returns the store's filesystem, limited by its options: a write to a file that was created
    /// here removes the oldest segments if it needs their room, and fails with `StorageFull` if
    /// there is none.
    pub fn filesystem(&self) -> Arc<dyn Filesystem> {
        self.shared.filesystem.clone()
    }
}
