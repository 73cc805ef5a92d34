//! Columns: many small numbers, split into byte planes that are compressed separately.
//!
//! Plane `k` of a column holds byte `k` (of weight 256^k) of each of its values. Planes of zeros
//! are omitted, and values past the end of a plane are zero. So a column of zeros takes no space,
//! and reading a value cannot fail.

use std::io::Cursor;
use std::ops::Range;

use zstd::zstd_safe::CParameter;

use crate::capture::format::{FILE_ORDER, Malformed, limit};

/// Content of a section of a block's payload. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Column {
    // These columns hold one value per event.
    Tag = 0,
    // These columns hold one value per event that is not raw.
    Time = 1,
    Seq = 2,
    // These columns hold one value per event with the field.
    Actor = 3,
    Forker = 4,
    Exiter = 5,
    Tgid = 6,
    Child = 7,
    ChildTgid = 8,
    Parent = 9,
    ParentTgid = 10,
    First = 11,
    Second = 12,
    Comm = 13,
    // These columns hold the length of each raw datagram, and their bytes.
    RawLen = 14,
    RawBytes = 15,
    // These columns hold the length of each distinct string, and their bytes.
    StringLen = 16,
    StringBytes = 17,
    // These columns hold one value per note, and the bytes of all notes.
    NoteAt = 18,
    NoteAtDetails = 19,
    NoteKind = 20,
    NoteLen = 21,
    NoteBytes = 22,
    // These columns hold one value per details record.
    DetailsAt = 23,
    DetailsSubject = 24,
    DetailsTgid = 25,
    DetailsTime = 26,
    DetailsPpid = 27,
    DetailsStart = 28,
    DetailsProfile = 29,
    // These columns hold one value per distinct profile of details.
    DetailsMiss = 30,
    DetailsArgs = 31,
    DetailsIds = 32,
    DetailsComm = 33,
    DetailsExe = 34,
    DetailsCwd = 35,
    DetailsCgroup = 36,
    // This column holds one value per word of arguments.
    Word = 37,
    // These columns hold one value per entry of an index.
    IndexOffset = 38,
    IndexRecords = 39,
    IndexEvents = 40,
    IndexFirstTime = 41,
    IndexLastTime = 42,
    // These columns hold the length of each distinct name, and their bytes.
    NameLen = 43,
    NameBytes = 44,
    // These columns hold one value per distinct profile of details.
    DetailsFilename = 45,
    DetailsContext = 46,
    // These columns hold one value per details record with a context.
    DetailsGroup = 47,
    DetailsNsPid = 48,
    // These columns hold one value per details record.
    DetailsParentStart = 49,
    DetailsArgsLen = 50,
    // This column holds one value per exit that is not raw.
    UsageStart = 51,
    // These columns hold one value per exit with a usage.
    UsageCpu = 52,
    UsageUser = 53,
    UsageSystem = 54,
    UsageRss = 55,
    UsageMinor = 56,
    UsageMajor = 57,
    UsageRead = 58,
    UsageWrite = 59,
    UsageThreads = 60,
    UsageProcess = 61,
    UsageProcessCpu = 62,
    // These columns hold one value per details record.
    DetailsThreads = 63,
    DetailsFork = 64,
    // This column holds one value per exit with a usage.
    SignalOrigin = 65,
    // This column holds one value per origin that is known.
    SignalCode = 66,
    // These columns hold one value per process that sent a signal.
    SenderPid = 67,
    SenderStart = 68,
    SenderUid = 69,
    SenderCommLow = 70,
    SenderCommHigh = 71,
    // This column holds one value per distinct profile of details.
    DetailsContainer = 72,
    // This column holds one value per byte of a container's names.
    ContainerByte = 73,
}

/// Number of columns.
const COLUMNS: usize = 74;
/// Bytes of a section before its data: column, plane, codec, zero, then the fields below.
const SECTION_HEADER: usize = 12;
const RAW_LEN: Range<usize> = 4..8;
const STORED_LEN: Range<usize> = 8..12;

/// Number of a column that every reader skips; the writer uses it for padding.
const FILLER: u8 = 255;

const STORED: u8 = 0;
const ZSTD: u8 = 1;

impl Column {
    /// Columns of bytes instead of numbers.
    const BYTES: [Self; 4] = [Self::RawBytes, Self::StringBytes, Self::NoteBytes, Self::NameBytes];

    /// Columns that can have more values than the block has records.
    const LONG: [Self; 3] = [Self::StringLen, Self::Word, Self::ContainerByte];
}

