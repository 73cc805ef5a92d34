//! The clips of a store in virtual time.

use std::sync::Arc;

use pmon_core::MonoNs;
use pmon_core::capture::ClockAnchor;

use crate::StoreHandle;
use crate::clip::{
    ClipConfig, ClipMaker, ClipRequest, ClipTicket, ROTATION_TIMEOUT, Recipient, remove_unfinished,
};
use crate::disk::Filesystem;

/// Makes the clips of a store as the thread of a [`ClipService`](crate::clip::ClipService) does,
/// without a thread: the caller lets it continue.
pub struct SimulatedClips {
    store: StoreHandle,
    maker: ClipMaker,
    /// While clips wait for the end of a segment: the number of ended segments, the time at which
    /// the clips were over, and the time at which the waiting ends.
    rotation: Option<(u64, MonoNs, MonoNs)>,
}

impl SimulatedClips {
    /// Begins to make clips in the directory of the store. Removes the unfinished clips of an
    /// earlier recorder.
    pub fn start(store: &StoreHandle, host: &str) -> Self {
        let config = ClipConfig {
            store: Arc::new(store.clone()),
            output: store.filesystem(),
            host: host.into(),
            tool: "pmon (simulated)".into(),
        };
        let maker = ClipMaker::new(config);
        Self { store: store.clone(), maker, rotation: None }
    }

    /// Removes the unfinished clips of an earlier recorder, as a start does.
    pub fn remove_unfinished(directory: &dyn Filesystem) {
        remove_unfinished(directory);
    }

    /// Requests a clip.
    pub fn request(&mut self, request: &ClipRequest) -> ClipTicket {
        let (reply, ticket) = ClipTicket::new();
        self.maker.add(request, Recipient::Ticket(reply));
        ticket
    }

    /// Makes the clips that are over, once the segment with their last events has ended.
    pub fn step(&mut self, now: ClockAnchor) {
        if self.rotation.is_none() && self.maker.is_due(now.mono) {
            let timeout = MonoNs(now.mono.0 + ROTATION_TIMEOUT.as_nanos() as u64);
            self.rotation = Some((self.store.request_rotation(), now.mono, timeout));
        }
        let Some((ended, due, timeout)) = self.rotation else { return };
        if self.store.ended() >= ended || now.mono >= timeout {
            self.rotation = None;
            while let Some(clip) = self.maker.take_due(due) {
                self.maker.make(clip, now);
            }
        }
    }

    /// Makes all requested clips. Call this after the store has been completed.
    pub fn finish(mut self, now: ClockAnchor) {
        while let Some(clip) = self.maker.take_any() {
            self.maker.make(clip, now);
        }
    }
}
