//! A capture into a pipe, a terminal or a device: blocks one after the other, nothing kept, nothing moved.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pmon_core::capture::Encoder;

use super::StoreError;
use crate::sink::SinkError;

/// Records wait no longer for their block than this and one tick.
const FLUSH: Duration = Duration::from_millis(40);

/// Opens what `path` names; waits for a FIFO's reader.
pub(super) fn open(path: &Path) -> Result<File, StoreError> {
    let opened = OpenOptions::new().write(true).open(path);
    opened.map_err(|source| StoreError::Io { action: "open", path: path.into(), source })
}

pub(super) struct Stream {
    file: File,
    path: PathBuf,
    bytes: u64,
    fresh_since: Option<Instant>,
}

impl Stream {
    /// Begins the capture in what `path` names.
    pub(super) fn open(path: &Path, encoder: &Encoder) -> Result<Self, StoreError> {
        Self::new(open(path)?, path, encoder)
    }

    /// Begins the capture.
    pub(super) fn new(mut file: File, path: &Path, encoder: &Encoder) -> Result<Self, StoreError> {
        let header = encoder.header();
        file.write_all(header).map_err(|source| StoreError::Io {
            action: "write to",
            path: path.into(),
            source,
        })?;
        Ok(Self { file, path: path.into(), bytes: header.len() as u64, fresh_since: None })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Does what is due, and says when the next thing will be.
    pub(super) fn tick(&mut self, encoder: &mut Encoder, now: Instant) -> Result<Option<Instant>, SinkError> {
        if encoder.unsealed() == 0 {
            return Ok(None);
        }
        let flush_at = *self.fresh_since.get_or_insert(now) + FLUSH;
        if now >= flush_at {
            self.seal(encoder)?;
        }
        Ok((now < flush_at).then_some(flush_at))
    }

    pub(super) fn seal(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        self.fresh_since = None;
        self.write(encoder.seal())
    }

    pub(super) fn finish(&mut self, encoder: &mut Encoder) -> Result<(), SinkError> {
        self.seal(encoder)?;
        self.write(encoder.finish())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let written = self.file.write_all(bytes);
        written
            .map_err(|error| SinkError::from_io("write to", self.path.display().to_string(), None, error))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}
