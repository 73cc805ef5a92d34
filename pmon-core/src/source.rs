//! The contract between whatever delivers datagrams and whatever consumes them.

use crate::batch::Batch;

/// What one call of [`Source::receive`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many datagrams were appended to the batch; there may be more.
    Datagrams(usize),
    /// Nothing is waiting. A source that takes what is there in one go may say so once after it, whatever has come meanwhile.
    Empty,
    /// The source dropped datagrams since the last call (`ENOBUFS`). Those still queued come with the next calls.
    Overrun,
    /// The source will never deliver again.
    Closed,
}

/// A source of netlink datagrams: the kernel's socket, or something that stands in for it.
///
/// One call never blocks. Datagrams are appended in the order in which the source delivers them, and each goes
/// into the batch whole or marked as truncated.
pub trait Source {
    /// Why a source failed for good. An overrun is not a failure: see [`Received::Overrun`].
    type Error: std::error::Error;

    /// Appends waiting datagrams to `batch`, as many as fit.
    ///
    /// # Errors
    /// When the source is broken and will stay so.
    fn receive(&mut self, batch: &mut Batch) -> Result<Received, Self::Error>;

    /// How many datagrams it has dropped since its beginning, those included of which [`Source::receive`] has said
    /// nothing yet; `None` if it does not count them.
    ///
    /// # Errors
    /// As [`Source::receive`].
    fn drops(&mut self) -> Result<Option<u64>, Self::Error> {
        Ok(None)
    }
}
