//! Writes a store of segments.
//!
//! A division seals all records of the current segment, opens the next one, and leaves the ending
//! one to the sync thread. A failure closes the current segment. The next one begins at the last
//! positions that readers find in the store, and records everything after them as lost.

mod finish;
mod handle;
mod limits;
mod open;
mod options;
mod segment;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pmon_core::MonoNs;
use pmon_core::accounting::LossCause;
use pmon_core::capture::{
    ClockAnchor, CpuPosition, DetailsSubject, End, Header, Record, ScopeInfo, SegmentInfo, SegmentReason,
    Snapshot, SnapshotReason,
};
use pmon_core::wire::EventBody;
use pmon_record::{Division, Sink, SinkError};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::disk::{Filesystem, StoreLock};
use crate::file::{CaptureFile, CaptureFileOptions, StoreError, partial};
use crate::model::ProcessModel;
use crate::segment::{RetentionLimits, SegmentName};
use crate::tally::Tally;

use finish::{FinishingSegment, SegmentEnd};
use handle::Shared;
pub use handle::{StoreHandle, StoreStatus};
use limits::LimitedFilesystem;
pub use open::{LastSegment, LockedStore, OpenStoreError, Recovered};
pub use options::StoreOptions;
use segment::{OpenSegment, Spans};

/// Time between attempts to begin a segment after a failure, and between checks whether the current
/// one is still in the directory.
const RETRY: Duration = Duration::from_secs(1);
/// Time between two ticks, so that requests from other threads are served soon.
const TICK: Duration = Duration::from_millis(250);
/// Time between two ticks while the free space of the filesystem is watched.
const FREE_SPACE_TICK: Duration = Duration::from_millis(40);
/// Bytes that must be free for a segment to begin, besides its opening.
const MIN_ROOM: u64 = 256 << 10;
/// Maximum number of names that are tried for one segment, if other processes take them.
const MAX_NAMES: u32 = 16;

