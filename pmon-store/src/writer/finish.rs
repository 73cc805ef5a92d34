//! Finishes segments beside the writer thread, because a sync can take a second.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pmon_core::capture::ClockAnchor;
use pmon_record::Sink as _;

use super::handle::Shared;
use super::limits::LimitedFilesystem;
use super::segment::OpenSegment;
use crate::disk::{Filesystem as _, SyncRunner};
use crate::file::{CaptureFile, partial, sync_supported};
use crate::segment::{self, Recovery};

/// Time between the first two attempts to finish a segment. It doubles with each attempt, because
/// an attempt writes the whole segment again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Maximum time between two attempts.
const MAX_RETRY: Duration = Duration::from_secs(60);

/// A segment that is being finished. An attempt that fails is repeated until the segment has its
/// final name. Until then, the file can be removed like a finished segment.
pub(super) struct FinishingSegment {
    filesystem: Arc<LimitedFilesystem>,
    name: String,
    /// Performs an attempt; `None` while there is no thread for it.
    runner: Option<Box<dyn SyncRunner>>,
    attempt: Arc<Mutex<Attempt>>,
    outcome: Arc<Mutex<Outcome>>,
    is_running: bool,
    retry_at: Option<Instant>,
    /// Time from the end of the running attempt to the next one.
    retry_after: Duration,
}

/// What is known of the attempts to finish a segment.
struct Attempt {
    /// The file, before the first attempt.
    file: Option<CaptureFile>,
    name: String,
    start: ClockAnchor,
    end: SegmentEnd,
}

/// The result of the last attempt.
#[derive(Default)]
struct Outcome {
    error: Option<String>,
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
        let OpenSegment { file, name, start, .. } = segment;
        let attempt = Attempt { file: Some(file), name: name.clone(), start, end };
        let mut this = Self {
            filesystem,
            name,
            runner: None,
            attempt: Arc::new(Mutex::new(attempt)),
            outcome: Arc::default(),
            is_running: false,
            retry_at: None,
            retry_after: FIRST_RETRY,
        };
        this.try_to_finish(shared);
        this
    }

    /// Returns the name of the segment.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Begins an attempt.
    fn try_to_finish(&mut self, shared: Arc<Shared>) {
        self.retry_at = None;
        let (attempt, filesystem) = (self.attempt.clone(), self.filesystem.clone());
        let outcome = self.outcome.clone();
        let work = move || {
            // The writer thread uses the attempt only while none is running.
            let mut attempt = lock(&attempt);
            let is_first = attempt.file.is_some();
            *lock(&outcome) = attempt.perform(&filesystem);
            if is_first {
                shared.lock().ended += 1;
                shared.notify();
            }
            Ok(())
        };
        match self.filesystem.sync_runner(Box::new(work)) {
            Ok(mut runner) => {
                runner.begin();
                (self.runner, self.is_running) = (Some(runner), true);
            }
            Err(source) => {
                let path = self.filesystem.path(&partial(&lock(&self.attempt).name));
                lock(&self.outcome).error = Some(format!("cannot finish {}: {source}", path.display()));
            }
        }
    }

    /// Returns whether the segment is finished. Begins the next attempt if one is due.
    pub(super) fn poll(&mut self, now: Instant, shared: &Arc<Shared>) -> bool {
        if self.is_running && self.runner.as_mut().is_some_and(|runner| runner.poll().is_none()) {
            return false;
        }
        self.is_running = false;
        if lock(&self.outcome).is_done {
            return true;
        }
        if *self.retry_at.get_or_insert(now + self.retry_after) <= now {
            self.retry_after = MAX_RETRY.min(2 * self.retry_after);
            self.try_to_finish(shared.clone());
        }
        false
    }

    /// Waits for the running attempt.
    pub(super) fn wait(&mut self) {
        if let Some(runner) = self.runner.as_mut().filter(|_| self.is_running) {
            // The work itself returns no error.
            let _ = runner.wait();
            self.is_running = false;
        }
    }

    /// Returns why the segment has no clean end, or is not durable.
    pub(super) fn take_error(&self) -> Option<String> {
        lock(&self.outcome).error.take()
    }
}

impl Attempt {
    /// Tries to give the segment its final name. After an error, the file counts as one that can be
    /// removed.
    fn perform(&mut self, filesystem: &LimitedFilesystem) -> Outcome {
        match finish(self.file.take(), &self.name, self.start, self.end, filesystem) {
            Ok(error) => Outcome { error, is_done: true },
            Err(error) => {
                let partial_name = partial(&self.name);
                if filesystem.entry(&partial_name).is_ok() {
                    filesystem.add_sealed(&partial_name, self.start);
                }
                Outcome { error: Some(error), is_done: false }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // An attempt that panicked has no file any more, and the next one salvages it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a segment its final name. If it cannot end cleanly, salvages what is intact, and returns
/// the reason.
///
/// # Errors
/// Why the segment does not have its final name yet, or why that name is not durable.
fn finish(
    file: Option<CaptureFile>,
    name: &str,
    start: ClockAnchor,
    end: SegmentEnd,
    filesystem: &LimitedFilesystem,
) -> Result<Option<String>, String> {
    let is_first = file.is_some();
    let failed = file.and_then(|mut file| match end {
        SegmentEnd::Clean => file.finish().err().map(|error| error.to_string()),
        SegmentEnd::Damaged => None,
    });
    let partial_name = partial(name);
    let is_named = filesystem.entry(&partial_name).is_err() && filesystem.entry(name).is_ok();
    if is_named {
        filesystem.add_sealed(name, start);
        // The directory's sync may be the step that has failed.
        if failed.is_some() || !is_first {
            sync_supported(filesystem).map_err(|error| {
                let path = filesystem.path("");
                format!("cannot make the name of {name} in {} durable: {error}", path.display())
            })?;
        }
        return Ok(failed);
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
    Ok(failed)
}
