//! An `eventfd` that wakes a thread waiting in `poll`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

/// A file descriptor that is readable between [`Notifier::notify`] and [`Notifier::clear`]
/// (`eventfd(2)`).
#[derive(Debug)]
pub(crate) struct Notifier(OwnedFd);

impl Notifier {
    pub(crate) fn new() -> Result<Self, Errno> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    pub(crate) fn notify(&self) {
        // The write fails only when the counter is at its maximum; then the descriptor is readable
        // already.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        // The read fails when the counter is 0; then the descriptor is not readable already.
        let _ = read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
