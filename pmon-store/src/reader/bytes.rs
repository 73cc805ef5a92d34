//! The bytes of a capture.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Stdin};

use pmon_core::capture::{OpenError, Reader};

use crate::StoredFile;

/// The bytes of a capture that is read.
pub enum CaptureBytes {
    /// A file or a device that was opened by its path.
    File(File),
    /// A file of a store.
    Stored(Box<dyn StoredFile>),
    /// Standard input, which can be read once.
    Stdin(Stdin),
}

impl CaptureBytes {
    /// Opens the capture, and skips its holes when it is read.
    ///
    /// # Errors
    /// Those of [`Reader::open`].
    pub fn into_reader(self) -> Result<Reader<Self>, OpenError> {
        Reader::open_sparse(self, |bytes| match bytes {
            // A pipe has no holes and no position.
            Self::File(file) => file.stream_position().map_or(Ok(0), |_| file.skip_hole()),
            Self::Stored(file) => file.skip_hole(),
            Self::Stdin(_) => Ok(0),
        })
    }
}

impl Read for CaptureBytes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(into),
            Self::Stored(file) => file.read(into),
            Self::Stdin(stdin) => stdin.read(into),
        }
    }
}

impl Seek for CaptureBytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Stored(file) => file.seek(to),
            Self::Stdin(_) => Err(ErrorKind::NotSeekable.into()),
        }
    }
}
