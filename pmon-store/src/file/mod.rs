//! Writes a capture to a regular file or a stream.

mod claim;
mod names;
mod regular;
mod stream;
mod sync;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pmon_core::capture::{EncodeError, Encoder, Header, MAX_BLOCK, Record};
use pmon_record::{Sink, SinkError, startup};
use thiserror::Error;

use crate::disk::{Disk, Filesystem, RealDisk};
use names::{NameOperations, RealNames};
pub(crate) use names::{PARTIAL, partial, sync_supported};
use regular::RegularFile;
pub(crate) use stream::open_special;
use stream::{SpecialFile, StreamOutput};

/// The destination of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureTarget {
    /// A path given by the user: a regular file, or an existing FIFO or device.
    File(PathBuf),
    /// A new regular file. An existing file is not replaced.
    NewFile(PathBuf),
    /// Standard output.
    Stdout,
}

/// How a capture is laid out in a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureFileOptions {
    /// Minimum bytes between the sealed blocks and a journal. A block that does not fit is written
    /// twice.
    pub hole: u64,
    /// Whether the newest records are written to a journal within 100 ms. Without a journal, they
    /// are in memory until their block is full.
    pub journal: bool,
}

impl Default for CaptureFileOptions {
    /// A journal, and a hole into which the largest block and an index fit.
    fn default() -> Self {
        Self { hole: MAX_BLOCK as u64 + (1 << 20), journal: true }
    }
}

/// What a regular file is written with.
struct FileParts {
    disk: Arc<dyn Disk>,
    options: CaptureFileOptions,
}

/// Time between attempts to open a FIFO.
const OPEN_RETRY: Duration = Duration::from_millis(20);

impl CaptureTarget {
    /// Waits until a FIFO has a reader, so that no event has to wait for one.
    ///
    /// The result keeps the FIFO open until the capture is created. `wait` sleeps for about the
    /// given time, and returns whether to continue.
    ///
    /// # Errors
    /// [`CaptureFileError::NoReader`] if `wait` returns false, or when the FIFO cannot be opened.
    pub fn wait_for_reader(
        &self,
        mut wait: impl FnMut(Duration) -> bool,
    ) -> Result<Option<File>, CaptureFileError> {
        let Self::File(path) = self else { return Ok(None) };
        if SpecialFile::of(path) != Some(SpecialFile::Fifo) {
            return Ok(None);
        }
        loop {
            match stream::open(path, SpecialFile::Fifo, false) {
                Err(CaptureFileError::NoReader { .. }) if wait(OPEN_RETRY) => {}
                opened => return opened.map(Some),
            }
        }
    }
}

/// Why a capture cannot be created.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaptureFileError {
    /// The file exists.
    #[error("{} exists: choose another name, or replace it with --force", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// An unfinished capture of that name exists.
    #[error(
        "{} exists: it is the capture of a recorder that ended early, and can be read; rename it, choose another name, \
         or replace it with --force", .path.display()
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
    /// A block device, which a capture would overwrite.
    #[error("{} is a block device: name a file; or overwrite what is on the device with --force", .path.display())]
    BlockDevice {
        /// The device.
        path: PathBuf,
    },
    /// A FIFO that no process has opened for reading.
    #[error("no process reads the FIFO {}: nothing was recorded; start its reader first", .path.display())]
    NoReader {
        /// The FIFO.
        path: PathBuf,
    },
    /// The target cannot be created or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// The step that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The header does not fit the format.
    #[error("cannot encode the capture's header: {0}")]
    Encode(#[from] EncodeError),
}

/// A capture that is being written.
///
/// A regular file can be read after a crash at any moment; see `docs/capture-format.md`.
pub struct CaptureFile {
    encoder: Encoder,
    output: CaptureOutput,
}

enum CaptureOutput {
    Regular(Box<RegularFile>),
    /// A stream, and its name if it has one.
    Stream(StreamOutput, Option<PathBuf>),
}

impl CaptureFile {
    /// Begins a capture.
    ///
    /// A regular file is written as `NAME.partial`, mode 0600, until it is finished. It is refused
    /// if `NAME` or `NAME.partial` exists, unless `force` is set. A FIFO must have a reader; see
    /// [`CaptureTarget::wait_for_reader`].
    ///
    /// # Errors
    /// When the target is refused, or cannot be written.
    pub fn create(target: &CaptureTarget, header: &Header, force: bool) -> Result<Self, CaptureFileError> {
        let parts =
            |file| FileParts { disk: Arc::new(RealDisk(file)), options: CaptureFileOptions::default() };
        Self::create_on(target, header, force, parts, Box::new(RealNames))
    }

    /// Begins a capture in a file of `filesystem`, which is written as `NAME.partial` until it is
    /// finished.
    ///
    /// Neither `NAME` nor `NAME.partial` may exist. The file and its name become durable with the
    /// first sync, about a second after `now`.
    ///
    /// # Errors
    /// [`CaptureFileError::Exists`] or [`CaptureFileError::Unfinished`] if a name is taken,
    /// [`CaptureFileError::Io`] if the file cannot be written.
    pub fn create_in(
        filesystem: Arc<dyn Filesystem>,
        name: &str,
        header: &Header,
        options: CaptureFileOptions,
        now: Instant,
    ) -> Result<Self, CaptureFileError> {
        let encoder = Encoder::new(header)?;
        let regular = RegularFile::create_in(filesystem, name, &encoder, options, now)?;
        Ok(Self { encoder, output: CaptureOutput::Regular(Box::new(regular)) })
    }

