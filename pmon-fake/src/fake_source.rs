//! A source whose datagrams a test queues.

use std::collections::VecDeque;
use std::convert::Infallible;

use pmon_core::batch::{Arrival, Batch};
use pmon_core::source::{Received, Source};

/// A source that delivers the datagrams and overruns that were queued, in order: no descriptor, no
/// thread, no clock.
///
/// ```
/// use pmon_core::batch::Batch;
/// use pmon_core::source::{Received, Source};
/// use pmon_fake::FakeSource;
///
/// let mut source = FakeSource::new();
/// source.push(b"one datagram");
/// source.overrun();
/// source.close();
///
/// let mut batch = Batch::with_capacity(8);
/// assert_eq!(source.receive(&mut batch), Ok(Received::Datagrams(1)));
/// assert_eq!(source.receive(&mut batch), Ok(Received::Overrun));
/// assert_eq!(source.receive(&mut batch), Ok(Received::Closed));
/// assert_eq!(batch.datagrams().next().unwrap().bytes, b"one datagram");
/// ```
#[derive(Debug, Default)]
pub struct FakeSource {
    items: VecDeque<QueuedItem>,
    /// The bytes of all queued datagrams and their metadata.
    bytes: VecDeque<u8>,
    dropped: u64,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
enum QueuedItem {
    /// A datagram from port `sender`: its `len` bytes and `metadata` bytes come next in
    /// [`FakeSource::bytes`].
    Datagram {
        len: usize,
        metadata: usize,
        sender: u32,
    },
    Overrun,
}

impl FakeSource {
    /// Creates an empty source.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues a datagram from the kernel.
    pub fn push(&mut self, datagram: &[u8]) {
        self.push_from(datagram, 0);
    }

    /// Queues a datagram from the netlink port `sender`; a port other than 0 belongs to user space.
    pub fn push_from(&mut self, datagram: &[u8], sender: u32) {
        self.queue(datagram, sender, &[]);
    }

    /// Queues a datagram from the kernel with [metadata](pmon_core::batch::Datagram::metadata).
    pub fn push_with_metadata(&mut self, datagram: &[u8], metadata: &[u8]) {
        self.queue(datagram, 0, metadata);
    }

    fn queue(&mut self, datagram: &[u8], sender: u32, metadata: &[u8]) {
        self.bytes.extend(datagram);
        self.bytes.extend(metadata);
        self.items.push_back(QueuedItem::Datagram { len: datagram.len(), metadata: metadata.len(), sender });
    }

    /// Queues the report that datagrams were dropped (`ENOBUFS`).
    pub fn overrun(&mut self) {
        self.items.push_back(QueuedItem::Overrun);
    }

    /// Adds `datagrams` to the drops that [`Source::drops`] returns, independently of what is
    /// queued.
    pub fn drop(&mut self, datagrams: u64) {
        self.dropped += datagrams;
    }

    /// Closes the source after what is queued.
    pub fn close(&mut self) {
        self.closed = true;
    }
}

impl Source for FakeSource {
    type Error = Infallible;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, Infallible> {
        let mut datagrams = 0;
        while let Some(&item) = self.items.front() {
            match item {
                QueuedItem::Datagram { len, metadata, sender } if !batch.is_full() => {
                    let (datagram, rest) = self.bytes.make_contiguous().split_at(len);
                    // A batch that stores no metadata gets the datagram alone.
                    let _ = batch.push_with_metadata(datagram, Arrival { len, sender }, &[&rest[..metadata]])
                        || batch.push(datagram, sender);
                    self.bytes.drain(..len + metadata);
                    datagrams += 1;
                }
                QueuedItem::Overrun if datagrams == 0 => {
                    self.items.pop_front();
                    return Ok(Received::Overrun);
                }
                QueuedItem::Datagram { .. } | QueuedItem::Overrun => break,
            }
            self.items.pop_front();
        }
        Ok(match datagrams {
            0 if self.closed && self.items.is_empty() => Received::Closed,
            0 => Received::Empty,
            datagrams => Received::Datagrams(datagrams),
        })
    }

    fn drops(&mut self) -> Result<Option<u64>, Infallible> {
        Ok(Some(self.dropped))
    }
}
