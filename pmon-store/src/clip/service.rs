//! The thread that makes clips.

use std::sync::mpsc;
use std::time::Duration;

use super::request::{Clip, ClipError, ClipRequest};

/// The result of a request, once it is there.
#[derive(Debug)]
pub struct ClipTicket(mpsc::Receiver<Result<Clip, ClipError>>);

impl ClipTicket {
    /// Waits for the result, for at most `timeout`; `None` if it is not there yet.
    pub fn wait(&self, timeout: Duration) -> Option<Result<Clip, ClipError>> {
        match self.0.recv_timeout(timeout) {
            Ok(result) => Some(result),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(Err(ClipError::Ended)),
        }
    }
}

/// Accepts requests for clips, from any thread. A call does not wait.
#[derive(Clone, Debug)]
pub struct ClipHandle(mpsc::Sender<(ClipRequest, mpsc::Sender<Result<Clip, ClipError>>)>);

impl ClipHandle {
    /// Requests a clip.
    pub fn request(&self, request: ClipRequest) -> ClipTicket {
        let (reply, ticket) = mpsc::channel();
        // A closed channel closes `ticket` too, which then returns an error.
        let _ = self.0.send((request, reply));
        ClipTicket(ticket)
    }
}

/// The thread `pmon-clip`, which makes the clips of one store.
#[derive(Debug)]
pub struct ClipService {
    handle: ClipHandle,
}

impl ClipService {
    /// Returns a handle for requests.
    pub fn handle(&self) -> ClipHandle {
        self.handle.clone()
    }
}
