//! Begins segments: the first one, those after a division, and those after a failure.

use pmon_core::MonoNs;
use pmon_core::capture::{
    ClockAnchor, CpuPosition, Header, Record, SegmentInfo, SegmentReason, Snapshot, SnapshotReason,
};
use pmon_record::{Sink as _, SinkError};
use rustix::rand::{GetRandomFlags, getrandom};

use super::segment::{OpenSegment, Spans};
use super::{RETRY, StoreWriter, open};
use crate::disk::Filesystem as _;
use crate::file::{CaptureFile, CaptureFileError, CaptureFileOptions};
use crate::segment::SegmentName;

/// Bytes that must be free for a segment to begin, besides its opening.
const MIN_ROOM: u64 = 256 << 10;
/// Maximum number of names that are tried for one segment, if other processes take them.
const MAX_NAMES: u32 = 16;

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
        let clock = self.clock_at(self.tally.time);
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
        let room = MIN_ROOM.min(self.options.effective_rotate_size(None) / 2);
        self.filesystem.make_room(room).map_err(|error| {
            let path = self.filesystem.path("");
            format!("no room for a segment in {}: {error}", path.display())
        })?;
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
