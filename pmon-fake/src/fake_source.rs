//! An in-process source that is fed with datagrams.

use std::collections::VecDeque;
use std::convert::Infallible;

use pmon_core::batch::{Arrival, Batch};
use pmon_core::source::{Received, Source};

/// Delivers what it was fed, in order: no file descriptor, no thread, no clock.
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
/// assert_eq!(source.receive(&mut batch), Ok(Received::Frames(1)));
/// assert_eq!(source.receive(&mut batch), Ok(Received::Overrun));
/// assert_eq!(source.receive(&mut batch), Ok(Received::Closed));
/// assert_eq!(batch.frames().next().unwrap().bytes, b"one datagram");
/// ```
#[derive(Debug, Default)]
pub struct FakeSource {
    steps: VecDeque<Step>,
    bytes: VecDeque<u8>,
    dropped: u64,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next so many bytes are a datagram from this port, and the ones behind it its annex.
    Datagram {
        len: usize,
        metadata: usize,
        sender: u32,
    },
    Overrun,
}

impl FakeSource {
    /// A source with nothing to deliver yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues a datagram from the kernel.
    pub fn push(&mut self, datagram: &[u8]) {
        self.push_from(datagram, 0);
    }

    /// Queues a datagram from the netlink port `sender`: any but 0 is user space's.
    pub fn push_from(&mut self, datagram: &[u8], sender: u32) {
        self.queue(datagram, sender, &[]);
    }

    /// Queues a datagram from the kernel of which more is known: see [`pmon_core::batch::Datagram::metadata`].
    pub fn push_with_metadata(&mut self, datagram: &[u8], metadata: &[u8]) {
        self.queue(datagram, 0, metadata);
    }

    fn queue(&mut self, datagram: &[u8], sender: u32, metadata: &[u8]) {
        self.bytes.extend(datagram);
        self.bytes.extend(metadata);
        self.steps.push_back(Step::Datagram { len: datagram.len(), metadata: metadata.len(), sender });
    }

    /// Queues the report that datagrams were dropped (`ENOBUFS`).
    pub fn overrun(&mut self) {
        self.steps.push_back(Step::Overrun);
    }

    /// Counts so many datagrams as dropped, now: the source says so at once when it is asked, whatever is queued.
    pub fn drop(&mut self, datagrams: u64) {
        self.dropped += datagrams;
    }

    /// After what is queued, nothing will come.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl Source for FakeSource {
    type Error = Infallible;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, Infallible> {
        let mut frames = 0;
        while let Some(&step) = self.steps.front() {
            match step {
                Step::Datagram { len, metadata, sender } if !batch.is_full() => {
                    let (datagram, rest) = self.bytes.make_contiguous().split_at(len);
                    // A batch without room for annexes does without.
                    let _ = batch.push_with_metadata(datagram, Arrival { len, sender }, &[&rest[..metadata]])
                        || batch.push(datagram, sender);
                    self.bytes.drain(..len + metadata);
                    frames += 1;
                }
                Step::Overrun if frames == 0 => {
                    self.steps.pop_front();
                    return Ok(Received::Overrun);
                }
                Step::Datagram { .. } | Step::Overrun => break,
            }
            self.steps.pop_front();
        }
        Ok(match frames {
            0 if self.closed && self.steps.is_empty() => Received::Closed,
            0 => Received::Empty,
            frames => Received::Datagrams(frames),
        })
    }

    fn drops(&mut self) -> Result<Option<u64>, Infallible> {
        Ok(Some(self.dropped))
    }
}