/// Collects the columns of a block and writes them as sections.
pub(crate) struct ColumnWriter {
    numbers: Vec<Vec<u64>>,
    bytes: [Vec<u8>; Column::BYTES.len()],
    plane: Vec<u8>,
    fast: zstd::bulk::Compressor<'static>,
    dense: zstd::bulk::Compressor<'static>,
    compresses: bool,
}

impl Default for ColumnWriter {
    fn default() -> Self {
        let compressor = |level| {
            // This fails only if the C library cannot allocate memory; the default compressor then
            // allocates on first use.
            zstd::bulk::Compressor::new(level).unwrap_or_default()
        };
        let mut dense = compressor(limit::LEVEL_BYTES);
        for parameter in [
            CParameter::WindowLog(limit::DENSE_WINDOW_LOG),
            CParameter::HashLog(limit::DENSE_HASH_LOG),
            CParameter::ChainLog(limit::DENSE_CHAIN_LOG),
        ] {
            // zstd refuses only values outside its bounds; the compressor then uses more memory.
            let _ = dense.set_parameter(parameter);
        }
        Self {
            numbers: vec![Vec::new(); COLUMNS],
            bytes: Default::default(),
            plane: Vec::new(),
            fast: compressor(limit::LEVEL),
            dense,
            compresses: true,
        }
    }
}

impl ColumnWriter {
    /// Sets whether later sections are compressed.
    pub(crate) fn set_compression(&mut self, compresses: bool) {
        self.compresses = compresses;
    }

    #[inline]
    pub(crate) fn put(&mut self, column: Column, value: u64) {
        self.numbers[column as usize].push(value);
    }

    pub(crate) fn put_bytes(&mut self, column: Column, bytes: &[u8]) {
        if let Some(at) = Column::BYTES.iter().position(|&c| c == column) {
            self.bytes[at].extend_from_slice(bytes);
        }
    }

    /// Adds a byte column in one piece by taking the content of `bytes`, which avoids copying
    /// megabytes.
    pub(crate) fn take_bytes(&mut self, column: Column, bytes: &mut Vec<u8>) {
        if let Some(at) = Column::BYTES.iter().position(|&c| c == column) {
            debug_assert!(self.bytes[at].is_empty());
            std::mem::swap(&mut self.bytes[at], bytes);
        }
        bytes.clear();
    }

    /// Appends all columns to `out` as sections and clears them. Returns their size in bytes before
    /// compression.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> usize {
        let mut raw = 0;
        for column in 0..COLUMNS {
            let used = self.numbers[column].iter().fold(0, |all, value| all | value);
            for plane in 0..8_u8 {
                if (used >> (8 * plane)) & 0xff == 0 {
                    continue;
                }
                self.plane.clear();
                self.plane.extend(self.numbers[column].iter().map(|value| (value >> (8 * plane)) as u8));
                let compressor = self.compresses.then_some(&mut self.fast);
                raw += self.plane.len();
                section(column as u8, plane, &self.plane, compressor, out);
            }
            limit::clear(&mut self.numbers[column]);
        }
        for (column, bytes) in Column::BYTES.iter().zip(&mut self.bytes) {
            if !bytes.is_empty() {
                raw += bytes.len();
                let compressor = self.compresses.then_some(&mut self.dense);
                section(*column as u8, 0, bytes, compressor, out);
                limit::clear(bytes);
            }
        }
        raw
    }
}

/// Appends a padding section of `len` bytes, or of a bare section header if that is longer.
pub(crate) fn fill(len: usize, out: &mut Vec<u8>) {
    let zeros = vec![0; len.saturating_sub(SECTION_HEADER)];
    section(FILLER, 0, &zeros, None, out);
}

fn section(
    column: u8,
    plane: u8,
    raw: &[u8],
    compressor: Option<&mut zstd::bulk::Compressor<'_>>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.resize(start + SECTION_HEADER, 0);
    let data = out.len();
    let len = compressor.and_then(|compressor| {
        out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let mut end = Cursor::new(&mut *out);
        end.set_position(data as u64);
        compressor.compress_to_buffer(raw, &mut end).ok()
    });
    let codec = match len {
        Some(len) if len < raw.len() => ZSTD,
        _ => {
            // Compression did not shrink the data, or zstd ran out of memory: store the data as
            // they are.
            out.truncate(data);
            out.extend_from_slice(raw);
            STORED
        }
    };
    let stored = (out.len() - data) as u32;
    let header = &mut out[start..data];
    header[..3].copy_from_slice(&[column, plane, codec]);
    header[RAW_LEN].copy_from_slice(&(raw.len() as u32).to_le_bytes());
    header[STORED_LEN].copy_from_slice(&stored.to_le_bytes());
}

