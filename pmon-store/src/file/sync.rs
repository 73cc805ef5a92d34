//! Runs syncs on a thread of their own, so a slow disk does not delay the journal.
//!
//! The kernel reports a failed write-back once per open file: the next `fdatasync(2)` succeeds,
//! though the data is lost. The first error therefore stays the result of every later sync.

use std::io;
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::thread::Builder;
use std::time::Instant;

/// The sync thread of a file, and the results of its syncs.
pub(super) struct SyncThread {
    requests: Sender<()>,
    results: Receiver<io::Result<()>>,
    /// Start time of the running sync.
    began: Option<Instant>,
    /// Start time of the last successful sync. Everything written before is durable.
    pub(super) safe_until: Instant,
    failed: Option<io::Error>,
}

impl SyncThread {
    /// Starts the thread, which calls `sync` for each request.
    pub(super) fn new(mut sync: impl FnMut() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (requests, requested) = channel();
        let (done, results) = channel();
        Builder::new().name("pmon-sync".into()).spawn(move || {
            for () in requested {
                if done.send(sync()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests, results, began: None, safe_until: Instant::now(), failed: None })
    }

    /// Whether a sync is running.
    pub(super) fn is_busy(&self) -> bool {
        self.began.is_some()
    }

    /// Begins a sync of everything written so far. No sync may be running.
    pub(super) fn begin(&mut self) {
        // The thread runs as long as this value exists. If it panicked, the result is an error.
        let _ = self.requests.send(());
        self.began = Some(Instant::now());
    }

    /// Returns `true` once for each sync that has succeeded since the last call.
    ///
    /// # Errors
    /// When this sync or any earlier one has failed.
    pub(super) fn poll(&mut self) -> io::Result<bool> {
        match self.results.try_recv() {
            Err(TryRecvError::Empty) => self.check().map(|()| false),
            Ok(result) => self.handle_result(result).map(|()| true),
            Err(TryRecvError::Disconnected) => self.handle_result(Err(thread_ended())).map(|()| true),
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
        let result = self.results.recv().unwrap_or_else(|RecvError| Err(thread_ended()));
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

fn thread_ended() -> io::Error {
    io::Error::other("the sync thread has ended")
}
