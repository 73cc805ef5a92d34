//! Checksums, integers, and the part of bincode that the format uses.

/// Computes `crc32c` with a table that is built bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|byte| {
            (0..8).fold(byte, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 })
        })
        .collect();
    !bytes.iter().fold(!0, |crc, &byte| (crc >> 8) ^ table[((crc ^ u32::from(byte)) & 0xff) as usize])
}

/// Returns the little-endian integer of `size` bytes at `at`.
pub(crate) fn int(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Computes `apply64(code, from)`.
pub(crate) fn apply(code: u64, from: u64) -> u64 {
    let half = code / 2;
    if code.is_multiple_of(2) { from.wrapping_add(half) } else { from.wrapping_sub(half).wrapping_sub(1) }
}

/// Computes `apply32(code, from)`.
pub(crate) fn apply32(code: u64, from: u32) -> u32 {
    apply(code, from.into()) as u32
}

/// Reads fields one after the other. Fields that are missing at the end are zero.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken.iter().copied().chain(std::iter::repeat(0)).take(len).collect()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    pub(crate) fn unsigned(&mut self) -> u64 {
        let size = match self.u8() {
            251 => 2,
            252 => 4,
            253 => 8,
            small => return small.into(),
        };
        int(&self.bytes(size), 0, size)
    }

    pub(crate) fn signed(&mut self) -> i64 {
        let value = self.unsigned();
        if value.is_multiple_of(2) { (value / 2) as i64 } else { -((value / 2) as i64) - 1 }
    }

    pub(crate) fn list(&mut self) -> Vec<u8> {
        let len = self.unsigned() as usize;
        self.bytes(len)
    }

    pub(crate) fn text(&mut self) -> String {
        String::from_utf8(self.list()).unwrap()
    }
}
