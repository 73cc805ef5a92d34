//! What the `pmon` command shares with its tests and examples: a replay that is recorded again. All else is in the crates that it stands on.
#![forbid(unsafe_code)]

mod rerecord;

pub use rerecord::{RerecordError, Rerecorder};
