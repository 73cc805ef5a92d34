//! Clips: excerpts of a store that a running recorder makes on request.
//!
//! A [`ClipService`] receives requests from the control socket, from signals and from triggers. It
//! waits for the end of the requested time, ends the current segment, and takes an excerpt of the
//! ended segments. Requests that overlap become one clip.

mod make;
mod queue;
mod request;
mod service;

#[cfg(test)]
mod tests;

pub use request::{Clip, ClipError, ClipName, ClipRequest, MAX_AFTER};
pub use service::{ClipConfig, ClipHandle, ClipService, ClipStore, ClipTicket, read_clock};
