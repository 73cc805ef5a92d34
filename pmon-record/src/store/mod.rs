//! The sink that is a capture: a regular file, or a stream.

mod claim;
mod regular;
mod stream;
mod sync;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pmon_core::capture::{EncodeError, Encoder, Header, Record};
use thiserror::Error;

use crate::sink::{Sink, SinkError};
use regular::Regular;
use stream::Stream;

/// Where a capture goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file by its name; also a FIFO or a device, if one has that name.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl Target {
    /// Waits until a FIFO has a reader, as `open(2)` does, before anything is recorded that would have to wait. What it
    /// gives keeps the FIFO open until the capture is created.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn wait_for_reader(&self) -> Result<Option<File>, StoreError> {
        match self {
            Self::File(path) if fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo()) => {
                stream::open(path).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// Why a capture cannot be begun.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file is there already.
    #[error("{} exists: choose another name, or replace it with --force", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// An unfinished capture of that name is there already.
    #[error(
        "{} exists: a recorder ended early, and this is what it had recorded (it can be read as it is); rename it, \
         choose another name, or replace it with --force", .path.display()
    )]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// Another recorder is writing a capture of that name.
    #[error("{} is being written by another recorder: choose another name", .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be created or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The header does not fit the format.
    #[error("cannot encode the capture's header: {0}")]
    Encode(#[from] EncodeError),
}

/// A capture that is being written. Regular files are safe at any moment: see `docs/capture-format.md`.
pub struct CaptureFile {
    encoder: Encoder,
    output: Output,
    path: Option<PathBuf>,
}

enum Output {
    Regular(Regular),
    Stream(Stream),
}

impl CaptureFile {
    /// Begins a capture. A regular file is written as `NAME.partial`, mode 0600, until it is finished; it is refused
    /// if `NAME` or `NAME.partial` exists, unless `force` says to replace them.
    ///
    /// # Errors
    /// When the target is refused, or cannot be written.
    pub fn create(target: &Target, header: &Header, force: bool) -> Result<Self, StoreError> {
        let encoder = Encoder::new(header)?;
        let (output, path) = match target {
            Target::Stdout => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                let path = PathBuf::from("standard output");
                let stdout =
                    stdout.map_err(|source| StoreError::Io { action: "open", path: path.clone(), source })?;
                (Output::Stream(Stream::new(stdout.into(), &path, &encoder)?), None)
            }
            Target::File(path) => {
                let is_stream = fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir());
                let output = if is_stream {
                    Output::Stream(Stream::open(path, &encoder)?)
                } else {
                    Output::Regular(Regular::create(path, &encoder, force)?)
                };
                (output, Some(path.clone()))
            }
        };
        Ok(Self { encoder, output, path })
    }

    /// The name that the capture has in the end; `None` for standard output.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The name that it has now; `None` for a stream, which keeps nothing.
    pub fn current_path(&self) -> Option<&Path> {
        match &self.output {
            Output::Regular(regular) => Some(regular.current_path()),
            Output::Stream(_) => None,
        }
    }

    /// Removes the capture, of which nothing is wanted. What a stream has passed on is out of reach.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn discard(&mut self) -> io::Result<()> {
        match &mut self.output {
            Output::Regular(regular) => regular.discard(),
            Output::Stream(_) => Ok(()),
        }
    }

    /// Bytes of the capture until now, without holes; at its end, its size.
    pub fn bytes(&self) -> u64 {
        match &self.output {
            Output::Regular(regular) => regular.bytes(),
            Output::Stream(stream) => stream.bytes(),
        }
    }
}

impl Sink for CaptureFile {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.encoder.push(record)?;
        if let Output::Regular(regular) = &mut self.output {
            regular.recorded();
        }
        if self.encoder.is_full() {
            match &mut self.output {
                Output::Regular(regular) => regular.seal(&mut self.encoder)?,
                Output::Stream(stream) => stream.seal(&mut self.encoder)?,
            }
        }
        Ok(())
    }

    fn taken_at(&mut self, time: Instant) {
        if let Output::Regular(regular) = &mut self.output {
            regular.taken_at(time);
        }
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        match &mut self.output {
            Output::Regular(regular) => regular.tick(&mut self.encoder, now),
            Output::Stream(stream) => stream.tick(&mut self.encoder, now),
        }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        match &mut self.output {
            Output::Regular(regular) => regular.finish(&mut self.encoder),
            Output::Stream(stream) => stream.finish(&mut self.encoder),
        }
    }
}

#[cfg(test)]
mod tests;
