//! The queue of chunks between the drain thread and the writer thread.
//!
//! The number of chunks is fixed, and their memory is allocated at the start. Each chunk is free,
//! being filled, waiting for the writer thread, or being written.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::pipeline::chunk::{BYTES_PER_DATAGRAM, Chunk};

/// Number of datagrams in one chunk: 256 KiB.
pub(crate) const DATAGRAMS_PER_CHUNK: usize = 2048;
/// Bytes of metadata in one chunk, in addition to one datagram's metadata of maximum size.
pub(crate) const METADATA_PER_CHUNK: usize = 128 << 10;
/// Number of waiting chunks from which on the writer thread lags.
const LAGGING: usize = 2;
/// Maximum bytes of memory that a recorder needs in addition to its chunks.
const OTHER_MEMORY: usize = 64 << 20;

/// The drain thread's side of the queue.
pub(crate) struct ChunkInput {
    filled: Producer<Chunk>,
    empty: Consumer<Chunk>,
    /// Free chunks. The one that was used last is reused first, so that the few chunks in use stay
    /// in the CPU's cache, and the memory of the others is never touched.
    pub(super) free: Vec<Chunk>,
}

/// The writer thread's side of the queue.
pub struct ChunkOutput {
    pub(crate) filled: Consumer<Chunk>,
    empty: Producer<Chunk>,
}

/// Creates a queue whose chunks take `bytes` bytes in all, and a chunk in addition. `largest` is
/// the maximum size of a datagram's metadata.
pub(crate) fn channel(bytes: usize, largest: usize) -> (ChunkInput, ChunkOutput, Chunk) {
    let metadata = metadata_bytes(largest);
    let chunk = || Chunk::with_metadata(DATAGRAMS_PER_CHUNK, metadata, largest);
    let chunks = chunks(bytes, metadata);
    let (filled, filled_out) = RingBuffer::new(chunks + 1);
    let (empty_in, empty) = RingBuffer::new(chunks + 1);
    let free = (0..chunks).map(|_| chunk()).collect();
    (ChunkInput { filled, empty, free }, ChunkOutput { filled: filled_out, empty: empty_in }, chunk())
}

/// Whether there is memory for chunks of `bytes` bytes in all, as passed to [`channel`], and for
/// the rest of a recorder.
///
/// The chunks are allocated in small parts, without a way to recover from a failure, and touched
/// only when they are used. So this function first allocates the total in one piece, which fails
/// beyond the limit on address space or the machine's memory.
pub(crate) fn is_memory_available(bytes: usize, largest: usize) -> bool {
    let metadata = metadata_bytes(largest);
    let chunk = DATAGRAMS_PER_CHUNK * BYTES_PER_DATAGRAM + metadata + 3 * size_of::<Chunk>();
    let chunks = chunks(bytes, metadata).saturating_add(1);
    let needed = chunks.saturating_mul(chunk).saturating_add(OTHER_MEMORY);
    Vec::<u8>::new().try_reserve_exact(needed).is_ok()
}

fn metadata_bytes(largest: usize) -> usize {
    if largest > 0 { METADATA_PER_CHUNK + largest } else { 0 }
}

/// Returns the number of chunks that fit into `bytes` bytes.
fn chunks(bytes: usize, metadata: usize) -> usize {
    (bytes / (DATAGRAMS_PER_CHUNK * BYTES_PER_DATAGRAM + metadata)).max(2)
}

impl ChunkInput {
    /// Returns a free chunk, if there is one.
    pub(crate) fn take_free(&mut self) -> Option<Chunk> {
        while let Ok(chunk) = self.empty.pop() {
            self.free.push(chunk);
        }
        self.free.pop()
    }

    /// Hands a chunk over to the writer thread.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        // The queue has room for every chunk.
        let _never_full = self.filled.push(chunk);
    }

    /// Whether the writer thread lags.
    pub(crate) fn is_lagging(&self) -> bool {
        self.filled.buffer().capacity() - self.filled.slots() >= LAGGING
    }
}

impl ChunkOutput {
    /// Takes the oldest chunk that was handed over.
    pub fn pop(&mut self) -> Option<Chunk> {
        self.filled.pop().ok()
    }

    /// Empties a chunk and makes it free again.
    pub fn recycle(&mut self, mut chunk: Chunk) {
        chunk.clear();
        // The queue has room for every chunk.
        let _never_full = self.empty.push(chunk);
    }
}
