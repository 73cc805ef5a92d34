//! Datagrams from a source into chunks, and the count of those for which there is no chunk. Without threads and clocks.
//!
//! There is a fixed number of chunks. One is filled; the others wait for the writer thread, or for their turn. While
//! none is free, datagrams are still taken out of the source, into a chunk kept for that, and counted: the source must
//! not overflow, and what is dropped here is known by number and CPU.

use std::time::Instant;

use pmon_core::accounting::Discarded;
use pmon_core::batch::{self, Batch};
use pmon_core::capture::{CpuCounts, Fence, RecordedDatagram};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, Message, messages};
use pmon_core::{Cpu, MonoNs};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::pipeline::chunk::{Chunk, Dropped};
use crate::transport::ring::entry::excluded;

/// Number of datagrams in one chunk: 256 KiB.
const CHUNK: usize = 2048;
/// Bytes of annexes in one chunk, besides one annex of any size.
const ANNEXES: usize = 128 << 10;
/// Bytes of memory of one datagram in a chunk: its slot, and its entries in a [`Batch`] and a
/// [`Chunk`].
const FRAME: usize = batch::SLOT_LEN + size_of::<batch::Arrival>() + size_of::<usize>() + size_of::<u32>();
/// Number of filled chunks from which on the writer thread lags.
const BEHIND: usize = 2;

/// What a recorder's drain thread does, call by call: see the module.
pub struct Receiver<S> {
    source: S,
    filled: Producer<Chunk>,
    empty: Consumer<Chunk>,
    /// Free chunks, the one that was used last at the end: so few are in use that they stay in the CPU's cache, and the memory of the
    /// others is never touched.
    free: Vec<Chunk>,
    /// The chunk that is being filled; its datagrams up to `scanned` were looked at.
    current: Option<Chunk>,
    scanned: usize,
    /// Takes what there is no chunk for, and is the last to be handed over.
    reserve: Option<Chunk>,
    dropped: Dropped,
    checkpoints: u64,
    fence: Option<Fence>,
    ring: Option<Vec<CpuCounts>>,
    /// The source's count of drops when it was asked last, and whether it has grown.
    drops: Option<u64>,
    lost: bool,
    /// Whether it was asked after the last datagram.
    counted: bool,
    frames: u64,
}

/// The writer thread's ends of the queues.
pub struct ChunkOutput {
    pub(crate) filled: Consumer<Chunk>,
    pub(crate) empty: Producer<Chunk>,
}

impl ChunkOutput {
    /// The oldest chunk that was handed over.
    pub fn pop(&mut self) -> Option<Chunk> {
        self.filled.pop().ok()
    }

    /// Makes a chunk free again.
    pub fn recycle(&mut self, mut chunk: Chunk) {
        chunk.clear();
        // There are no more chunks than places in the queue.
        let _never_full = self.empty.push(chunk);
    }
}

/// How a look at the source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveStatus {
    /// Nothing waits any longer.
    Drained,
    /// The chunk is full, and to be handed over.
    Full,
    /// Datagrams were dropped, and more may wait.
    Dropped,
    /// The source has ended.
    Closed,
}

/// Maximum bytes of memory that a recorder needs besides its chunks.
const BESIDES: usize = 64 << 20;

/// Whether there is memory for chunks of `bytes` bytes in all, as passed to [`Receiver::new`], and
/// for the rest of a recorder.
///
/// The chunks are allocated in small parts, without a way to recover from a failure, and touched
/// only when they are used. So this function first allocates the total in one piece, which fails
/// beyond the limit on address space or the machine's memory.
pub(crate) fn is_there_memory(bytes: usize, largest: usize) -> bool {
    let annexes = if largest > 0 { ANNEXES + largest } else { 0 };
    let chunk = Chunk::bytes(CHUNK, annexes);
    let needed = chunks(bytes, annexes).saturating_add(1).saturating_mul(chunk).saturating_add(BESIDES);
    Vec::<u8>::new().try_reserve_exact(needed).is_ok()
}

/// Returns the number of chunks that fit into `bytes` bytes.
fn chunks(bytes: usize, annexes: usize) -> usize {
    (bytes / (CHUNK * FRAME + annexes)).max(2)
}

