//! A capture that is counted while it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use pmon_analysis::Tally;
use pmon_core::capture::{Header, Record};
use pmon_record::{CaptureFile, Sink, SinkError};
use serde_json::{Map, Value, json};

use crate::input::shown;
use crate::report::details;
use crate::report::verdict::{Examiner, Finding};
use crate::terminal::per_event;

/// A sink that counts the records that it writes to a capture.
pub(crate) struct Tape {
    pub(crate) file: CaptureFile,
    pub(crate) tally: Tally,
    pub(crate) examiner: Examiner,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    bytes: AtomicU64,
    discarded: AtomicBool,
}

/// What the controlling thread sees of a [`Tape`] that the writer thread has.
pub(crate) struct Handle(Arc<Shared>);

impl Tape {
    /// A tape with that header.
    pub(crate) fn new(file: CaptureFile, header: &Header) -> (Self, Handle) {
        let shared = Arc::new(Shared::default());
        let tally = Tally::new(header.frame_order, header.meta.recorder());
        let examiner = Examiner::new(Some(header), header.frame_order);
        (Self { file, tally, examiner, shared: shared.clone() }, Handle(shared))
    }
}

/// What JSON says of a capture that was written, beside what was found: its place, size, length and details.
pub(crate) fn facts(
    file: &CaptureFile,
    tally: &Tally,
    finding: &Finding,
    header: &Header,
) -> Map<String, Value> {
    let end = finding.report.end.map_or(0, |end| end.time.0);
    let more = json!({
        "file": file.path().map(|path| path.to_string_lossy()),
        "bytes": file.bytes(),
        "bytes_per_event": per_event(file.bytes(), tally.events),
        "duration_ns": end.saturating_sub(header.meta.start.mono.0),
        "details": details::json(tally),
    });
    let mut facts = finding.json();
    facts.extend(more.as_object().cloned().unwrap_or_default());
    facts
}

impl Sink for Tape {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.tally.count(record);
        self.examiner.count(record);
        self.file.record(record)
    }

    fn taken_at(&mut self, time: Instant) {
        self.file.taken_at(time);
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        self.shared.bytes.store(self.file.bytes(), Ordering::Relaxed);
        self.file.tick(now)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        if !self.shared.discarded.load(Ordering::Acquire) {
            return self.file.finish();
        }
        let path = self.file.path().map(shown).unwrap_or_default();
        self.file.discard().map_err(|error| SinkError::from_io("remove", path, None, error))
    }
}

impl Handle {
    /// Lets the capture be removed, rather than finished, at the end of the recording.
    pub(crate) fn discard(&self) {
        self.0.discarded.store(true, Ordering::Release);
    }

    /// Bytes of the capture, as of the last tick.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }
}
