//! Finishes segments beside the writer thread, because a sync can take a second.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use pmon_core::capture::ClockAnchor;
use pmon_record::Sink as _;

use super::handle::Shared;
use super::limits::LimitedFilesystem;
use super::segment::OpenSegment;
use crate::disk::{Filesystem as _, SyncRunner};
use crate::file::{CaptureFile, partial};
use crate::segment::{self, Recovery};

/// A segment that is being finished.
pub(super) struct FinishingSegment {
    runner: Box<dyn SyncRunner>,
    error: Arc<Mutex<Option<String>>>,
    is_done: bool,
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentEnd {
    /// The segment has its END.
    Clean,
    /// The segment could not be written further. What is intact is kept.
    Damaged,
}

impl FinishingSegment {
    /// Begins to finish a segment.
    pub(super) fn begin(
        segment: OpenSegment,
        end: SegmentEnd,
        filesystem: Arc<LimitedFilesystem>,
        shared: Arc<Shared>,
    ) -> Self {
        let error = Arc::new(Mutex::new(None));
        let (name, start) = (segment.name, segment.start);
        let work = {
            let (mut file, error, name, filesystem) =
                (Some(segment.file), error.clone(), name.clone(), filesystem.clone());
            move || {
                let Some(file) = file.take() else { return Ok(()) };
                let failed = finish(file, &name, start, end, &filesystem).err();
                *error.lock().unwrap_or_else(PoisonError::into_inner) = failed;
                shared.lock().ended += 1;
                shared.notify();
                Ok(())
            }
        };
        let runner = crate::disk::Filesystem::sync_runner(&*filesystem, Box::new(work));
        match runner {
            Ok(mut runner) => {
                runner.begin();
                Self { runner, error, is_done: false }
            }
            // Without a thread, the file stays unfinished. The next recorder salvages it.
            Err(source) => {
                let text = format!("cannot finish {}: {source}", filesystem.path(&partial(&name)).display());
                let error = Arc::new(Mutex::new(Some(text)));
                Self { runner: Box::new(NoThread), error, is_done: true }
            }
        }
    }

    /// Returns whether the segment is finished.
    pub(super) fn poll(&mut self) -> bool {
        self.is_done |= !self.is_done && self.runner.poll().is_some();
        self.is_done
    }

    /// Waits until the segment is finished.
    pub(super) fn wait(&mut self) {
        if !self.is_done {
            // The work itself returns no error.
            let _ = self.runner.wait();
            self.is_done = true;
        }
    }

    /// Returns why the segment has no clean end, or is not durable.
    pub(super) fn take_error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Gives a segment its final name. If it cannot end cleanly, salvages what is intact.
fn finish(
    mut file: CaptureFile,
    name: &str,
    start: ClockAnchor,
    end: SegmentEnd,
    filesystem: &LimitedFilesystem,
) -> Result<(), String> {
    let failed = match end {
        SegmentEnd::Clean => file.finish().err().map(|error| error.to_string()),
        SegmentEnd::Damaged => None,
    };
    drop(file);
    let partial_name = partial(name);
    let is_named = filesystem.entry(&partial_name).is_err() && filesystem.entry(name).is_ok();
    if is_named {
        filesystem.add_sealed(name, start);
        return failed.map_or(Ok(()), Err);
    }
    match segment::salvage(filesystem, &partial_name) {
        Ok(Recovery::Salvaged(name)) => filesystem.add_sealed(&name, start),
        Ok(Recovery::SetAside(_) | Recovery::Removed) => {}
        // Another process removed the file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let path = filesystem.path(&partial_name);
            return Err(failed.unwrap_or_else(|| format!("cannot salvage {}: {error}", path.display())));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Stands for a thread that could not be started.
struct NoThread;

impl SyncRunner for NoThread {
    fn begin(&mut self) {}

    fn poll(&mut self) -> Option<io::Result<()>> {
        None
    }

    fn wait(&mut self) -> io::Result<()> {
        Ok(())
    }
}