impl<S: Source> Receiver<S> {
    /// Creates an receiver whose chunks take `bytes` bytes in all, and its output. `largest` is the
    /// maximum size of an annex.
    pub fn new(source: S, bytes: usize, largest: usize) -> (Self, ChunkOutput) {
        let annexes = if largest > 0 { ANNEXES + largest } else { 0 };
        let chunk = || Chunk::with_metadata(CHUNK, annexes, largest);
        let chunks = chunks(bytes, annexes);
        let (filled, filled_out) = RingBuffer::new(chunks + 1);
        let (empty_in, empty) = RingBuffer::new(chunks + 1);
        let this = Self {
            source,
            filled,
            empty,
            free: (0..chunks).map(|_| chunk()).collect(),
            current: None,
            scanned: 0,
            reserve: Some(chunk()),
            dropped: Dropped::default(),
            checkpoints: 0,
            fence: None,
            ring: None,
            drops: None,
            lost: false,
            counted: false,
            frames: 0,
        };
        (this, ChunkOutput { filled: filled_out, empty: empty_in })
    }

    /// Receives until the source is empty, a chunk is full, or some datagrams had to be dropped.
    pub fn receive(&mut self) -> Result<ReceiveStatus, S::Error> {
        loop {
            let Some(chunk) = self.chunk() else { return self.drop_some() };
            let before = chunk.batch.len();
            match self.receive_into_chunk()? {
                Received::Datagrams(_) => {
                    self.counted = false;
                    let Some(chunk) = &mut self.current else { continue };
                    if before == 0 {
                        chunk.received_at = Instant::now();
                    }
                    self.frames += (chunk.batch.len() - before) as u64;
                    if chunk.batch.is_full() {
                        return Ok(ReceiveStatus::Full);
                    }
                }
                Received::Overrun => {
                    self.counted = false;
                    self.note_overrun();
                }
                Received::Empty => return Ok(ReceiveStatus::Drained),
                Received::Closed => return Ok(ReceiveStatus::Closed),
            }
        }
    }

