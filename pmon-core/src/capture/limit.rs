//! The numbers that bound a block. What a reader accepts is part of the format; what a writer aims at is not.

/// Most events, notes or details of one block.
pub(super) const EVENTS: usize = 1 << 16;
/// Most values of a column, and so most bytes of a plane;
pub(super) const VALUES: usize = 1 << 17;
/// of the columns of strings and of words.
pub(super) const WORDS: usize = 1 << 20;
/// Most bytes of a section of bytes, decompressed.
pub(super) const BYTES: usize = 8 << 20;
/// Most bytes that the columns of a block take in memory: 8 for each number.
pub(super) const DECODED: usize = 32 << 20;
/// Most bytes of a block, its header included.
pub const BLOCK: usize = 16 << 20;

/// What a block may hold for each of its bytes, its header included: [`BYTE_WEIGHT`] for each byte of its columns, decompressed,
/// [`EVENT_WEIGHT`] for each event, and [`OTHER_WEIGHT`] for each of its details and notes.
const DENSITY: usize = 2048;
const BYTE_WEIGHT: usize = 1;
const EVENT_WEIGHT: usize = 32;
const OTHER_WEIGHT: usize = 128;
/// Most bytes of strings and arguments that the details of a block are given for each of its bytes: many may name one string.
const GIVEN: usize = 4096;

/// Bytes of columns, decompressed, that a block of `len` bytes with so many records may still hold; `None` if these are too many.
pub(super) fn columns(len: usize, events: usize, others: usize) -> Option<usize> {
    let records = events * EVENT_WEIGHT + others * OTHER_WEIGHT;
    (len * DENSITY).checked_sub(records).map(|left| left / BYTE_WEIGHT)
}

/// Bytes of strings that the details of a block of `len` bytes are given.
pub(super) fn given(len: usize) -> usize {
    BYTES.min(len * GIVEN)
}

/// The least length of a block that holds so much.
pub(super) fn least_len(columns: usize, events: usize, others: usize, given: usize) -> usize {
    let all = columns * BYTE_WEIGHT + events * EVENT_WEIGHT + others * OTHER_WEIGHT;
    all.div_ceil(DENSITY).max(given.div_ceil(GIVEN))
}

/// A writer begins a new block at so many events,
pub(super) const FULL_EVENTS: usize = 1 << 14;
/// at so many details,
pub(super) const FULL_DETAILS: usize = 1 << 13;
/// or at so many bytes of raw datagrams, strings or notes,
pub(super) const FULL_BYTES: usize = 4 << 20;
/// or at so many words of arguments.
pub(super) const FULL_WORDS: usize = 1 << 17;
/// The longest datagram or string that a writer takes.
pub(super) const STRING: usize = 256 << 10;
/// Blocks of one index.
pub(super) const INDEX: usize = 4096;

/// zstd level for planes.
pub(super) const LEVEL: i32 = 1;
/// zstd level for strings: rarer, and worth more.
pub(super) const LEVEL_BYTES: i32 = 9;
/// A section of bytes that is larger is compressed with smaller tables: those that zstd takes for 4 MiB have 24 MiB.
pub(super) const DENSE_WINDOW_LOG: u32 = 20;
/// The same for the hash table, of 4 bytes a place,
pub(super) const DENSE_HASH_LOG: u32 = 18;
/// and for the chains.
pub(super) const DENSE_CHAIN_LOG: u32 = 18;

/// Bytes of a buffer that an encoder keeps from block to block. What a large block took besides is given back.
const KEPT: usize = 1 << 20;

/// Gives back the memory of a buffer that exceeds what is kept from block to block.
pub(super) fn trim<T>(buffer: &mut Vec<T>) {
    buffer.shrink_to(KEPT / size_of::<T>());
}