/// The decompressed columns of a block. Their memory is reused for the next block.
pub(crate) struct ColumnReader {
    numbers: Vec<Vec<u64>>,
    bytes: [Vec<u8>; Column::BYTES.len()],
    plane: Vec<u8>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

impl Default for ColumnReader {
    fn default() -> Self {
        Self {
            numbers: vec![Vec::new(); COLUMNS],
            bytes: Default::default(),
            plane: Vec::new(),
            decompressor: zstd::bulk::Decompressor::new().ok(),
        }
    }
}

impl ColumnReader {
    /// Returns the allocated memory in bytes.
    pub(crate) fn memory(&self) -> usize {
        let numbers = self.numbers.iter().map(Vec::capacity).sum::<usize>();
        let bytes = self.bytes.iter().map(Vec::capacity).sum::<usize>();
        numbers * size_of::<u64>() + bytes + self.plane.capacity()
    }

    /// Reads the sections of a payload whose columns may decompress to at most `room` bytes.
    /// Columns of later versions are skipped.
    pub(crate) fn load(&mut self, payload: &[u8], room: usize) -> Result<(), Malformed> {
        self.load_columns(payload, room, ColumnSet::ALL)
    }

    /// Reads the sections of a payload that belong to a set of columns; the other columns are
    /// empty. The columns may decompress to at most `room` bytes.
    pub(crate) fn load_columns(
        &mut self,
        payload: &[u8],
        mut room: usize,
        set: ColumnSet,
    ) -> Result<(), Malformed> {
        if self.memory() > limit::DECODED {
            // Free what earlier blocks needed for other columns; buffers would add up otherwise.
            self.numbers.iter_mut().for_each(|numbers| *numbers = Vec::new());
            self.bytes = Default::default();
        }
        self.numbers.iter_mut().for_each(Vec::clear);
        self.bytes.iter_mut().for_each(Vec::clear);
        let mut memory = 0;
        let mut seen = [0_u8; COLUMNS];
        for section in sections(payload) {
            let Section { column, plane, codec, raw_len, data, .. } = section?;
            let stored_len = data.len();
            let bytes = Column::BYTES.iter().position(|&c| c as usize == column);
            if column >= COLUMNS || !set.contains(column) {
                continue;
            }
            let limit = match bytes {
                Some(_) => limit::BYTES,
                None if Column::LONG.iter().any(|&c| c as usize == column) => limit::WORDS,
                None => limit::VALUES,
            };
            let planes = if bytes.is_some() { 1 } else { 8 };
            if plane >= planes || raw_len > limit {
                return Err(Malformed("a section is larger than the format allows"));
            }
            // A section must not be repeated; otherwise, a small file could use any amount of
            // memory and time.
            if seen[column] & 1 << plane != 0 {
                return Err(Malformed("a section comes twice"));
            }
            seen[column] |= 1 << plane;
            room = room.checked_sub(raw_len).ok_or(Malformed("it claims more than its bytes can hold"))?;
            memory += match bytes {
                Some(_) => raw_len,
                None => raw_len.saturating_sub(self.numbers[column].len()) * size_of::<u64>(),
            };
            if memory > limit::DECODED {
                return Err(Malformed("its columns are larger than the format allows"));
            }
            let stored = Some(data).filter(|_| codec == STORED && stored_len == raw_len);
            match (bytes, stored) {
                (Some(at), Some(data)) => self.bytes[at].extend_from_slice(data),
                (Some(at), None) => {
                    self.bytes[at].reserve_exact(raw_len);
                    self.bytes[at].resize(raw_len, 0);
                    decompress(&mut self.decompressor, codec, data, &mut self.bytes[at])?;
                }
                (None, Some(data)) => add_plane(&mut self.numbers[column], plane, data),
                (None, None) => {
                    if self.plane.len() < raw_len {
                        self.plane.resize(raw_len, 0);
                    }
                    let into = &mut self.plane[..raw_len];
                    decompress(&mut self.decompressor, codec, data, into)?;
                    add_plane(&mut self.numbers[column], plane, into);
                }
            }
        }
        Ok(())
    }

    /// Returns the values of a column.
    pub(crate) fn numbers(&self, column: Column) -> Values<'_> {
        debug_assert!(!Column::BYTES.contains(&column));
        Values(self.numbers[column as usize].iter())
    }

