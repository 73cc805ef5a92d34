//! Captures, delivered again: what a recorder once received, a consumer under test receives in the same order.
//!
//! [`Replay`] lets a capture happen again on a [`pmon_fake::Kernel`], and is a source of it; [`Pace`] says when, where that matters;
//! [`CaptureWorld`] also has the processes that such a program finds in its `/proc`; [`synth`] makes captures of what never was.
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

/// Why a replay cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The capture cannot be read.
    #[error("cannot read the capture")]
    Read(#[from] io::Error),
    /// A part of the capture is damaged: what was in it cannot be delivered. The next call goes on behind it.
    #[error("the capture is damaged: {0}")]
    Damaged(Damage),
    /// The fake kernel refuses a call.
    #[error("the fake kernel's socket: {0}")]
    Socket(pmon_fake::Errno),
}
