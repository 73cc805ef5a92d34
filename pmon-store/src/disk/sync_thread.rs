//! Runs syncs on a thread of their own, so a slow disk does not delay the writer thread.

use std::io;
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::thread::Builder;

use super::{SyncRunner, SyncWork};

/// The sync thread of a file.
pub(crate) struct SyncThread {
    requests: Sender<()>,
    results: Receiver<io::Result<()>>,
}

impl SyncThread {
    /// Starts the thread, which calls `work` for each request.
    pub(crate) fn new(mut work: SyncWork) -> io::Result<Self> {
        let (requests, requested) = channel();
        let (done, results) = channel();
        Builder::new().name("pmon-sync".into()).spawn(move || {
            for () in requested {
                if done.send(work()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests, results })
    }
}

impl SyncRunner for SyncThread {
    fn begin(&mut self) {
        // The thread runs as long as this value exists. If it panicked, the result is an error.
        let _ = self.requests.send(());
    }

    fn poll(&mut self) -> Option<io::Result<()>> {
        match self.results.try_recv() {
            Err(TryRecvError::Empty) => None,
            Ok(result) => Some(result),
            Err(TryRecvError::Disconnected) => Some(Err(thread_ended())),
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        self.results.recv().unwrap_or_else(|RecvError| Err(thread_ended()))
    }
}

fn thread_ended() -> io::Error {
    io::Error::other("the sync thread has ended")
}
