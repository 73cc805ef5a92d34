//! Counts the records of a capture while they are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use pmon_analysis::Statistics;
use pmon_core::capture::{Header, Record};
use pmon_record::{CaptureFile, Sink, SinkError};
use serde_json::{Map, Value, json};

use crate::input::shown;
use crate::report::details;
use crate::report::verdict::{Completeness, CompletenessChecker};
use crate::terminal::per_event;

/// A sink that counts the records that it writes to a capture file.
pub(crate) struct CountingSink {
    pub(crate) file: CaptureFile,
    pub(crate) tally: Statistics,
    pub(crate) checker: CompletenessChecker,
    shared: Arc<SharedCounters>,
}

#[derive(Default)]
struct SharedCounters {
    bytes: AtomicU64,
    discarded: AtomicBool,
}

/// A handle for the controlling thread, while the writer thread owns the [`CountingSink`].
pub(crate) struct SinkMonitor(Arc<SharedCounters>);

impl CountingSink {
    /// Creates a sink for a capture with this header.
    pub(crate) fn new(file: CaptureFile, header: &Header) -> (Self, SinkMonitor) {
        let shared = Arc::new(SharedCounters::default());
        let tally = Statistics::new(header.byte_order, header.meta.recorder());
        let checker = CompletenessChecker::new(Some(header), header.byte_order);
        (Self { file, tally, checker, shared: shared.clone() }, SinkMonitor(shared))
    }
}

/// Returns the JSON fields that every verb that writes a capture prints.
pub(crate) fn facts(
    file: &CaptureFile,
    tally: &Statistics,
    completeness: &Completeness,
    header: &Header,
) -> Map<String, Value> {
    let end = completeness.report.end.map_or(0, |end| end.time.0);
    let more = json!({
        "file": file.path().map(|path| path.to_string_lossy()),
        "bytes": file.bytes(),
        "bytes_per_event": per_event(file.bytes(), tally.events),
        "duration_ns": end.saturating_sub(header.meta.start.mono.0),
        "details": details::json(tally),
    });
    let mut facts = completeness.json();
    facts.extend(more.as_object().cloned().unwrap_or_default());
    facts
}

impl Sink for CountingSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.tally.count(record);
        self.checker.count(record);
        self.file.record(record)
    }

    fn received_at(&mut self, time: Instant) {
        self.file.received_at(time);
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

impl SinkMonitor {
    /// Removes the capture at the end of the recording instead of completing it.
    pub(crate) fn discard(&self) {
        self.0.discarded.store(true, Ordering::Release);
    }

    /// Returns the size of the capture in bytes as of the last tick.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }
}
