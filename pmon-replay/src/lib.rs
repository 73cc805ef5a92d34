//! Captures, delivered again: what a recorder once received, a consumer under test receives in the same order.
#![forbid(unsafe_code)]

pub mod synth;

use std::io::{self, Read};

use pmon_core::batch::Batch;
use pmon_core::capture::{Damage, Item, Reader, Record};
use pmon_core::source::{Received, Source};
use pmon_fake::FakeSource;
use thiserror::Error;

/// A source that delivers the datagrams of a capture, at once and in order; each loss is an overrun, as it was.
///
/// It holds one block of the capture at a time, whatever the capture's length.
///
/// ```
/// use pmon_core::batch::Batch;
/// use pmon_core::capture::{Encoder, Header, Meta, Reader};
/// use pmon_core::source::{Received, Source};
/// use pmon_core::wire::ByteOrder;
/// use pmon_replay::Replay;
///
/// let header = Header { uuid: [1; 16], frame_order: ByteOrder::NATIVE, meta: Meta::default() };
/// let mut encoder = Encoder::new(&header)?;
/// encoder.push_frame(b"a datagram")?;
/// let capture = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
///
/// let mut replay = Replay::new(Reader::open(capture.as_slice())?);
/// let mut batch = Batch::with_capacity(8);
/// assert_eq!(replay.receive(&mut batch)?, Received::Frames(1));
/// assert_eq!(batch.frames().next().unwrap().bytes, b"a datagram");
/// assert_eq!(replay.receive(&mut batch)?, Received::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Replay<R> {
    reader: Reader<R>,
    kernel: FakeSource,
}

/// Why a replay cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The capture cannot be read.
    #[error("cannot read the capture")]
    Read(#[from] io::Error),
    /// A part of the capture is damaged: what was in it cannot be delivered. The next call goes on behind it.
    #[error("the capture is damaged: {0}")]
    Damaged(Damage),
}

impl<R: Read> Replay<R> {
    /// A replay of what `reader` has not read yet.
    pub fn new(reader: Reader<R>) -> Self {
        Self { reader, kernel: FakeSource::new() }
    }

    /// Gives the next block to the fake kernel; `false` at the capture's end.
    fn load(&mut self) -> Result<bool, ReplayError> {
        let order = self.reader.frame_order();
        match self.reader.next_item()? {
            Some(Item::Block(block)) => {
                for record in block.records() {
                    match record {
                        Record::Event(frame, _) => frame.with_bytes(order, |bytes| self.kernel.push(bytes)),
                        Record::Loss(loss) => {
                            self.kernel.drop(loss.count());
                            self.kernel.overrun();
                        }
                        _ => {}
                    }
                }
                Ok(true)
            }
            Some(Item::Damage(damage)) => Err(ReplayError::Damaged(damage)),
            None => Ok(false),
        }
    }
}

impl<R: Read> Source for Replay<R> {
    type Error = ReplayError;

    fn receive(&mut self, batch: &mut Batch) -> Result<Received, ReplayError> {
        while self.kernel.is_empty() {
            if !self.load()? {
                return Ok(Received::Closed);
            }
        }
        let Ok(received) = self.kernel.receive(batch);
        Ok(received)
    }

    fn drops(&mut self) -> Result<Option<u64>, ReplayError> {
        let Ok(drops) = self.kernel.drops();
        Ok(drops)
    }
}
