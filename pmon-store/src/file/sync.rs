//! The results of the syncs of a file.
//!
//! The kernel reports a failed write-back once per open file: the next `fdatasync(2)` succeeds,
//! though the data is lost. The first error therefore stays the result of every later sync.

use std::io;
use std::time::Instant;

use crate::disk::SyncRunner;

/// The syncs of a file, which run beside the writer thread.
pub(super) struct Syncer {
    runner: Box<dyn SyncRunner>,
    /// Start time of the running sync.
    began: Option<Instant>,
    /// Start time of the last successful sync. Everything written before is durable.
    pub(super) safe_until: Instant,
    failed: Option<io::Error>,
}

impl Syncer {
    /// Returns the syncs that `runner` performs.
    pub(super) fn new(runner: Box<dyn SyncRunner>, now: Instant) -> Self {
        Self { runner, began: None, safe_until: now, failed: None }
    }

    /// Whether a sync is running.
    pub(super) fn is_busy(&self) -> bool {
        self.began.is_some()
    }

    /// Begins a sync of everything written so far. No sync may be running.
    pub(super) fn begin(&mut self, now: Instant) {
        self.runner.begin();
        self.began = Some(now);
    }

    /// Returns `true` once for each sync that has succeeded since the last call.
    ///
    /// # Errors
    /// When this sync or any earlier one has failed.
    pub(super) fn poll(&mut self) -> io::Result<bool> {
        match self.is_busy().then(|| self.runner.poll()).flatten() {
            None => self.check().map(|()| false),
            Some(result) => self.handle_result(result).map(|()| true),
        }
    }

    /// Waits for the running sync, if there is one.
    ///
    /// # Errors
    /// When this sync or any earlier one has failed.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        if !self.is_busy() {
            return self.check();
        }
        let result = self.runner.wait();
        self.handle_result(result)
    }

    fn handle_result(&mut self, result: io::Result<()>) -> io::Result<()> {
        let began = self.began.take();
        match result {
            Ok(()) => self.safe_until = began.unwrap_or(self.safe_until),
            Err(error) => self.failed = self.failed.take().or(Some(error)),
        }
        self.check()
    }

    /// Returns the first error, if there was one.
    fn check(&self) -> io::Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(match error.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => error.kind().into(),
            }),
        }
    }
}
