//! Writes the blocks of an excerpt.

use std::io::Write;

use pmon_core::capture::{EncodedBlock, Encoder, Header, Note, Record};

use super::CutError;

/// The excerpt so far.
pub(super) struct Output<'a> {
    encoder: Encoder,
    out: &'a mut dyn Write,
    /// Bytes written so far.
    pub(super) bytes: u64,
    /// Number of blocks that were copied.
    pub(super) copied: u64,
    /// Number of blocks that were encoded.
    pub(super) encoded: u64,
}

impl<'a> Output<'a> {
    /// Begins an excerpt with this header.
    pub(super) fn begin(header: &Header, out: &'a mut dyn Write) -> Result<Self, CutError> {
        let encoder = Encoder::new(header)?;
        let mut this = Self { encoder, out, bytes: 0, copied: 0, encoded: 0 };
        let header = this.encoder.header().to_vec();
        this.write(&header)?;
        Ok(this)
    }

    /// Appends a record.
    pub(super) fn record(&mut self, record: &Record<'_>) -> Result<(), CutError> {
        self.encoder.push(record)?;
        if self.encoder.is_full() { self.seal() } else { Ok(()) }
    }

    /// Appends a copy of a block, with other notes if these are given.
    pub(super) fn block(&mut self, block: &EncodedBlock<'_>, notes: Option<&[Note]>) -> Result<(), CutError> {
        self.seal()?;
        self.encoder.push_block(block, notes);
        self.copied += 1;
        let bytes = self.encoder.seal();
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(CutError::Write)
    }

    /// Completes the excerpt after its last record.
    pub(super) fn finish(&mut self) -> Result<(), CutError> {
        self.seal()?;
        let bytes = self.encoder.finish();
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(CutError::Write)
    }

    fn seal(&mut self) -> Result<(), CutError> {
        if self.encoder.unsealed() == 0 {
            return Ok(());
        }
        self.encoded += 1;
        let bytes = self.encoder.seal();
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(CutError::Write)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CutError> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(CutError::Write)
    }
}
