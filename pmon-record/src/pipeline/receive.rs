//! Receives datagrams from a source into chunks, and counts those for which no chunk is free.
//!
//! While no chunk is free, because the writer thread lags, datagrams are still received, into a
//! chunk reserved for this, and counted by CPU and sequence number. So the source does not
//! overflow, and the cause of the loss is known.
//!
//! This module uses no thread, and no clock except to date chunks.

use std::time::Instant;

use pmon_core::batch::Datagram;
use pmon_core::capture::{CpuCounts, Fence};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event};
use pmon_core::{Cpu, MonoNs};

use crate::pipeline::chunk::{Chunk, Dropped};
use crate::pipeline::queue::{self, ChunkInput};

pub use crate::pipeline::queue::ChunkOutput;

/// Receives datagrams from a source and hands them over to the writer thread in chunks. The drain
/// thread calls it.
pub struct Receiver<S> {
    source: S,
    pub(super) queue: ChunkInput,
    /// The chunk that is being filled.
    current: Option<Chunk>,
    /// Number of datagrams of the current chunk that [`Receiver::scan`] has visited.
    scanned: usize,
    /// Receives datagrams while no chunk is free. It is handed over at the end if necessary.
    reserve: Option<Chunk>,
    dropped: Dropped,
    checkpoints: u64,
    fence: Option<Fence>,
    ring: Option<Vec<CpuCounts>>,
    /// The source's count of drops when it was last read.
    drops: Option<u64>,
    /// Whether that count has increased since the last [`Receiver::take_lost`].
    lost: bool,
    /// Whether that count was read after the last datagram.
    counted: bool,
    /// Number of datagrams received since the drain thread last took this number.
    pub(super) received: u64,
}

/// How a call of [`Receiver::receive`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveStatus {
    /// The source is empty.
    Drained,
    /// The chunk is full and must be handed over.
    Full,
    /// Datagrams were dropped because no chunk is free. The source may have more.
    Dropped,
    /// The source has ended.
    Closed,
}

impl<S: Source> Receiver<S> {
    /// Creates a receiver whose chunks take `bytes` bytes in all, and the output of its queue.
    /// `largest` is the maximum size of a datagram's metadata.
    pub fn new(source: S, bytes: usize, largest: usize) -> (Self, ChunkOutput) {
        let (queue, output, reserve) = queue::channel(bytes, largest);
        let this = Self {
            source,
            queue,
            current: None,
            scanned: 0,
            reserve: Some(reserve),
            dropped: Dropped::default(),
            checkpoints: 0,
            fence: None,
            ring: None,
            drops: None,
            lost: false,
            counted: false,
            received: 0,
        };
        (this, output)
    }

    /// Receives until the source is empty, the chunk is full, or datagrams were dropped.
    pub fn receive(&mut self) -> Result<ReceiveStatus, S::Error> {
        loop {
            self.ensure_chunk();
            let Some(chunk) = &mut self.current else { return self.receive_and_drop() };
            let before = chunk.batch.len();
            match self.source.receive(&mut chunk.batch)? {
                Received::Datagrams(_) => {
                    self.counted = false;
                    if before == 0 {
                        chunk.received_at = Instant::now();
                    }
                    self.received += (chunk.batch.len() - before) as u64;
                    if chunk.batch.is_full() {
                        return Ok(ReceiveStatus::Full);
                    }
                }
                Received::Overrun => {
                    self.counted = false;
                    chunk.overruns += 1;
                    chunk.drained_at = None;
                }
                Received::Empty => return Ok(ReceiveStatus::Drained),
                Received::Closed => return Ok(ReceiveStatus::Closed),
            }
        }
    }