/// Receives each record of a store on the writer thread.
pub trait RecordObserver: Send {
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
    model: ProcessModel,
    observer: Option<Box<dyn RecordObserver>>,
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
    last_error: Option<String>,
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
    /// When the directory cannot be listed.
    pub fn begin(
        store: LockedStore,
        mut template: Header,
        options: StoreOptions,
        model: ProcessModel,
        now: Instant,
    ) -> Result<(Self, StoreHandle), OpenStoreError> {
        let LockedStore { filesystem, lock, recovered } = store;
        let limits = limits(&options);
        let limited = LimitedFilesystem::new(filesystem.clone(), &template.meta, limits);
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
            model,
            observer: None,
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
            unwritten_end: None,
            now,
            clock: (start, now),
            retry_at: None,
            check_at: None,
            lost_to_storage: 0,
            last_error: None,
        };
        this.filesystem.enforce(start);
        this.begin_next(reason, start, positions);
        this.update_status();
        Ok((this, handle))
    }

    /// Passes each record to `observer` from now on.
    pub fn set_observer(&mut self, observer: Box<dyn RecordObserver>) {
        self.observer = Some(observer);
    }

    /// Returns the processes as of the last record.
    pub fn model(&self) -> &ProcessModel {
        &self.model
    }

    /// Begins a segment. If that fails, the records are counted until another attempt succeeds.
    fn begin_next(&mut self, reason: SegmentReason, clock: ClockAnchor, positions: Vec<CpuPosition>) {
        match self.open_segment(reason, clock, positions) {
            Ok(segment) => {
                self.filesystem.set_current_start(segment.start);
                self.last_start = segment.start;
                self.lost_to_storage += segment.carried_events();
                self.current = Some(segment);
                self.next_reason = SegmentReason::Storage;
                self.retry_at = None;
                let mut state = self.shared.lock();
                state.begun += 1;
                state.rotation = false;
                drop(state);
                self.note_written();
            }
            Err(error) => {
                self.last_error = Some(error);
                self.retry_at = Some(self.now + RETRY);
            }
        }
    }

    /// Begins a segment after a failure, at the last positions that readers find.
    fn resume(&mut self) {
        if self.lock.as_ref().is_none_or(|lock| !lock.is_held()) && !self.lock_again() {
            self.retry_at = Some(self.now + RETRY);
            return;
        }
        let (reason, positions) = match self.next_reason {
            SegmentReason::Start => (SegmentReason::Start, Vec::new()),
            reason => (reason, self.written.positions()),
        };
        let clock = self.clock_at(self.tally.time);
        self.begin_next(reason, clock, positions);
    }

    /// Locks a store whose directory or lock was removed. Returns whether this process has the
    /// lock.
    fn lock_again(&mut self) -> bool {
        self.lock = None;
        match self.filesystem.lock() {
            Ok(lock) => self.lock = Some(lock),
            Err(error) => {
                let path = self.filesystem.path("");
                self.last_error = Some(format!("cannot lock the store {}: {error}", path.display()));
            }
        }
        self.lock.is_some()
    }

    /// Creates a segment, and writes its opening: the running processes, and everything that could
    /// not be written before.
    fn open_segment(
        &mut self,
        reason: SegmentReason,
        clock: ClockAnchor,
        positions: Vec<CpuPosition>,
    ) -> Result<OpenSegment, String> {
        if !self.filesystem.has_room(MIN_ROOM.min(self.options.effective_rotate_size(None) / 2)) {
            let path = self.filesystem.path("");
            return Err(format!("no room for a segment in {}", path.display()));
        }
        // Starts order the segments of a boot, so no two are equal.
        let start = after(clock, self.last_start.mono);
        let carried = self.tally.lost_since(&self.written);
        let mut header = self.template.clone();
        header.uuid = uuid();
        header.meta.start = start;
        header.meta.previous = self.previous;
        header.meta.segment = Some(SegmentInfo { reason, positions });
        let (file, name) = self.create(&header)?;
        let mut segment = OpenSegment {
            file,
            name,
            uuid: header.uuid,
            previous: self.previous,
            start,
            since: self.now,
            has_records: false,
            opening_bytes: 0,
            is_written: false,
            at_start: self.written.clone(),
            at_begin: self.tally.clone(),
            is_adjusted: reason == SegmentReason::Storage || !carried.is_empty(),
            carried,
            at_end: None,
            spans: Spans::default(),
        };
        let spans = std::mem::take(&mut self.unwritten_spans);
        if let Err(error) = self.write_opening(&mut segment, &spans) {
            self.unwritten_spans = spans;
            // The first error is reported. A file that stays is salvaged or removed at the next
            // start.
            let _ = segment.file.discard();
            return Err(error.to_string());
        }
        self.unwritten_spans = spans;
        Ok(segment)
    }

    /// Creates the file of a segment with a name that is free.
    fn create(&self, header: &Header) -> Result<(CaptureFile, String), String> {
        let options = CaptureFileOptions { hole: self.options.hole(None), journal: self.options.journal };
        let mut attempts = 0;
        loop {
            let is_taken = |name: &SegmentName| open::is_taken(&*self.filesystem, name.as_str());
            let name =
                SegmentName::unused(&header.meta.host, header.meta.start.real_ns, is_taken).to_string();
            attempts += 1;
            match CaptureFile::create_in(self.filesystem.clone(), &name, header, options, self.now) {
                Ok(file) => return Ok((file, name)),
                Err(StoreError::Exists { .. } | StoreError::Unfinished { .. }) if attempts < MAX_NAMES => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn write_opening(&self, segment: &mut OpenSegment, spans: &Spans) -> Result<(), SinkError> {
        let mut processes = 0;
        for details in self.model.processes() {
            segment.has_records = true;
            segment.file.record(&Record::Details(Box::new(details)))?;
            processes += 1;
        }
        // Without a process, the model does not know any yet, and a scan follows.
        if processes > 0 {
            let time = segment.start.mono;
            let reason = SnapshotReason::Segment;
            segment.file.record(&Record::Snapshot(Snapshot {
                started: time,
                ended: time,
                processes,
                reason,
                atomic: true,
            }))?;
        }
        if segment.is_adjusted
            && let Some(scope) = &self.scope
        {
            segment.file.record(&Record::Scope(scope.clone()))?;
        }
        for loss in segment.carried.iter().flat_map(|loss| loss.records(segment.start.mono)) {
            segment.has_records = true;
            segment.file.record(&Record::Loss(loss))?;
        }
        for span in &spans.records {
            segment.record(span, &self.tally)?;
        }
        segment.file.seal()?;
        segment.opening_bytes = segment.file.bytes();
        Ok(())
    }

    /// Applies a record to the model, and passes it to the observer.
    fn apply(&mut self, record: &Record<'_>) {
        let Some(observer) = &mut self.observer else { return self.model.apply(record) };
        let event = match record {
            Record::Event(datagram, _) => datagram.event(self.template.byte_order),
            _ => None,
        };
        let is_exit = event.is_some_and(|event| matches!(event.body, EventBody::Exit { .. }));
        if is_exit {
            observer.observe(record, &self.model);
            self.model.apply(record);
        } else {
            self.model.apply(record);
            observer.observe(record, &self.model);
        }
    }

    /// Writes a record to the current segment.
    fn write(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let Some(segment) = &mut self.current else { return Ok(()) };
        let written = segment.record(record, &self.tally);
        self.check(written)
    }

    /// Handles the result of a call on the current segment's file. Only a record that does not fit
    /// the format is an error.
    fn check(&mut self, result: Result<(), SinkError>) -> Result<(), SinkError> {
        match result {
            Ok(()) => self.note_written(),
            Err(SinkError::Encode(error)) => return Err(SinkError::Encode(error)),
            Err(error) => self.fail(error.to_string()),
        }
        Ok(())
    }

    /// Remembers the records so far as written if the current file has all of them.
    fn note_written(&mut self) {
        if let Some(segment) = &mut self.current
            && segment.file.holds_all()
        {
            segment.is_written = segment.has_records;
            self.written.clone_from(&self.tally);
            self.unwritten_spans.clear();
        }
    }

    /// Closes the current segment, which cannot be written further, and begins the next one.
    fn fail(&mut self, error: String) {
        self.last_error = Some(error);
        self.note_written();
        let Some(mut segment) = self.current.take() else { return };
        if segment.is_written {
            self.previous = Some(segment.uuid);
            let age = self.now.saturating_duration_since(segment.since);
            self.finish_segment(segment, SegmentEnd::Damaged);
            // A disk that fails at once again must not get a segment at each tick.
            if age < RETRY {
                self.retry_at = Some(self.now + RETRY);
            } else {
                self.resume();
            }
        } else {
            // A file that stays is salvaged or removed at the next start.
            let _ = segment.file.discard();
            self.shared.lock().ended += 1;
            self.shared.notify();
            self.retry_at = Some(self.now + RETRY);
        }
    }

    /// Begins the next segment after another process has removed the file of the current one: its
    /// events are lost.
    fn handle_removal(&mut self) {
        let Some(segment) = self.current.take() else { return };
        let path = self.filesystem.path(&partial(&segment.name));
        self.last_error = Some(format!("{} was removed while it was written", path.display()));
        self.lost_to_storage -= segment.carried_events();
        self.written = segment.at_start;
        self.previous = segment.previous;
        self.unwritten_spans = segment.spans;
        self.shared.lock().ended += 1;
        self.shared.notify();
        self.resume();
    }

    fn finish_segment(&mut self, segment: OpenSegment, end: SegmentEnd) {
        let finishing = FinishingSegment::begin(segment, end, self.filesystem.clone(), self.shared.clone());
        self.finishing.push(finishing);
        self.poll_finishing();
    }

    fn poll_finishing(&mut self) {
        let last_error = &mut self.last_error;
        self.finishing.retain_mut(|segment| {
            let is_done = segment.poll();
            if let Some(error) = segment.take_error() {
                *last_error = Some(error);
            }
            !is_done
        });
    }

    /// Returns a reading of the clocks at a monotonic time, derived from the last recorded one.
    fn clock_at(&self, mono: MonoNs) -> ClockAnchor {
        let (clock, _) = self.clock;
        let ahead = mono.0 as i64 - clock.mono.0 as i64;
        ClockAnchor {
            mono,
            boot_ns: clock.boot_ns.saturating_add_signed(ahead),
            real_ns: clock.real_ns.saturating_add(ahead),
        }
    }

    /// Returns the clocks at the last tick.
    fn clock_now(&self) -> ClockAnchor {
        let (clock, at) = self.clock;
        let elapsed = self.now.saturating_duration_since(at).as_nanos() as u64;
        self.clock_at(MonoNs(clock.mono.0.saturating_add(elapsed)))
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
            last_error: self.last_error.clone().or(usage.last_error),
            unsynced_directory: usage.unsynced_directory,
        };
    }

    /// Checks once a second whether the current segment and the lock are still in the directory.
    fn check_directory(&mut self, now: Instant) {
        if self.check_at.is_some_and(|at| now < at) {
            return;
        }
        self.check_at = Some(now + RETRY);
        if self.lock.as_ref().is_some_and(|lock| !lock.is_held()) {
            self.lock_again();
        }
        // A directory that is away may come back with its files.
        if let Some(segment) = &self.current
            && self.filesystem.directory().is_ok()
            && self
                .filesystem
                .entry(&partial(&segment.name))
                .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            self.handle_removal();
        }
    }
}

