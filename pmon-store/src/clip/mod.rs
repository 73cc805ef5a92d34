//! Clips: excerpts of a store that a running recorder makes on request.
//!
//! A [`ClipService`] receives requests from the control socket, from signals and from triggers.

mod request;
mod service;

pub use request::{Clip, ClipError, ClipName, ClipRequest};
pub use service::{ClipHandle, ClipService, ClipTicket};
