//! Replays captures: a consumer under test receives the events that the recorder received, in the
//! same order.
//!
//! * [`Replay`] replays a capture on a [`pmon_fake::Kernel`], and is a source of its events.
//! * [`Pace`] computes when each event is due.
//! * [`CaptureWorld`] also shows the processes of the capture to a program under test, in `/proc`.
//! * [`synth`] generates synthetic captures.
#![forbid(unsafe_code)]

mod capture_world;
mod player;
mod procfs;
pub mod synth;

use std::io;

use pmon_core::capture::Damage;
use thiserror::Error;

pub use capture_world::CaptureWorld;
pub use player::{ExitUsage, Pace, PassedRecord, Replay, Speed, StepResult};

/// Error of a replay.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The capture cannot be read.
    #[error("cannot read the capture")]
    Read(#[from] io::Error),
    /// A part of the capture is damaged, and its events cannot be delivered. The next call
    /// continues after it.
    #[error("the capture is damaged: {0}")]
    Damaged(Damage),
    /// A call on a socket of the fake kernel failed.
    #[error("a call on the fake kernel's socket failed: {0}")]
    Socket(pmon_fake::Errno),
}
