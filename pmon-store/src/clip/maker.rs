//! The clips of one store from their requests to their files. Every time is an argument.

use pmon_core::MonoNs;
use pmon_core::capture::ClockAnchor;

use super::make::{make, remove_unfinished};
use super::queue::{ClipQueue, PendingClip, Recipient};
use super::request::ClipRequest;
use super::service::ClipConfig;

/// Queues requests, and makes their clips.
pub(crate) struct ClipMaker {
    config: ClipConfig,
    queue: ClipQueue,
}

impl ClipMaker {
    /// Creates a maker without requests. Removes the unfinished clips of an earlier recorder.
    pub(crate) fn new(config: ClipConfig) -> Self {
        remove_unfinished(&*config.output);
        Self { config, queue: ClipQueue::default() }
    }

    /// Adds a request.
    pub(crate) fn add(&mut self, request: &ClipRequest, recipient: Recipient) {
        self.queue.add(request, recipient);
    }

    /// Returns the earliest time at which a clip is over.
    pub(crate) fn next_due(&self) -> Option<MonoNs> {
        self.queue.next_due()
    }

    /// Returns whether a clip is over at `now`. The current segment must then end before the clip
    /// is made.
    pub(crate) fn is_due(&self, now: MonoNs) -> bool {
        self.queue.is_due(now)
    }

    /// Removes and returns a clip that is over at `now`.
    pub(crate) fn take_due(&mut self, now: MonoNs) -> Option<PendingClip> {
        self.queue.take_due(now)
    }

    /// Removes and returns any clip.
    pub(crate) fn take_any(&mut self) -> Option<PendingClip> {
        self.queue.take_any()
    }

    /// Makes a clip, and answers its requests.
    pub(crate) fn make(&self, clip: PendingClip, now: ClockAnchor) {
        let made = make(&self.config, &clip, now);
        clip.answer(&made);
    }
}
