//! A capture that is counted while it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pmon_analysis::Tally;
use pmon_core::capture::Record;
use pmon_core::wire::ByteOrder;
use pmon_record::assemble::Counts;
use pmon_record::{CaptureFile, Counters, Sink, SinkError};

use crate::input::shown;
use crate::term::{grouped, size};
use crate::when::brief;

/// See the module.
pub(crate) struct Tape {
    pub(crate) file: CaptureFile,
    pub(crate) tally: Tally,
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
    /// A tape whose datagrams are in `order`.
    pub(crate) fn new(file: CaptureFile, order: ByteOrder) -> (Self, Handle) {
        let shared = Arc::new(Shared::default());
        (Self { file, tally: Tally::new(order), shared: shared.clone() }, Handle(shared))
    }
}

impl Sink for Tape {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.tally.count(record);
        self.file.record(record)
    }

    fn tick(&mut self, now: Instant) -> Result<(), SinkError> {
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

/// The line that a recording shows while it runs.
pub(crate) fn status(elapsed: Duration, counters: Counters, bytes: u64) -> String {
    let Counters { totals: Counts { events, lost, .. }, queue_fill, .. } = counters;
    let rate = (events as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let elapsed = match elapsed.as_secs() {
        s @ 0..60 => format!("{s}s"),
        s => brief(s * 1_000_000_000),
    };
    let (events, rate, lost, bytes) = (grouped(events), grouped(rate), grouped(lost.total()), size(bytes));
    let queue =
        if queue_fill >= 0.1 { format!(", queue {:.0} %", queue_fill * 100.0) } else { String::new() };
    format!("recording {elapsed}: {events} events ({rate}/s), {lost} lost, {bytes}{queue}; Ctrl-C ends it")
}
