//! Ends segments that cannot be written further, and finishes ended ones.

use std::io;
use std::time::Instant;

use pmon_record::SinkError;

use super::finish::{FinishingSegment, SegmentEnd};
use super::segment::OpenSegment;
use super::{RETRY, StoreWriter};
use crate::disk::Filesystem as _;
use crate::file::partial;

impl StoreWriter {
    /// Closes the current segment, which cannot be written further, and begins the next one.
    pub(super) fn fail(&mut self, error: String) {
        self.last_error.set(error);
        self.note_written();
        let Some(mut segment) = self.current.take() else { return };
        self.filesystem.set_failed();
        if segment.is_written {
            self.previous = Some(segment.uuid);
            let age = self.now.saturating_duration_since(segment.since);
            self.finish_segment(segment, SegmentEnd::Damaged);
            // A disk that fails at once again must not get a segment at each tick.
            if age < RETRY {
                self.retry_at = Some(self.now + RETRY);
            } else {
                self.resume();
            }
        } else {
            // A file that stays is salvaged or removed at the next start.
            let _ = segment.file.discard();
            self.shared.lock().ended += 1;
            self.shared.notify();
            self.retry_at = Some(self.now + RETRY);
        }
    }

    /// Begins the next segment after another process has removed the file of the current one: its
    /// events are lost.
    pub(super) fn handle_removal(&mut self) {
        let Some(segment) = self.current.take() else { return };
        self.filesystem.set_failed();
        let path = self.filesystem.path(&partial(&segment.name));
        self.last_error.set(format!("{} was removed while it was written", path.display()));
        self.lost_to_storage -= segment.carried_events();
        self.written = segment.at_start;
        self.previous = segment.previous;
        self.unwritten_spans = segment.spans;
        self.shared.lock().ended += 1;
        self.shared.notify();
        self.resume();
    }

    /// Checks once a second whether the current segment and the lock are still in the directory.
    pub(super) fn check_directory(&mut self, now: Instant) {
        if self.check_at.is_some_and(|at| now < at) {
            return;
        }
        self.check_at = Some(now + RETRY);
        if self.lock.as_ref().is_some_and(|lock| !lock.is_held()) && self.lock_again() {
            // The directory is there again, so the next segment need not wait.
            self.retry_at = None;
        }
        // A directory that is away may come back with its files.
        if let Some(segment) = &self.current
            && self.filesystem.directory().is_ok()
            && self
                .filesystem
                .entry(&partial(&segment.name))
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            self.handle_removal();
        }
    }

    /// Closes the ending segment, which cannot be written further. Its events are in sealed blocks.
    pub(super) fn abandon_ending(&mut self, error: &SinkError) {
        self.last_error.set(error.to_string());
        if let Some(segment) = self.ending.take() {
            self.finish_segment(segment, SegmentEnd::Damaged);
        }
    }

    pub(super) fn finish_segment(&mut self, segment: OpenSegment, end: SegmentEnd) {
        let finishing = FinishingSegment::begin(segment, end, self.filesystem.clone(), self.shared.clone());
        self.finishing.push(finishing);
        self.poll_finishing();
    }

    pub(super) fn poll_finishing(&mut self) {
        let last_error = &mut self.last_error;
        self.finishing.retain_mut(|segment| {
            let is_done = segment.poll(self.now, &self.shared);
            if let Some(error) = segment.take_error() {
                last_error.set(error);
            }
            !is_done
        });
    }
}
