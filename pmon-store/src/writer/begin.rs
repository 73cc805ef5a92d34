//! Begins segments: the first one, those after a division, and those after a failure.

use pmon_core::MonoNs;
use pmon_core::capture::{
    ClockAnchor, CpuPosition, Header, Record, SegmentInfo, SegmentReason, Snapshot, SnapshotReason,
};
use pmon_record::{Sink as _, SinkError};

use super::segment::{OpenSegment, Spans};
use super::{RETRY, StoreOptions, StoreWriter, open};
use crate::disk::Filesystem as _;
use crate::file::{CaptureFile, CaptureFileError, CaptureFileOptions};
use crate::segment::SegmentName;

/// Bytes that must be free for a segment to begin, besides its opening.
const MIN_ROOM: u64 = 256 << 10;
/// Maximum number of names that are tried for one segment, if other processes take them.
const MAX_NAMES: u32 = 16;

/// Returns the bytes that must be free for a segment to begin.
pub(super) fn room_to_begin(options: &StoreOptions) -> u64 {
    MIN_ROOM.min(options.effective_rotate_size(None) / 2)
}

impl StoreWriter {
    /// Begins a segment. If that fails, the records are counted until another attempt succeeds.
    pub(super) fn begin_next(
        &mut self,
        reason: SegmentReason,
        clock: ClockAnchor,
        positions: Vec<CpuPosition>,
    ) {
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
                self.filesystem.set_failed();
                self.last_error.set(error);
                self.retry_at = Some(self.now + RETRY);
            }
        }
    }

    /// Begins a segment after a failure, at the last positions that readers find.
    pub(super) fn resume(&mut self) {
        if self.lock.as_ref().is_none_or(|lock| !lock.is_held()) && !self.lock_again() {
            self.retry_at = Some(self.now + RETRY);
            return;
        }
        let (reason, positions) = match self.next_reason {
            SegmentReason::Start => (SegmentReason::Start, Vec::new()),
            reason => (reason, self.written.positions()),
        };
        let clock = self.clock.0.at(self.tally.time);
        self.begin_next(reason, clock, positions);
    }

    /// Locks a store whose directory or lock was removed. Returns whether this process has the
    /// lock.
    pub(super) fn lock_again(&mut self) -> bool {
        self.lock = None;
        match self.filesystem.lock() {
            Ok(lock) => self.lock = Some(lock),
            Err(error) => {
                let path = self.filesystem.path("");
                self.last_error.set(format!("cannot lock the store {}: {error}", path.display()));
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
        self.filesystem.make_room(room_to_begin(&self.options)).map_err(|error| {
            let path = self.filesystem.path("");
            format!("no room for a segment in {}: {error}", path.display())
        })?;
        // Starts order the segments of a boot, so no two are equal.
        let start = clock.at(clock.mono.max(MonoNs(self.last_start.mono.0.saturating_add(1))));
        let carried = self.tally.lost_since(&self.written);
        let mut header = self.template.clone();
        header.uuid = self.filesystem.new_uuid();
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
            // A file that is being finished is not there if the directory was replaced.
            let is_unfinished = |name: &str| {
                self.ending.as_ref().is_some_and(|ending| ending.name == name)
                    || self.finishing.iter().any(|finishing| finishing.name() == name)
            };
            let is_taken = |name: &SegmentName| {
                is_unfinished(name.as_str()) || open::is_taken(&*self.filesystem, name.as_str())
            };
            let name =
                SegmentName::unused(&header.meta.host, header.meta.start.real_ns, is_taken).to_string();
            attempts += 1;
            match CaptureFile::create_in(self.filesystem.clone(), &name, header, options, self.now) {
                Ok(file) => return Ok((file, name)),
                Err(CaptureFileError::Exists { .. } | CaptureFileError::Unfinished { .. })
                    if attempts < MAX_NAMES => {}
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
}