    /// Gives the datagrams of the current chunk that were not given before to `visit`, which says whether the details of
    /// that exec event cannot be had.
    pub(crate) fn scan(&mut self, mut visit: impl FnMut(&batch::Datagram<'_>) -> bool) {
        let Some(chunk) = &mut self.current else { return };
        for (n, frame) in chunk.batch.datagrams_from(self.scanned).enumerate() {
            if visit(&frame) {
                chunk.busy.push((self.scanned + n) as u32);
            }
        }
        self.scanned = chunk.batch.len();
    }

    /// When the last event of each CPU happened of those in hand: in the current chunk, or dropped.
    pub(crate) fn heard_of(&self) -> impl Iterator<Item = (Cpu, MonoNs)> {
        let frames = self.current.iter().flat_map(|chunk| chunk.batch.datagrams());
        let events = frames.filter(|frame| frame.arrival.sender == 0);
        let events = events.filter_map(|frame| Event::decode(frame.bytes, ByteOrder::NATIVE).ok());
        let dropped = self.dropped.events.iter().map(|dropped| (dropped.cpu, dropped.last.1));
        events.map(|event| (event.cpu, event.time)).chain(dropped)
    }

    /// Hands the current chunk over, if it says anything; `false` if it does not.
    pub fn hand_over(&mut self) -> Result<bool, S::Error> {
        if !self.counted {
            self.count_drops()?;
        }
        let is_worth_it = self.checkpoints > 0
            || self.fence.is_some()
            || self.ring.is_some()
            || self.current.as_ref().is_some_and(|chunk| !chunk.is_empty());
        if !is_worth_it {
            return Ok(false);
        }
        let Some(mut chunk) = self.take_chunk() else { return Ok(false) };
        (chunk.drops, chunk.handed_at) = (self.drops, Instant::now());
        // There are no more chunks than places in the queue.
        let _never_full = self.filled.push(chunk);
        Ok(true)
    }

    /// Hands over whatever is left, whether or not there is a chunk free for it.
    pub fn finish(&mut self) -> Result<(), S::Error> {
        if self.chunk().is_none() {
            self.current = self.reserve.take();
            self.scanned = 0;
            self.dress();
        }
        self.hand_over().map(|_| ())
    }

    /// Tells what did not come by the ring.
    pub(crate) fn set_ring_counts(&mut self, counts: Vec<CpuCounts>) {
        self.ring = Some(counts);
        self.dress();
    }

    /// Records a fence whose events have been received.
    pub fn set_fence(&mut self, fence: Fence) {
        self.fence = Some(fence);
        self.dress();
    }

    /// Forgets all that came until now; gives the source's count of drops before what will come.
    pub(crate) fn restart(&mut self, output: &mut ChunkOutput) -> Result<Option<u64>, S::Error> {
        while let Ok(chunk) = output.filled.pop() {
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
        self.dress();
    }

    /// Whether the source has dropped anything since this was asked last.
    pub(crate) fn take_lost(&mut self) -> Result<bool, S::Error> {
        self.count_drops()?;
        Ok(std::mem::take(&mut self.lost))
    }

    /// Datagrams received since this was asked last.
    pub(crate) fn take_frames(&mut self) -> u64 {
        std::mem::take(&mut self.frames)
    }

    /// Whether the writer thread is behind: then a chunk is handed over only when full.
    pub(crate) fn is_behind(&self) -> bool {
        self.filled.buffer().capacity() - self.filled.slots() >= BEHIND
    }

    /// The current chunk, if there is anything in it.
    pub fn current(&mut self) -> Option<&mut Chunk> {
        self.current.as_mut().filter(|chunk| !chunk.is_empty())
    }

    /// The current chunk, or a free one in its place.
    pub(crate) fn chunk(&mut self) -> Option<&mut Chunk> {
        if self.current.is_none() {
            while let Ok(chunk) = self.empty.pop() {
                self.free.push(chunk);
            }
            self.current = self.free.pop();
            self.scanned = 0;
            self.dress();
        }
        self.current.as_mut()
    }

    /// The source.
    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    fn take_chunk(&mut self) -> Option<Chunk> {
        self.chunk()?;
        self.current.take()
    }

    /// Gives the current chunk what is to be told with it, if there is a chunk.
    fn dress(&mut self) {
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

    fn receive_into_chunk(&mut self) -> Result<Received, S::Error> {
        match &mut self.current {
            Some(chunk) => self.source.receive(&mut chunk.batch),
            None => Ok(Received::Empty),
        }
    }

    fn note_overrun(&mut self) {
        if let Some(chunk) = &mut self.current {
            chunk.overruns += 1;
            chunk.drained_at = None;
        }
    }

    fn drop_some(&mut self) -> Result<ReceiveStatus, S::Error> {
        let Some(reserve) = &mut self.reserve else { return Ok(ReceiveStatus::Closed) };
        let received = self.source.receive(&mut reserve.batch)?;
        self.counted = false;
        self.frames += reserve.batch.len() as u64;
        self.dropped.take(&reserve.batch);
        reserve.batch.clear();
        Ok(match received {
            Received::Datagrams(_) | Received::Overrun => ReceiveStatus::Dropped,
            Received::Empty => ReceiveStatus::Drained,
            Received::Closed => ReceiveStatus::Closed,
        })
    }
}

impl Dropped {
    /// Adds the datagrams of a batch to the counts.
    fn take(&mut self, batch: &Batch) {
        for frame in batch.datagrams() {
            if frame.arrival.sender != 0 {
                self.rejected += 1;
                continue;
            }
            self.malformed += u64::from(RecordedDatagram::Raw(frame.bytes).is_malformed(ByteOrder::NATIVE));
            for message in messages(frame.bytes, ByteOrder::NATIVE) {
                if let Ok(Message::Event(event)) = message {
                    self.count(&event, excluded(&frame));
                }
            }
        }
    }

    fn count(&mut self, event: &Event, excluded: u32) {
        let at = (event.seq, event.time);
        match self.events.iter_mut().find(|dropped| dropped.cpu == event.cpu) {
            Some(dropped) => {
                (dropped.last, dropped.excluded) = (at, excluded);
                dropped.count += 1;
            }
            None => {
                self.events.push(Discarded { cpu: event.cpu, first: at, last: at, count: 1, excluded });
            }
        }
    }
}

#[cfg(test)]
mod tests;
