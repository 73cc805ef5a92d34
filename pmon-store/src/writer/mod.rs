//! Writes a store of segments.

mod handle;
mod options;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use pmon_core::capture::{End, Header, Positions, Record, SegmentReason};
use pmon_record::{Division, Sink, SinkError};
use thiserror::Error;

use crate::disk::Filesystem;
use crate::model::ProcessModel;

use handle::Shared;
pub use handle::{StoreHandle, StoreStatus};
pub use options::StoreOptions;

/// Why a store cannot be opened for writing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// Another recorder writes the store.
    #[error(
        "another recorder{} writes the store {}: stop it, or name another directory",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), .path.display()
    )]
    Busy {
        /// The store's directory.
        path: PathBuf,
        /// Process id of the other recorder, if it is known.
        pid: Option<u32>,
    },
    /// The directory cannot be used.
    #[error("cannot {action} the store {}: {source}", .path.display())]
    Io {
        /// The step that failed.
        action: &'static str,
        /// The store's directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// What an earlier recorder left in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Names of the segments that an earlier recorder did not finish, and that were salvaged.
    pub salvaged: Vec<String>,
    /// Names of unfinished files without a readable header or record, which were kept.
    pub set_aside: Vec<String>,
    /// The last segment of this host; `None` in a new store.
    pub last: Option<LastSegment>,
}

/// The last segment of a store, as found when the store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSegment {
    /// The segment's name.
    pub name: String,
    /// The segment's header.
    pub header: Header,
    /// Whether the segment ended cleanly.
    pub ended_cleanly: bool,
    /// Positions after the segment's last record, counted from its records.
    pub positions: Positions,
}

/// Receives each record of a store on the writer thread.
pub trait RecordObserver: Send {
    /// Receives a record: an exit before the model applies it, any other record afterwards.
    fn observe(&mut self, record: &Record<'_>, model: &ProcessModel);
}

/// A store that this process has locked, and in which it has recovered unfinished segments.
pub struct LockedStore {
    filesystem: Arc<dyn Filesystem>,
    recovered: Recovered,
}

impl LockedStore {
    /// Locks the store, and recovers the segment of a recorder that was killed.
    ///
    /// # Errors
    /// [`OpenStoreError::Busy`] if another recorder writes the store, otherwise when the directory
    /// cannot be used.
    pub fn open(filesystem: Arc<dyn Filesystem>) -> Result<Self, OpenStoreError> {
        Ok(Self { filesystem, recovered: Recovered::default() })
    }

    /// Returns what an earlier recorder left.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }
}

/// Writes a store of segments.
///
/// A full or failing disk is no error: the writer removes the oldest segments, counts the events
/// that it cannot write, and records their loss as soon as there is room.
pub struct StoreWriter {
    shared: Arc<Shared>,
    model: ProcessModel,
}

impl StoreWriter {
    /// Locks the store and begins to write it; see [`StoreWriter::begin`].
    ///
    /// # Errors
    /// As [`LockedStore::open`].
    pub fn open(
        filesystem: Arc<dyn Filesystem>,
        template: Header,
        options: StoreOptions,
        model: ProcessModel,
    ) -> Result<(Self, StoreHandle, Recovered), OpenStoreError> {
        let store = LockedStore::open(filesystem)?;
        let recovered = store.recovered().clone();
        let (writer, handle) = Self::begin(store, template, options, model);
        Ok((writer, handle, recovered))
    }

    /// Begins to write a store.
    ///
    /// `template` is the header of the first segment, except for its UUID. If
    /// `template.meta.segment` is missing, the reason is [`SegmentReason::Start`]. `model` must
    /// hold the processes as of the start.
    pub fn begin(
        store: LockedStore,
        _template: Header,
        options: StoreOptions,
        model: ProcessModel,
    ) -> (Self, StoreHandle) {
        let shared = Shared::new(options, store.filesystem);
        (Self { shared: shared.clone(), model }, StoreHandle { shared })
    }

    /// Passes each record to `observer` from now on.
    pub fn set_observer(&mut self, _observer: Box<dyn RecordObserver>) {}

    /// Returns the processes as of the last record.
    pub fn model(&self) -> &ProcessModel {
        &self.model
    }
}

impl Sink for StoreWriter {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.model.apply(record);
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn segment_due(&mut self) -> Option<SegmentReason> {
        std::mem::take(&mut self.shared.lock().rotation).then_some(SegmentReason::Request)
    }

    fn begin_segment(&mut self, _division: &Division) -> Result<(), SinkError> {
        Ok(())
    }

    fn end_segment(&mut self, _end: &End) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        state.ended += 1;
        drop(state);
        self.shared.notify();
        Ok(())
    }
}