    /// Begins a capture; `parts` wraps the created regular file.
    fn create_on(
        target: &CaptureTarget,
        header: &Header,
        force: bool,
        parts: impl FnOnce(File) -> FileParts,
        operations: Box<dyn NameOperations>,
    ) -> Result<Self, CaptureFileError> {
        let (encoder, now) = (Encoder::new(header)?, Instant::now());
        let output = match target {
            CaptureTarget::Stdout => {
                let path = Path::new("standard output");
                let failed = |source| CaptureFileError::Io { action: "write to", path: path.into(), source };
                if startup::is_stdout_closed() {
                    return Err(failed(io::Error::from_raw_os_error(libc::EBADF)));
                }
                let file = io::stdout().as_fd().try_clone_to_owned();
                CaptureOutput::Stream(StreamOutput::new(file.map_err(failed)?.into(), path, &encoder)?, None)
            }
            CaptureTarget::File(path) => match SpecialFile::of(path) {
                Some(kind) => {
                    let file = stream::open(path, kind, force)?;
                    CaptureOutput::Stream(StreamOutput::new(file, path, &encoder)?, Some(path.clone()))
                }
                None => CaptureOutput::Regular(Box::new(RegularFile::create(
                    path, &encoder, force, parts, operations, now,
                )?)),
            },
            CaptureTarget::NewFile(path) => CaptureOutput::Regular(Box::new(RegularFile::create(
                path, &encoder, false, parts, operations, now,
            )?)),
        };
        Ok(Self { encoder, output })
    }

    /// Returns the final name of the capture; `None` for standard output.
    pub fn path(&self) -> Option<&Path> {
        match &self.output {
            CaptureOutput::Regular(regular) => Some(regular.names.path()),
            CaptureOutput::Stream(_, path) => path.as_deref(),
        }
    }

    /// Returns the current name of the capture; `None` for a stream.
    pub fn current_path(&self) -> Option<&Path> {
        match &self.output {
            CaptureOutput::Regular(regular) => Some(regular.names.current()),
            CaptureOutput::Stream(..) => None,
        }
    }

    /// Removes the capture. Data that was written to a stream cannot be removed.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn discard(&mut self) -> io::Result<()> {
        match &mut self.output {
            CaptureOutput::Regular(regular) => regular.names.discard(),
            CaptureOutput::Stream(..) => Ok(()),
        }
    }

    /// Returns the number of bytes of the capture so far, without holes. At its end, this is its
    /// size.
    pub fn bytes(&self) -> u64 {
        match &self.output {
            CaptureOutput::Regular(regular) => regular.bytes(),
            CaptureOutput::Stream(stream, _) => stream.bytes,
        }
    }

    /// Returns whether a reader of the file finds every record so far.
    #[inline]
    pub(crate) fn holds_all(&self) -> bool {
        let holds_blocks = || match &self.output {
            CaptureOutput::Regular(regular) => regular.holds_all,
            CaptureOutput::Stream(..) => true,
        };
        self.encoder.pending() == 0 && holds_blocks()
    }

    /// Returns the maximum size in bytes that this process may give the file; `None` if there is no
    /// limit.
    pub(crate) fn size_limit(&self) -> Option<u64> {
        match &self.output {
            CaptureOutput::Regular(regular) => regular.size_limit(),
            CaptureOutput::Stream(..) => None,
        }
    }

    /// Writes all records so far into a sealed block.
    ///
    /// # Errors
    /// As [`Sink::record`].
    pub(crate) fn seal(&mut self) -> Result<(), SinkError> {
        match &mut self.output {
            CaptureOutput::Regular(regular) => regular.seal(&mut self.encoder),
            CaptureOutput::Stream(stream, _) => stream.seal(&mut self.encoder),
        }
    }
}

impl Sink for CaptureFile {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.encoder.push(record)?;
        if let CaptureOutput::Regular(regular) = &mut self.output {
            regular.note_record();
        }
        if self.encoder.is_full() {
            match &mut self.output {
                CaptureOutput::Regular(regular) => regular.seal(&mut self.encoder)?,
                CaptureOutput::Stream(stream, _) => stream.seal(&mut self.encoder)?,
            }
        }
        Ok(())
    }

    fn received_at(&mut self, time: Instant) {
        if let CaptureOutput::Regular(regular) = &mut self.output {
            regular.received_at(time);
        }
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        match &mut self.output {
            CaptureOutput::Regular(regular) => regular.tick(&mut self.encoder, now),
            CaptureOutput::Stream(stream, _) => stream.tick(&mut self.encoder, now),
        }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        match &mut self.output {
            CaptureOutput::Regular(regular) => regular.finish(&mut self.encoder),
            CaptureOutput::Stream(stream, _) => stream.finish(&mut self.encoder),
        }
    }
}

#[cfg(test)]
mod tests;
