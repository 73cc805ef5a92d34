//! Writes a store of segments.
//!
//! A division seals all records of the current segment, opens the next one, and leaves the ending
//! one to the sync thread. A failure closes the current segment. The next one begins at the last
//! positions that readers find in the store, and records everything after them as lost.
//!
//! * `open`: locks a store, and recovers unfinished segments.
//! * `sink`: receives the records.
//! * `begin`: begins segments.
//! * `fail`: ends segments that cannot be written further.
//! * `finish`: finishes segments on a thread of their own.
//! * `limits`, `limited_disk`, `ledger`: the directory and its files within the limits of a store,
//!   and what they take on disk.
//! * `handle`, `last_error`: access from other threads, and the error that they are shown.

mod begin;
mod fail;
mod finish;
mod handle;
mod last_error;
mod ledger;
mod limited_disk;
mod limits;
mod open;
mod options;
mod segment;
mod sink;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pmon_analysis::process::ProcessModel;
use pmon_core::MonoNs;
use pmon_core::accounting::LossCause;
use pmon_core::capture::{
    ClockAnchor, End, Header, Positions, Record, ScopeInfo, SegmentInfo, SegmentReason,
};
use pmon_core::wire::EventBody;
use pmon_record::SinkError;

use crate::disk::{Filesystem, StoreLock};
use crate::file::partial;
use crate::segment::StoreMachine;
use crate::tally::Tally;

use finish::FinishingSegment;
use handle::Shared;
pub use handle::{StoreHandle, StoreStatus};
use last_error::LastError;
use limits::LimitedFilesystem;
pub use open::{LastSegment, LockedStore, OpenStoreError, Recovered};
pub use options::StoreOptions;
use segment::{OpenSegment, Spans};

/// Time between attempts to begin a segment after a failure, and between checks whether the current
/// one is still in the directory.
const RETRY: Duration = Duration::from_secs(1);

/// Receives the records of a store on the writer thread.
pub trait RecordObserver: Send {
    /// Returns whether the next records matter to the observer. The writer calls this once per
    /// chunk of records, and passes no record while the result is `false`.
    fn is_interested(&mut self) -> bool;

    /// Receives a record: an exit before the model applies it, any other record afterwards.
    fn observe(&mut self, record: &Record<'_>, model: &ProcessModel);
}

/// Writes a store of segments.
///
/// A full or failing disk is no error: the writer removes the oldest segments, counts the events
/// that it cannot write, and records their loss as soon as there is room.
pub struct StoreWriter {
    shared: Arc<Shared>,
    filesystem: Arc<LimitedFilesystem>,
    /// `None` after another recorder has locked a directory that replaced the store's.
    lock: Option<Box<dyn StoreLock>>,
    template: Header,
    options: StoreOptions,
    /// Bytes that the store can take, as of the last tick; `None` if unknown.
    room: Option<u64>,
    model: ProcessModel,
    observer: Option<Box<dyn RecordObserver>>,
    /// Whether the records of the current chunk are passed to the observer.
    is_observed: bool,
    current: Option<OpenSegment>,
    /// The segment before the current one, while details of its execs are awaited.
    ending: Option<OpenSegment>,
    finishing: Vec<FinishingSegment>,
    /// All records so far.
    tally: Tally,
    /// The records that readers find in the store.
    written: Tally,
    /// Spans without events that readers do not find yet.
    unwritten_spans: Spans,
    /// UUID of the last segment that readers find.
    previous: Option<[u8; 16]>,
    /// Start of the last segment.
    last_start: ClockAnchor,
    /// Reason of the next segment after a failure.
    next_reason: SegmentReason,
    scope: Option<ScopeInfo>,
    /// The last positions, if no segment could be written when they were recorded.
    unwritten_positions: Option<Positions>,
    /// The end of the recording, if it could not be written yet.
    unwritten_end: Option<End>,
    /// Time of the last tick, or of the start.
    now: Instant,
    /// A reading of the clocks, and the time of the tick before it.
    clock: (ClockAnchor, Instant),
    retry_at: Option<Instant>,
    check_at: Option<Instant>,
    /// Events lost to the storage in segments that have begun since.
    lost_to_storage: u64,
    last_error: LastError,
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
        now: Instant,
    ) -> Result<(Self, StoreHandle, Recovered), OpenStoreError> {
        let store = LockedStore::open(filesystem, &template.meta.host)?;
        let recovered = store.recovered().clone();
        let (writer, handle) = Self::begin(store, template, options, model, now)?;
        Ok((writer, handle, recovered))
    }