impl Sink for StoreWriter {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.apply(record);
        self.tally.apply(record, self.template.byte_order);
        self.unwritten_spans.add(record);
        match record {
            Record::Scope(scope) => self.scope = Some(scope.clone()),
            Record::Clock(clock) => self.clock = (*clock, self.now),
            Record::End(end) if self.current.is_none() => self.unwritten_end = Some(*end),
            _ => {}
        }
        self.write(record)
    }

    fn received_at(&mut self, time: Instant) {
        if let Some(segment) = &mut self.current {
            segment.file.received_at(time);
        }
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        self.now = self.now.max(now);
        self.options = self.shared.lock().options;
        self.filesystem.set_limits(limits(&self.options));
        self.filesystem.enforce(self.clock_now());
        self.poll_finishing();
        self.check_directory(now);
        if self.current.is_none() && self.retry_at.is_none_or(|at| at <= now) {
            self.resume();
        }
        let mut due = now + if self.options.keep_free.is_some() { FREE_SPACE_TICK } else { TICK };
        if let Some(segment) = &mut self.current {
            let ticked = segment.file.tick(now);
            due = ticked.as_ref().ok().copied().flatten().map_or(due, |at| at.min(due));
            self.check(ticked.map(drop))?;
        }
        if let Some(segment) = &mut self.ending {
            match segment.file.tick(now) {
                Ok(at) => due = at.map_or(due, |at| at.min(due)),
                Err(SinkError::Encode(error)) => return Err(SinkError::Encode(error)),
                Err(error) => self.abandon_ending(&error),
            }
        }
        self.update_status();
        Ok(Some(due))
    }

    fn has_segments(&self) -> bool {
        true
    }

    fn segment_due(&mut self) -> Option<SegmentReason> {
        if self.ending.is_some() {
            return None;
        }
        let segment = self.current.as_ref()?;
        let age = self.now.saturating_duration_since(segment.since);
        if self.shared.lock().rotation {
            Some(SegmentReason::Request)
        } else if segment.file.bytes()
            >= self.options.size_due(segment.file.size_limit(), segment.opening_bytes)
        {
            Some(SegmentReason::Size)
        } else {
            (age >= self.options.rotate_every).then_some(SegmentReason::Age)
        }
    }

    fn begin_segment(&mut self, division: &Division) -> Result<(), SinkError> {
        if let Some(ending) = self.ending.take() {
            self.finish_segment(ending, SegmentEnd::Damaged);
        }
        let Some(segment) = &mut self.current else {
            self.resume();
            return Ok(());
        };
        let uuid = segment.uuid;
        let sealed = segment.file.seal();
        self.check(sealed)?;
        // If the segment has failed, the next one has begun, or is tried again.
        let Some(mut segment) = self.current.take_if(|segment| segment.uuid == uuid) else { return Ok(()) };
        segment.at_end = Some(self.tally.clone());
        self.previous = Some(uuid);
        self.ending = Some(segment);
        self.begin_next(division.reason, division.clock, division.positions.cpus.clone());
        Ok(())
    }

    fn record_late(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.apply(record);
        if let Some(segment) = &mut self.ending {
            match segment.file.record(record) {
                Ok(()) => {}
                Err(SinkError::Encode(error)) => return Err(SinkError::Encode(error)),
                Err(error) => self.abandon_ending(&error),
            }
        }
        let Record::Details(details) = record else { return Ok(()) };
        let DetailsSubject::Exec { tgid, time } = details.subject else { return Ok(()) };
        let process = self.model.get(tgid).filter(|process| process.exec_at() == Some(time));
        match process.map(|process| process.details()) {
            Some(details) => self.write(&Record::Details(Box::new(details))),
            None => Ok(()),
        }
    }

    fn end_segment(&mut self, end: &End) -> Result<(), SinkError> {
        let Some(mut segment) = self.ending.take() else { return Ok(()) };
        let end = segment.end(end, segment.at_end.as_ref().unwrap_or(&self.tally));
        match segment.file.record(&Record::End(end)) {
            Ok(()) => self.finish_segment(segment, SegmentEnd::Clean),
            Err(SinkError::Encode(error)) => return Err(SinkError::Encode(error)),
            Err(error) => {
                self.last_error = Some(error.to_string());
                self.finish_segment(segment, SegmentEnd::Damaged);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        if let Some(ending) = self.ending.take() {
            self.finish_segment(ending, SegmentEnd::Damaged);
        }
        if self.current.is_none() {
            self.resume();
            if let Some(end) = self.unwritten_end.take() {
                self.write(&Record::End(end))?;
            }
        }
        let failed = match self.current.take() {
            Some(segment) => {
                let filesystem = self.filesystem.clone();
                let mut last =
                    FinishingSegment::begin(segment, SegmentEnd::Clean, filesystem, self.shared.clone());
                last.wait();
                last.take_error()
            }
            None => self.last_error.clone(),
        };
        self.finishing.iter_mut().for_each(FinishingSegment::wait);
        self.poll_finishing();
        if failed.is_none() {
            self.written.clone_from(&self.tally);
        }
        self.last_error = failed.clone().or(self.last_error.take());
        self.update_status();
        failed.map_or(Ok(()), |error| Err(SinkError::Other(error)))
    }
}

impl StoreWriter {
    /// Closes the ending segment, which cannot be written further. Its events are in sealed blocks.
    fn abandon_ending(&mut self, error: &SinkError) {
        self.last_error = Some(error.to_string());
        if let Some(segment) = self.ending.take() {
            self.finish_segment(segment, SegmentEnd::Damaged);
        }
    }
}

fn limits(options: &StoreOptions) -> RetentionLimits {
    RetentionLimits { max_use: options.max_use, keep_free: options.keep_free, max_age: options.max_age }
}

/// Returns a clock reading moved to after `earlier`, if it is not later anyway.
fn after(clock: ClockAnchor, earlier: MonoNs) -> ClockAnchor {
    let ahead = (earlier.0 + 1).saturating_sub(clock.mono.0);
    ClockAnchor {
        mono: MonoNs(clock.mono.0 + ahead),
        boot_ns: clock.boot_ns + ahead,
        real_ns: clock.real_ns.saturating_add_unsigned(ahead),
    }
}

/// Returns 16 random bytes, marked as a version 4 UUID (RFC 9562).
fn uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    // One call returns up to 256 bytes completely once the kernel's pool is initialised.
    let filled = rustix::io::retry_on_intr(|| getrandom(&mut uuid[..], GetRandomFlags::empty()));
    debug_assert_eq!(filled, Ok(16));
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}
