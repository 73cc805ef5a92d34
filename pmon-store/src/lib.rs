//! Captures on disk.
//!
//! * `file`: [`CaptureFile`] is the sink that writes one capture to a file or a stream.
//!
//! This crate does not print or exit.
#![deny(unsafe_code)]

mod file;

pub use file::{CaptureFile, CaptureTarget, StoreError};
