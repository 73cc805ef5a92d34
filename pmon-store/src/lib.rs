//! Captures on disk.
//!
//! * `file`: [`CaptureFile`] is the sink that writes one capture to a file or a stream.
//! * `model`: [`ProcessModel`] holds the running processes as of the last record.
//! * `trigger`: conditions on events that request a clip.
//!
//! This crate does not print or exit.
#![deny(unsafe_code)]

mod file;
mod model;
mod trigger;

pub use file::{CaptureFile, CaptureTarget, StoreError};
pub use model::{ProcessModel, ProcessRef};
pub use trigger::{ProcessSummary, TriggerFired};
