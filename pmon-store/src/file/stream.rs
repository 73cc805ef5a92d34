//! Writes a capture to a pipe, a terminal or a device, block after block.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pmon_core::capture::Encoder;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use pmon_record::{KeptRecords, SinkError};

use super::CaptureFileError;
use crate::disk::supported_file_sync;

/// Maximum time that a record waits for its block, less one tick.
const FLUSH_DELAY: Duration = Duration::from_millis(40);

/// The kind of an existing capture target that is not a regular file. Links are followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SpecialFile {
    Fifo,
    Device,
    BlockDevice,
    Socket,
}

impl SpecialFile {
    /// Returns the kind of the file at `path`; `None` if there is none, or it is a regular file or
    /// a directory.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Self::new(std::fs::metadata(path).ok()?.file_type())
    }

    fn new(kind: std::fs::FileType) -> Option<Self> {
        let kinds = [
            (kind.is_fifo(), Self::Fifo),
            (kind.is_char_device(), Self::Device),
            (kind.is_block_device(), Self::BlockDevice),
            (kind.is_socket(), Self::Socket),
        ];
        kinds.into_iter().find_map(|(is, kind)| is.then_some(kind))
    }
}

/// Opens an existing FIFO or device for writing. Returns `None` if there is none at `path`.
///
/// # Errors
/// When it is refused: a FIFO without a reader, a block device without `force`, or a socket.
pub(crate) fn open_special(path: &Path, force: bool) -> Result<Option<File>, CaptureFileError> {
    SpecialFile::of(path).map(|kind| open(path, kind, force)).transpose()
}

/// Opens `path`, which was of this kind a moment ago, without waiting.
///
/// # Errors
/// [`CaptureFileError::NoReader`] if it is a FIFO that no process reads.
pub(super) fn open(path: &Path, kind: SpecialFile, force: bool) -> Result<File, CaptureFileError> {
    let failed = |source| CaptureFileError::Io { action: "open", path: path.into(), source };
    match kind {
        SpecialFile::Socket => return Err(failed(io::Error::other("it is a socket"))),
        SpecialFile::BlockDevice if !force => {
            return Err(CaptureFileError::BlockDevice { path: path.into() });
        }
        SpecialFile::BlockDevice | SpecialFile::Fifo | SpecialFile::Device => {}
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Err(error) if kind == SpecialFile::Fifo && error.raw_os_error() == Some(libc::ENXIO) => {
            return Err(CaptureFileError::NoReader { path: path.into() });
        }
        opened => opened.map_err(failed)?,
    };
    if SpecialFile::new(file.metadata().map_err(failed)?.file_type()) != Some(kind) {
        return Err(failed(io::Error::other("another file has replaced it")));
    }
    let flags = fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags - OFlags::NONBLOCK));
    flags.map_err(|errno| failed(errno.into()))?;
    Ok(file)
}

/// A capture in a stream.
pub(super) struct StreamOutput {
    file: File,
    path: PathBuf,
    /// Bytes written so far.
    pub(super) bytes: u64,
    /// Time of the first tick with records that are in no block.
    fresh_since: Option<Instant>,
}

impl StreamOutput {
    /// Begins the capture.
    pub(super) fn new(file: File, path: &Path, encoder: &Encoder) -> Result<Self, CaptureFileError> {
        let failed = |source| CaptureFileError::Io { action: "write to", path: path.into(), source };
        let mut this = Self { file, path: path.into(), bytes: 0, fresh_since: None };
        this.write_all(encoder.header()).map_err(failed)?;
        Ok(this)
    }

    /// Writes a block if it is due. Returns the time of the next one.
    pub(super) fn tick(&mut self, encoder: &mut Encoder, now: Instant) -> Result<Option<Instant>, SinkError> {
        if encoder.unsealed() == 0 {
            return Ok(None);
        }
        let flush_at = *self.fresh_since.get_or_insert(now) + FLUSH_DELAY;
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
        self.write(encoder.finish())?;
        // Standard output may be a file. A network filesystem or a block device accepts bytes that
        // it then cannot keep.
        let is_stored = self.file.metadata().is_ok_and(|meta| {
            meta.is_file() || SpecialFile::new(meta.file_type()) == Some(SpecialFile::BlockDevice)
        });
        let synced = if is_stored { supported_file_sync(self.file.sync_data()) } else { Ok(()) };
        synced.map_err(|error| self.failed("sync", error))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.write_all(bytes).map_err(|error| self.failed("write to", error))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> SinkError {
        SinkError::from_io(action, self.path.display().to_string(), KeptRecords::PassedOn, source)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(count) if count > 0 => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A parent may share a pipe that it has made nonblocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                failed => {
                    self.remove_incomplete(written as u64);
                    return Err(failed.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()));
                }
            }
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Waits until the stream accepts more bytes.
    fn wait(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None) {
            Err(rustix::io::Errno::INTR) => Ok(()),
            polled => Ok(polled.map(|_ready| ())?),
        }
    }

    /// Removes an incomplete block at the end of a stream that is a regular file.
    fn remove_incomplete(&mut self, written: u64) {
        let Ok(meta) = self.file.metadata() else { return };
        if meta.is_file() && written > 0 && self.file.stream_position().is_ok_and(|at| at == meta.len()) {
            // The original error is reported already. If this fails as well, readers skip the
            // incomplete block.
            let _ = self.file.set_len(meta.len() - written);
        }
    }
}
