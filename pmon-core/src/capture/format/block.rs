//! The frame around a block: what makes it found, trusted and placed without anything before it.

use thiserror::Error;

use super::limit;

/// The first bytes of each block.
pub(crate) const MARKER: [u8; 8] = *b"\xb1pmb\r\n\x1a\xe5";
/// Bytes of a block before its payload.
pub(crate) const BLOCK_HEADER: usize = 64;

/// A block that passed its checksums and yet is not what the format says.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Records,
    Index,
    /// Of a later version: skipped.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// The capture it belongs to: the first four bytes of its UUID.
    pub(crate) tag: [u8; 4],
    pub(crate) kind: BlockKind,
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
    /// The number of its first record, counted over the whole capture.
    pub(crate) first_record: u64,
    pub(crate) records: u32,
    pub(crate) events: u32,
    /// The least and the greatest time of its events; without events, the greatest so far.
    pub(crate) first_time: u64,
    pub(crate) last_time: u64,
}

impl BlockHeader {
    /// Bytes of the whole block.
    pub(crate) fn len(&self) -> usize {
        BLOCK_HEADER + self.payload_len as usize
    }

    /// Fills in the header of a block whose payload stands at the end of `out`, behind [`BLOCK_HEADER`] bytes
    /// kept free at `start`.
    pub(crate) fn write(mut self, out: &mut [u8], start: usize) {
        let (header, payload) = out[start..].split_at_mut(BLOCK_HEADER);
        self.payload_len = payload.len() as u32;
        self.payload_crc = crc32c::crc32c(payload);
        header[..8].copy_from_slice(&MARKER);
        header[8..12].copy_from_slice(&self.tag);
        header[12..16].copy_from_slice(&[self.kind.code(), 0, 0, 0]);
        header[16..20].copy_from_slice(&self.payload_len.to_le_bytes());
        header[20..24].copy_from_slice(&self.records.to_le_bytes());
        header[24..32].copy_from_slice(&self.first_record.to_le_bytes());
        header[32..36].copy_from_slice(&self.events.to_le_bytes());
        header[36..40].copy_from_slice(&self.payload_crc.to_le_bytes());
        header[40..48].copy_from_slice(&self.first_time.to_le_bytes());
        header[48..56].copy_from_slice(&self.last_time.to_le_bytes());
        header[56..60].fill(0);
        let crc = crc32c::crc32c(&header[..60]);
        header[60..64].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header that begins at `bytes`; `None` if there is none that can be trusted.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..BLOCK_HEADER)?;
        // Check the length before the checksum: in a forged file, markers can stand so close
        // together that each is another header's length field.
        let is_too_long = u32_at(header, 16) as usize > limit::BLOCK - BLOCK_HEADER;
        // These bytes are zero, so that headers that overlap stand at least 31 bytes apart.
        let is_zero = header[13..16] == [0; 3] && header[56..60] == [0; 4];
        if header[..8] != MARKER
            || is_too_long
            || !is_zero
            || crc32c::crc32c(&header[..60]) != u32_at(header, 60)
        {
            return None;
        }
        let this = Self {
            tag: [header[8], header[9], header[10], header[11]],
            kind: BlockKind::from_code(header[12]),
            payload_len: u32_at(header, 16),
            payload_crc: u32_at(header, 36),
            first_record: u64_at(header, 24),
            records: u32_at(header, 20),
            events: u32_at(header, 32),
            first_time: u64_at(header, 40),
            last_time: u64_at(header, 48),
        };
        (this.len() <= limit::BLOCK).then_some(this)
    }

    /// Whether `payload` is the one that was written.
    pub(crate) fn is_intact(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_len as usize && crc32c::crc32c(payload) == self.payload_crc
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}