    /// Returns the values of all columns of numbers.
    pub(crate) fn values(&self) -> ColumnValues<'_> {
        ColumnValues(std::array::from_fn(|column| Values(self.numbers[column].iter())))
    }

    /// Returns the content of a column of bytes.
    pub(crate) fn bytes(&self, column: Column) -> &[u8] {
        Column::BYTES.iter().position(|&c| c == column).map_or(&[], |at| &self.bytes[at])
    }
}

/// A set of columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColumnSet(u128);

impl ColumnSet {
    pub(crate) const ALL: Self = Self(u128::MAX);
    /// The columns of notes.
    pub(crate) const NOTES: Self = Self::of(&[
        Column::NoteAt,
        Column::NoteAtDetails,
        Column::NoteKind,
        Column::NoteLen,
        Column::NoteBytes,
    ]);
    /// The column with the kinds of notes.
    pub(crate) const NOTE_KINDS: Self = Self::of(&[Column::NoteKind]);
    /// The columns with the kind, the CPU and the number of events, and the subject of details.
    pub(crate) const OUTLINE: Self = Self::of(&[Column::Tag, Column::Seq, Column::DetailsSubject]);

    const fn of(columns: &[Column]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < columns.len() {
            set |= 1 << columns[at] as u8;
            at += 1;
        }
        Self(set)
    }

    pub(crate) fn contains(self, column: usize) -> bool {
        column < COLUMNS && self.0 & 1 << column != 0
    }
}

/// One section of a payload.
pub(crate) struct Section<'a> {
    pub(crate) column: usize,
    plane: u8,
    codec: u8,
    /// Length of the data after decompression.
    pub(crate) raw_len: usize,
    data: &'a [u8],
    /// The whole section, with its header.
    pub(crate) bytes: &'a [u8],
}

/// Returns the sections of a payload in order. The first error ends them.
pub(crate) fn sections(mut payload: &[u8]) -> impl Iterator<Item = Result<Section<'_>, Malformed>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let len =
            |field: Range<usize>| payload.get(field.clone()).map(|_| FILE_ORDER.u32_at(payload, field.start));
        let section = len(STORED_LEN).and_then(|stored| {
            let (bytes, rest) = payload.split_at_checked(SECTION_HEADER + stored as usize)?;
            Some((bytes, rest))
        });
        let Some((bytes, rest)) = section else {
            payload = &[];
            return Some(Err(Malformed("a section is cut")));
        };
        payload = rest;
        Some(Ok(Section {
            column: usize::from(bytes[0]),
            plane: bytes[1],
            codec: bytes[2],
            raw_len: FILE_ORDER.u32_at(bytes, RAW_LEN.start) as usize,
            data: &bytes[SECTION_HEADER..],
            bytes,
        }))
    })
}

/// Decompresses a section into exactly `into.len()` bytes; any other length is an error.
fn decompress(
    decompressor: &mut Option<zstd::bulk::Decompressor<'_>>,
    codec: u8,
    data: &[u8],
    into: &mut [u8],
) -> Result<(), Malformed> {
    if codec != ZSTD {
        return Err(Malformed("a section has an unknown codec"));
    }
    let read =
        decompressor.as_mut().and_then(|decompressor| decompressor.decompress_to_buffer(data, into).ok());
    if read == Some(into.len()) {
        Ok(())
    } else {
        Err(Malformed("a section does not decompress to its length"))
    }
}

fn add_plane(values: &mut Vec<u64>, plane: u8, raw: &[u8]) {
    let shift = 8 * plane;
    let known = values.len().min(raw.len());
    for (value, &byte) in values.iter_mut().zip(raw) {
        *value |= u64::from(byte) << shift;
    }
    // A column is as long as its longest plane, and most planes have the same length.
    values.reserve_exact(raw.len() - known);
    values.extend(raw[known..].iter().map(|&byte| u64::from(byte) << shift));
}

/// Reads the values of all columns of numbers, each column independently.
pub(crate) struct ColumnValues<'a>([Values<'a>; COLUMNS]);

impl ColumnValues<'_> {
    /// Returns the next value of a column.
    #[inline(always)]
    pub(crate) fn take(&mut self, column: Column) -> u64 {
        self.0[column as usize].take()
    }
}

/// Iterates over the values of a column; returns zeros after its end.
#[derive(Clone, Debug)]
pub(crate) struct Values<'a>(std::slice::Iter<'a, u64>);

impl Values<'_> {
    /// Returns the number of values left before the zeros.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    pub(crate) fn take(&mut self) -> u64 {
        self.0.next().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