    /// Begins to write a store.
    ///
    /// `template` is the header of the first segment, except for its UUID. If
    /// `template.meta.segment` is missing, the reason is [`SegmentReason::Start`]; if
    /// `template.meta.previous` is missing, it is the last segment of the store. `model` must hold
    /// the processes as of the start, and `now` is its time.
    ///
    /// # Errors
    /// When the directory cannot be listed, or files that are never removed take the maximum size.
    pub fn begin(
        store: LockedStore,
        mut template: Header,
        options: StoreOptions,
        model: ProcessModel,
        now: Instant,
    ) -> Result<(Self, StoreHandle), OpenStoreError> {
        store.check_room(&StoreMachine::of(&template.meta), &options)?;
        let LockedStore { filesystem, lock, recovered, listing } = store;
        let limited = LimitedFilesystem::new(filesystem.clone(), &template.meta, &options, listing);
        let limited = Arc::new(limited.map_err(|source| {
            let path = filesystem.path("");
            OpenStoreError::Io { action: "list", path, source }
        })?);
        let SegmentInfo { reason, positions } = template
            .meta
            .segment
            .take()
            .unwrap_or(SegmentInfo { reason: SegmentReason::Start, positions: Vec::new() });
        let last = recovered.last.map(|last| last.header);
        let last_start = last.as_ref().filter(|last| last.meta.boot_id == template.meta.boot_id);
        let last_start = last_start.map(|last| last.meta.start).unwrap_or_default();
        let previous = template.meta.previous.take().or(last.map(|last| last.uuid));
        let start = template.meta.start;
        let tally = Tally::at(&positions);
        let shared = Shared::new(options, limited.clone());
        let handle = StoreHandle { shared: shared.clone() };
        let mut this = Self {
            shared,
            filesystem: limited,
            lock: Some(lock),
            template,
            options,
            room: None,
            model,
            observer: None,
            is_observed: false,
            current: None,
            ending: None,
            finishing: Vec::new(),
            written: tally.clone(),
            tally,
            unwritten_spans: Spans::default(),
            previous,
            last_start,
            next_reason: reason,
            scope: None,
            unwritten_positions: None,
            unwritten_end: None,
            now,
            clock: (start, now),
            retry_at: None,
            check_at: None,
            lost_to_storage: 0,
            last_error: LastError::default(),
        };
        this.filesystem.enforce(start);
        this.room = this.filesystem.room();
        this.begin_next(reason, start, positions);
        this.update_status();
        Ok((this, handle))
    }

    /// Passes the records to `observer` from now on.
    pub fn set_observer(&mut self, observer: Box<dyn RecordObserver>) {
        self.observer = Some(observer);
        self.ask_observer();
    }

    /// Asks the observer whether the next records matter to it.
    fn ask_observer(&mut self) {
        self.is_observed = self.observer.as_mut().is_some_and(|observer| observer.is_interested());
    }

    /// Returns the processes as of the last record.
    pub fn model(&self) -> &ProcessModel {
        &self.model
    }

    /// Applies a record to the model, and passes it to the observer.
    #[inline]
    fn apply(&mut self, record: &Record<'_>) {
        let Some(observer) = self.observer.as_mut().filter(|_| self.is_observed) else {
            return self.model.apply(record);
        };
        let is_exit = match record {
            Record::Event(datagram, _) => datagram
                .with_event(self.template.byte_order, |event| matches!(event.body, EventBody::Exit { .. })),
            _ => None,
        };
        if is_exit == Some(true) {
            observer.observe(record, &self.model);
            self.model.apply(record);
        } else {
            self.model.apply(record);
            observer.observe(record, &self.model);
        }
    }

    /// Remembers what later segments need of a record that is no event.
    fn note(&mut self, record: &Record<'_>) {
        self.unwritten_spans.add(record);
        match record {
            Record::Scope(scope) => self.scope = Some(scope.clone()),
            Record::Clock(clock) => self.clock = (*clock, self.now),
            Record::Positions(positions) if self.current.is_none() => {
                self.unwritten_positions = Some(positions.clone());
            }
            Record::End(end) if self.current.is_none() => self.unwritten_end = Some(*end),
            _ => {}
        }
    }

    /// Writes a record to the current segment.
    #[inline]
    fn write(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let Some(segment) = &mut self.current else { return Ok(()) };
        match segment.record(record, &self.tally) {
            // Nearly always, the record waits for its block.
            Ok(()) if !segment.file.holds_all() => Ok(()),
            written => self.check(written),
        }
    }

    /// Handles the result of a call on the current segment's file. Only a record that does not fit
    /// the format is an error.
    #[inline]
    fn check(&mut self, result: Result<(), SinkError>) -> Result<(), SinkError> {
        match result {
            Ok(()) => self.note_written(),
            Err(SinkError::Encode(error)) => return Err(SinkError::Encode(error)),
            Err(error) => self.fail(error.to_string()),
        }
        Ok(())
    }

    /// Remembers the records so far as written if the current file has all of them.
    #[inline]
    fn note_written(&mut self) {
        if let Some(segment) = &mut self.current
            && segment.file.holds_all()
        {
            segment.is_written = segment.has_records;
            self.written.clone_from(&self.tally);
            self.unwritten_spans.clear();
        }
    }

    /// Returns the clocks at the last tick.
    fn clock_now(&self) -> ClockAnchor {
        let (clock, at) = self.clock;
        let elapsed = self.now.saturating_duration_since(at).as_nanos() as u64;
        clock.at(MonoNs(clock.mono.0.saturating_add(elapsed)))
    }

    fn update_status(&self) {
        let usage = self.filesystem.summary();
        let unwritten: u64 = match &self.current {
            Some(_) => 0,
            None => {
                let lost = self.tally.lost_since(&self.written);
                lost.iter().map(|loss| loss.by_cause().of(LossCause::Storage)).sum()
            }
        };
        let mut state = self.shared.lock();
        state.status = StoreStatus {
            used: usage.used,
            segments: usage.sealed
                + usize::from(self.current.is_some())
                + usize::from(self.ending.is_some())
                + self.finishing.len(),
            oldest: usage.oldest,
            current: self.current.as_ref().map(|segment| partial(&segment.name)),
            current_bytes: self.current.as_ref().map_or(0, |segment| segment.file.bytes()),
            lost_to_storage: self.lost_to_storage + unwritten,
            pruned: usage.pruned,
            last_error: self.last_error.text().map(str::to_owned),
            unsynced_directory: usage.unsynced_directory,
        };
    }
}
