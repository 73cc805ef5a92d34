//! Sources of an excerpt that a signal interrupts, so that the unfinished excerpt is removed.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pmon_record::{Signals, WakeReason};
use pmon_store::cut::CutSource;
use pmon_store::{SegmentList, StoredFile};

/// Captures whose reading fails after `SIGINT`, `SIGTERM` or `SIGHUP`.
pub(crate) struct InterruptibleSource<'a> {
    list: &'a SegmentList,
    interruption: Arc<Interruption>,
}

/// Whether a signal has requested the end.
struct Interruption {
    signals: Mutex<Signals>,
    has_happened: AtomicBool,
}

impl<'a> InterruptibleSource<'a> {
    /// Wraps captures. The signals no longer end the process from now on.
    pub(crate) fn new(list: &'a SegmentList, signals: Signals) -> Self {
        let interruption =
            Interruption { signals: Mutex::new(signals), has_happened: AtomicBool::new(false) };
        Self { list, interruption: Arc::new(interruption) }
    }

    /// Returns whether a signal has interrupted the reading.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interruption.has_happened.load(Ordering::Relaxed)
    }
}

impl Interruption {
    fn check(&self) -> io::Result<()> {
        // A thread that panicked leaves the signals usable.
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(signals.wait(Some(Duration::ZERO))?, WakeReason::Interrupt | WakeReason::Terminate) {
            self.has_happened.store(true, Ordering::Relaxed);
        }
        if self.has_happened.load(Ordering::Relaxed) {
            // `Interrupted` would be tried again.
            return Err(io::Error::other("interrupted"));
        }
        Ok(())
    }
}

impl CutSource for InterruptibleSource<'_> {
    fn count(&self) -> usize {
        self.list.count()
    }

    fn name(&self, index: usize) -> String {
        self.list.name(index)
    }

    fn open(&self, index: usize) -> io::Result<Box<dyn StoredFile>> {
        let file = self.list.open(index)?;
        Ok(Box::new(InterruptibleFile { file, interruption: self.interruption.clone() }))
    }
}

struct InterruptibleFile {
    file: Box<dyn StoredFile>,
    interruption: Arc<Interruption>,
}

impl Read for InterruptibleFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interruption.check()?;
        self.file.read(buffer)
    }
}

impl Seek for InterruptibleFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl StoredFile for InterruptibleFile {
    fn skip_hole(&mut self) -> io::Result<u64> {
        self.file.skip_hole()
    }
}
