//! Data to the disk on a thread of its own: a slow disk must not keep records from the journal.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

pub(super) struct Syncer {
    requests: Sender<()>,
    results: Receiver<io::Result<()>>,
    is_busy: bool,
}

impl Syncer {
    pub(super) fn new(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (requests, requested) = channel();
        let (done, results) = channel();
        thread::Builder::new().name("pmon-sync".into()).spawn(move || {
            for () in requested {
                if done.send(file.sync_data()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests, results, is_busy: false })
    }

    /// Whether a sync is under way; or how the last one failed.
    pub(super) fn is_busy(&mut self) -> io::Result<bool> {
        if self.is_busy {
            match self.results.try_recv() {
                Err(TryRecvError::Empty) => return Ok(true),
                Ok(result) => result?,
                Err(TryRecvError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
            self.is_busy = false;
        }
        Ok(false)
    }

    /// Begins a sync of what has been written until now.
    pub(super) fn begin(&mut self) {
        // The other end is there as long as this one.
        self.is_busy = self.requests.send(()).is_ok();
    }
}