    /// Calls `visit` with each datagram of the current chunk that was not visited before. `visit`
    /// returns whether the datagram is an exec event whose details cannot be read in time.
    pub(crate) fn scan(&mut self, mut visit: impl FnMut(&Datagram<'_>) -> bool) {
        let Some(chunk) = &mut self.current else { return };
        for (n, datagram) in chunk.batch.datagrams_from(self.scanned).enumerate() {
            if visit(&datagram) {
                chunk.busy.push((self.scanned + n) as u32);
            }
        }
        self.scanned = chunk.batch.len();
    }

    /// Returns the CPU and the time of the events in the current chunk, and of the last dropped
    /// event of each CPU.
    pub(crate) fn recent_events(&self) -> impl Iterator<Item = (Cpu, MonoNs)> {
        let datagrams = self.current.iter().flat_map(|chunk| chunk.batch.datagrams());
        let events = datagrams.filter(|datagram| datagram.arrival.sender == 0);
        let events = events.filter_map(|datagram| Event::decode(datagram.bytes, ByteOrder::NATIVE).ok());
        let dropped = self.dropped.events.iter().map(|dropped| (dropped.cpu, dropped.last.1));
        events.map(|event| (event.cpu, event.time)).chain(dropped)
    }

    /// Hands the current chunk over, unless there is nothing to report. Returns whether it did.
    pub fn hand_over(&mut self) -> Result<bool, S::Error> {
        if !self.counted {
            self.count_drops()?;
        }
        if self.checkpoints > 0 || self.fence.is_some() || self.ring.is_some() {
            self.ensure_chunk();
        }
        let Some(mut chunk) = self.current.take_if(|chunk| !chunk.is_empty()) else { return Ok(false) };
        (chunk.drops, chunk.handed_at) = (self.drops, Instant::now());
        self.queue.push(chunk);
        Ok(true)
    }

    /// Hands over everything that is left, in the reserved chunk if no other one is free.
    pub fn finish(&mut self) -> Result<(), S::Error> {
        self.queue.free.extend(self.reserve.take());
        self.ensure_chunk();
        self.hand_over().map(|_| ())
    }

    /// Records the numbers of events that did not come by the ring.
    pub(crate) fn set_ring_counts(&mut self, counts: Vec<CpuCounts>) {
        self.ring = Some(counts);
        self.attach_pending();
    }

    /// Records a fence whose events have been received.
    pub fn set_fence(&mut self, fence: Fence) {
        self.fence = Some(fence);
        self.attach_pending();
    }

    /// Discards everything received until now. Returns the source's count of drops as of now.
    pub(crate) fn restart(&mut self, output: &mut ChunkOutput) -> Result<Option<u64>, S::Error> {
        while let Some(chunk) = output.pop() {
            output.recycle(chunk);
        }
        if let Some(chunk) = &mut self.current {
            chunk.clear();
        }
        self.dropped.clear();
        (self.scanned, self.checkpoints) = (0, 0);
        self.take_lost()?;
        Ok(self.drops)
    }

    /// Records that every event before this checkpoint of the heartbeat thread has been received;
    /// see [`Chunk::checkpoints`].
    pub fn complete_checkpoints(&mut self, checkpoints: u64) {
        self.checkpoints = self.checkpoints.max(checkpoints);
        self.attach_pending();
    }

    /// Whether the source has dropped datagrams since the last call.
    pub(crate) fn take_lost(&mut self) -> Result<bool, S::Error> {
        self.count_drops()?;
        Ok(std::mem::take(&mut self.lost))
    }

    /// Returns the current chunk, unless it is empty.
    pub fn current(&mut self) -> Option<&mut Chunk> {
        self.current.as_mut().filter(|chunk| !chunk.is_empty())
    }

    /// Returns the current chunk. If there is none, a free one becomes the current chunk.
    pub(crate) fn chunk(&mut self) -> Option<&mut Chunk> {
        self.ensure_chunk();
        self.current.as_mut()
    }

    /// Returns the source.
    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Makes a free chunk the current one if there is none.
    fn ensure_chunk(&mut self) {
        if self.current.is_none() {
            self.current = self.queue.take_free();
            self.scanned = 0;
            self.attach_pending();
        }
    }

    /// Moves everything that waits for a chunk into the current chunk, if there is one.
    fn attach_pending(&mut self) {
        let Some(chunk) = &mut self.current else { return };
        if chunk.dropped.is_empty() {
            std::mem::swap(&mut chunk.dropped, &mut self.dropped);
        }
        chunk.checkpoints = chunk.checkpoints.max(std::mem::take(&mut self.checkpoints));
        chunk.fence = self.fence.take().or(chunk.fence.take());
        chunk.ring = self.ring.take().or(chunk.ring.take());
    }

    fn count_drops(&mut self) -> Result<(), S::Error> {
        let drops = self.source.drops()?;
        self.counted = true;
        self.lost |= drops > self.drops.or(Some(0));
        self.drops = drops;
        Ok(())
    }

    /// Receives into the reserved chunk, counts the datagrams, and discards them.
    fn receive_and_drop(&mut self) -> Result<ReceiveStatus, S::Error> {
        let Some(reserve) = &mut self.reserve else { return Ok(ReceiveStatus::Closed) };
        let received = self.source.receive(&mut reserve.batch)?;
        self.counted = false;
        self.received += reserve.batch.len() as u64;
        self.dropped.add(&reserve.batch);
        reserve.batch.clear();
        Ok(match received {
            Received::Datagrams(_) | Received::Overrun => ReceiveStatus::Dropped,
            Received::Empty => ReceiveStatus::Drained,
            Received::Closed => ReceiveStatus::Closed,
        })
    }
}

#[cfg(test)]
mod tests;
