//! The header of a block. It lets a reader find, verify and number a block without any other part
//! of the file.

use std::ops::Range;

use super::{FILE_ORDER, limit};

/// First bytes of each block.
pub(crate) const MARKER: [u8; 8] = *b"\xb1pmb\r\n\x1a\xe5";
/// Bytes of a block before its payload.
pub(crate) const BLOCK_HEADER: usize = 64;

// Byte ranges of the header's fields; TAG follows the marker.
const TAG: Range<usize> = 8..12;
const KIND: usize = 12;
const ZEROS: [Range<usize>; 2] = [13..16, 56..60];
const PAYLOAD_LEN: Range<usize> = 16..20;
const RECORDS: Range<usize> = 20..24;
const FIRST_RECORD: Range<usize> = 24..32;
const EVENTS: Range<usize> = 32..36;
const PAYLOAD_CRC: Range<usize> = 36..40;
const FIRST_TIME: Range<usize> = 40..48;
const LAST_TIME: Range<usize> = 48..56;
const HEADER_CRC: Range<usize> = 60..64;

/// Content of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BlockKind {
    #[default]
    Records,
    Index,
    /// A kind of a later version, which a reader skips.
    Other(u8),
}

impl BlockKind {
    fn code(self) -> u8 {
        match self {
            Self::Records => 1,
            Self::Index => 2,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Records,
            2 => Self::Index,
            code => Self::Other(code),
        }
    }
}

/// The fields of a block's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// First four bytes of the UUID of the capture that contains the block.
    pub(crate) tag: [u8; 4],
    pub(crate) kind: BlockKind,
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
    /// Number of the block's first record, counted over the whole capture.
    pub(crate) first_record: u64,
    pub(crate) records: u32,
    pub(crate) events: u32,
    /// Smallest time of the block's events; without events, the largest time so far.
    pub(crate) first_time: u64,
    /// Largest time of the block's events; without events, the largest time so far.
    pub(crate) last_time: u64,
}

impl BlockHeader {
    /// Returns the length of the whole block in bytes.
    pub(crate) fn len(&self) -> usize {
        BLOCK_HEADER + self.payload_len as usize
    }

    /// Writes the header of a block whose payload is the end of `out`, into the [`BLOCK_HEADER`]
    /// bytes reserved at `start`.
    pub(crate) fn write(mut self, out: &mut [u8], start: usize) {
        let (header, payload) = out[start..].split_at_mut(BLOCK_HEADER);
        self.payload_len = payload.len() as u32;
        self.payload_crc = crc32c::crc32c(payload);
        self.write_fields(header);
    }

    /// Writes the header of a block whose payload has the stated length and checksum.
    pub(crate) fn write_fields(&self, header: &mut [u8]) {
        header[..MARKER.len()].copy_from_slice(&MARKER);
        header[TAG].copy_from_slice(&self.tag);
        header[KIND] = self.kind.code();
        ZEROS.into_iter().for_each(|zeros| header[zeros].fill(0));
        header[PAYLOAD_LEN].copy_from_slice(&self.payload_len.to_le_bytes());
        header[RECORDS].copy_from_slice(&self.records.to_le_bytes());
        header[FIRST_RECORD].copy_from_slice(&self.first_record.to_le_bytes());
        header[EVENTS].copy_from_slice(&self.events.to_le_bytes());
        header[PAYLOAD_CRC].copy_from_slice(&self.payload_crc.to_le_bytes());
        header[FIRST_TIME].copy_from_slice(&self.first_time.to_le_bytes());
        header[LAST_TIME].copy_from_slice(&self.last_time.to_le_bytes());
        let crc = crc32c::crc32c(&header[..HEADER_CRC.start]);
        header[HEADER_CRC].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the header at the start of `bytes`; `None` if there is no intact one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..BLOCK_HEADER)?;
        let u32_at = |field: Range<usize>| FILE_ORDER.u32_at(header, field.start);
        let u64_at = |field: Range<usize>| FILE_ORDER.u64_at(header, field.start);
        // Check the length before the checksum: in a forged file, markers can stand so close
        // together that each is another header's length field.
        let is_too_long = u32_at(PAYLOAD_LEN) as usize > limit::BLOCK - BLOCK_HEADER;
        // These bytes are zero, so that headers that overlap stand at least 31 bytes apart.
        let is_zero = ZEROS.into_iter().all(|zeros| header[zeros].iter().all(|&byte| byte == 0));
        if !header.starts_with(&MARKER)
            || is_too_long
            || !is_zero
            || crc32c::crc32c(&header[..HEADER_CRC.start]) != u32_at(HEADER_CRC)
        {
            return None;
        }
        let this = Self {
            tag: *header[TAG].first_chunk()?,
            kind: BlockKind::from_code(header[KIND]),
            payload_len: u32_at(PAYLOAD_LEN),
            payload_crc: u32_at(PAYLOAD_CRC),
            first_record: u64_at(FIRST_RECORD),
            records: u32_at(RECORDS),
            events: u32_at(EVENTS),
            first_time: u64_at(FIRST_TIME),
            last_time: u64_at(LAST_TIME),
        };
        (this.len() <= limit::BLOCK).then_some(this)
    }

    /// Returns whether the length and the checksum of `payload` match this header.
    pub(crate) fn is_intact(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_len as usize && crc32c::crc32c(payload) == self.payload_crc
    }
}
