//! Limits of a block. The limits of a reader are part of the format; the targets of a writer are
//! not.

/// Maximum number of events of one block; also of notes, and of details.
pub(crate) const EVENTS: usize = 1 << 16;
/// Maximum number of values of a column, and so of bytes of a plane.
pub(crate) const VALUES: usize = 1 << 17;
/// Maximum number of values of the columns of string lengths and of words.
pub(crate) const WORDS: usize = 1 << 20;
/// Maximum size of a decompressed byte column, in bytes.
pub(crate) const BYTES: usize = 8 << 20;
/// Maximum memory for the columns of a block, in bytes; each number takes 8.
pub(crate) const DECODED: usize = 32 << 20;
/// Maximum size of a block in bytes, including its header.
pub const BLOCK: usize = 16 << 20;

/// Maximum content of a block per byte of its length (header included), in weighted units.
///
/// A decompressed byte of a column weighs [`BYTE_WEIGHT`], an event [`EVENT_WEIGHT`], and a details
/// record or a note [`OTHER_WEIGHT`].
const DENSITY: usize = 2048;
/// Weight of a decompressed byte of a column.
const BYTE_WEIGHT: usize = 1;
/// Weight of an event.
const EVENT_WEIGHT: usize = 32;
/// Weight of a details record or a note.
const OTHER_WEIGHT: usize = 128;
/// Maximum bytes of strings and arguments that the details of a block receive per byte of the
/// block; many records can name one string.
pub(crate) const DETAILS_DENSITY: usize = 4096;

/// Returns how many bytes the decompressed columns of a block of `len` bytes may take, given its
/// numbers of events and of other records. `None` means that there are too many records.
pub(crate) fn columns(len: usize, events: usize, others: usize) -> Option<usize> {
    let records = events * EVENT_WEIGHT + others * OTHER_WEIGHT;
    (len * DENSITY).checked_sub(records).map(|left| left / BYTE_WEIGHT)
}

/// Returns the maximum bytes of strings that the details in a block of `len` bytes receive.
pub(crate) fn details_bytes(len: usize) -> usize {
    BYTES.min(len * DETAILS_DENSITY)
}

/// Returns the minimum length in bytes of a block with this content.
pub(crate) fn least_len(columns: usize, events: usize, others: usize, given: usize) -> usize {
    let all = columns * BYTE_WEIGHT + events * EVENT_WEIGHT + others * OTHER_WEIGHT;
    all.div_ceil(DENSITY).max(given.div_ceil(DETAILS_DENSITY))
}

/// Number of events at which a writer starts a new block.
pub(crate) const FULL_EVENTS: usize = 1 << 14;
/// Number of details records, or of notes, at which a writer starts a new block.
pub(crate) const FULL_DETAILS: usize = 1 << 13;
/// Size of raw datagrams, or of strings and notes, in bytes at which a writer starts a new block.
pub(crate) const FULL_BYTES: usize = 4 << 20;
/// Number of words of arguments at which a writer starts a new block.
pub(crate) const FULL_WORDS: usize = 1 << 17;
/// Maximum length of a datagram, string or note, in bytes.
pub(crate) const STRING: usize = 256 << 10;
/// Maximum number of entries of an index block.
pub(crate) const INDEX: usize = 4096;

/// Compression level of zstd for planes of numbers.
pub(crate) const LEVEL: i32 = 1;
/// Compression level of zstd for byte columns, which are rarer than planes and compress better.
pub(crate) const LEVEL_BYTES: i32 = 9;
/// Window size of the compressor for strings, as a power of two: 1 MiB.
///
/// For a section of 4 MiB, zstd's own choice of tables takes 24 MiB of memory.
pub(crate) const DENSE_WINDOW_LOG: u32 = 20;
/// Hash table size of the compressor for strings, as a power of two; an entry takes 4 bytes.
pub(crate) const DENSE_HASH_LOG: u32 = 18;
/// Chain table size of the compressor for strings, as a power of two; an entry takes 4 bytes.
pub(crate) const DENSE_CHAIN_LOG: u32 = 18;

/// Maximum capacity in bytes of a buffer that an encoder keeps from block to block.
const KEPT: usize = 1 << 20;

/// Clears a buffer, and shrinks its capacity to [`KEPT`] bytes if it is larger.
pub(crate) fn clear<T>(buffer: &mut Vec<T>) {
    buffer.clear();
    buffer.shrink_to(KEPT / size_of::<T>());
}
