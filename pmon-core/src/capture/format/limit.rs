//! The numbers that bound a block. What a reader accepts is part of the format; what a writer aims at is not.

/// Most events, notes or details of one block.
pub(crate) const EVENTS: usize = 1 << 16;
/// Most values of a column, and so most bytes of a plane;
pub(crate) const VALUES: usize = 1 << 17;
/// of the columns of strings and of words.
pub(crate) const WORDS: usize = 1 << 20;
/// Most bytes of a section of bytes, decompressed.
pub(crate) const BYTES: usize = 8 << 20;
/// Maximum memory for the columns of a block, in bytes; each number takes 8.
pub(crate) const DECODED: usize = 32 << 20;
/// Most bytes of a block, its header included.
pub const BLOCK: usize = 16 << 20;

/// Maximum content of a block per byte of its length (header included), in weighted units.
///
/// A decompressed byte of a column weighs [`BYTE_WEIGHT`], an event [`EVENT_WEIGHT`], and a details
/// record or a note [`OTHER_WEIGHT`].
const DENSITY: usize = 2048;
const BYTE_WEIGHT: usize = 1;
const EVENT_WEIGHT: usize = 32;
const OTHER_WEIGHT: usize = 128;
/// Maximum bytes of strings and arguments that the details of a block receive per byte of the
/// block; many records can name one string.
const GIVEN: usize = 4096;

/// Returns how many bytes the decompressed columns of a block of `len` bytes may take, given its
/// numbers of events and of other records. `None` means that there are too many records.
pub(crate) fn columns(len: usize, events: usize, others: usize) -> Option<usize> {
    let records = events * EVENT_WEIGHT + others * OTHER_WEIGHT;
    (len * DENSITY).checked_sub(records).map(|left| left / BYTE_WEIGHT)
}

/// Returns the maximum bytes of strings that the details in a block of `len` bytes receive.
pub(crate) fn given(len: usize) -> usize {
    BYTES.min(len * GIVEN)
}

/// Returns the minimum length in bytes of a block with this content.
pub(crate) fn least_len(columns: usize, events: usize, others: usize, given: usize) -> usize {
    let all = columns * BYTE_WEIGHT + events * EVENT_WEIGHT + others * OTHER_WEIGHT;
    all.div_ceil(DENSITY).max(given.div_ceil(GIVEN))
}

/// A writer begins a new block at so many events,
pub(crate) const FULL_EVENTS: usize = 1 << 14;
/// at so many details,
pub(crate) const FULL_DETAILS: usize = 1 << 13;
/// or at so many bytes of raw datagrams, strings or notes,
pub(crate) const FULL_BYTES: usize = 4 << 20;
/// or at so many words of arguments.
pub(crate) const FULL_WORDS: usize = 1 << 17;
/// The longest datagram or string that a writer takes.
pub(crate) const STRING: usize = 256 << 10;
/// Blocks of one index.
pub(crate) const INDEX: usize = 4096;

/// zstd level for planes.
pub(crate) const LEVEL: i32 = 1;
/// zstd level for strings: rarer, and worth more.
pub(crate) const LEVEL_BYTES: i32 = 9;
/// Window size of the compressor for strings, as a power of two: 1 MiB.
///
/// For a section of 4 MiB, zstd's own choice of tables takes 24 MiB of memory.
pub(crate) const DENSE_WINDOW_LOG: u32 = 20;
/// Hash table size of the compressor for strings, as a power of two; an entry takes 4 bytes.
pub(crate) const DENSE_HASH_LOG: u32 = 18;
/// Chain table size of the compressor for strings, as a power of two; an entry takes 4 bytes.
pub(crate) const DENSE_CHAIN_LOG: u32 = 18;

/// Bytes of a buffer that an encoder keeps from block to block.
const KEPT: usize = 1 << 20;

/// Shrinks the capacity of a buffer to [`KEPT`] bytes if it is larger.
pub(crate) fn trim<T>(buffer: &mut Vec<T>) {
    buffer.shrink_to(KEPT / size_of::<T>());
}
