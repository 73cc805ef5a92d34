//! The interface of a source of datagrams.

use crate::batch::Batch;

/// Result of one call of [`Source::receive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The source appended this many datagrams to the batch. There may be more.
    Datagrams(usize),
    /// No datagram is waiting. A source that takes all waiting datagrams in one call may return
    /// this once afterwards, even if further datagrams arrived in the meantime.
    Empty,
    /// The source dropped datagrams since the last call (`ENOBUFS`). The next calls return the
    /// datagrams that are still queued.
    Overrun,
    /// The source is closed and will deliver no more datagrams.
    Closed,
}

/// A source of netlink datagrams: a kernel socket, or a replacement for one.
///
/// Calls never block. The source appends datagrams in the order of their arrival; a datagram that
/// is longer than a slot of the batch is truncated and marked.
pub trait Source {
    /// Permanent failure of the source. An overrun is not a failure: see [`Received::Overrun`].
    type Error: std::error::Error;

    /// Appends the waiting datagrams to `batch`, up to its capacity.
    ///
    /// # Errors
    /// Returns an error if the source failed permanently.
    fn receive(&mut self, batch: &mut Batch) -> Result<Received, Self::Error>;

    /// Returns the number of datagrams that the source dropped since it was created, including
    /// drops that [`Source::receive`] has not reported yet; `None` if the source does not count
    /// them.
    ///
    /// # Errors
    /// As [`Source::receive`].
    fn drops(&mut self) -> Result<Option<u64>, Self::Error> {
        Ok(None)
    }
}
