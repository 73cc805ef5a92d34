//! Counts the records of a capture while they are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use pmon_analysis::Statistics;
use pmon_core::capture::{Header, Record};
use pmon_record::{KeptRecords, Sink, SinkError};
use pmon_store::CaptureFile;

use crate::input::shown;
use crate::report::programs::ProgramCounter;
use crate::report::summary::Summary;
use crate::report::verdict::CompletenessChecker;

/// A sink that counts the records that it writes to a capture file.
pub(crate) struct CountingSink {
    pub(crate) file: CaptureFile,
    pub(crate) statistics: Statistics,
    pub(crate) checker: CompletenessChecker,
    /// Counts the programs of the recorded command, if there is one.
    pub(crate) programs: Option<ProgramCounter>,
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
        let statistics = Statistics::new(header.byte_order, header.meta.recorder());
        let checker = CompletenessChecker::new(Some(header), header.byte_order);
        (Self { file, statistics, checker, programs: None, shared: shared.clone() }, SinkMonitor(shared))
    }

    /// Returns the summary of the completed capture.
    pub(crate) fn into_summary(self, header: &Header) -> Summary<'_> {
        let Self { file, statistics, checker, .. } = self;
        Summary { file, statistics, completeness: checker.finish(true), header }
    }
}

impl Sink for CountingSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.statistics.count(record);
        self.checker.count(record);
        if let Some(programs) = &mut self.programs {
            programs.count(record);
        }
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
        self.file.discard().map_err(|error| SinkError::from_io("remove", path, KeptRecords::PassedOn, error))
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
