//! Replays a capture on a fake kernel.
//!
//! [`Replay`] is the public interface. Its loader reads the capture ahead, block by block; its
//! player decides for each loaded record whether it is in the range and shown, and lets it happen.

mod loader;
mod pace;
mod play;
mod replay;

pub use pace::{Pace, Speed};
pub use play::{ExitUsage, PassedRecord, StepResult};
pub use replay::Replay;
