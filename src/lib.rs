//! The part of the `pmon` command that its tests and examples use: recording a replay again.
#![forbid(unsafe_code)]

mod rerecord;

pub use rerecord::{RerecordError, Rerecorder};
