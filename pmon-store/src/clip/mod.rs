//! Clips: excerpts of a store that a running recorder makes on request.
//!
//! A [`ClipService`] receives requests from the control socket, from signals and from triggers. It
//! waits for the end of the requested time, ends the current segment, and takes an excerpt of the
//! ended segments. Requests that overlap become one clip.

mod make;
mod maker;
mod queue;
mod request;
mod service;

#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "simulated"))]
pub(crate) use make::remove_unfinished;
#[cfg(any(test, feature = "simulated"))]
pub(crate) use maker::ClipMaker;
pub(crate) use queue::MAX_LENGTH;
#[cfg(any(test, feature = "simulated"))]
pub(crate) use queue::Recipient;
#[cfg(any(test, feature = "simulated"))]
pub(crate) use service::ROTATION_TIMEOUT;

pub use request::{Clip, ClipError, ClipName, ClipRequest, DEFAULT_AFTER, DEFAULT_BEFORE, MAX_AFTER};
pub use service::{ClipConfig, ClipHandle, ClipReports, ClipService, ClipStore, ClipTicket, read_clock};
