//! Where records go.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pmon_core::capture::{EncodeError, Record};
use rustix::process::{Resource, getrlimit};
use thiserror::Error;

/// Takes the records of a recording, on the writer thread.
pub trait Sink: Send {
    /// Takes the next record. They arrive in order; [`Record::End`] is the last.
    ///
    /// # Errors
    /// When it cannot be taken. The recording then ends; [`Sink::finish`] is not called.
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError>;

    /// The records that come next were taken from the source at that time, at the earliest.
    fn received_at(&mut self, _time: Instant) {}

    /// Time has passed: this is called within 50 ms after a record, and at the time that the last call gave, or a little
    /// later; `None` gives no time. In any case it is called about once a second.
    ///
    /// # Errors
    /// As [`Sink::record`].
    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError>;

    /// Everything has been recorded.
    ///
    /// # Errors
    /// As [`Sink::record`].
    fn finish(&mut self) -> Result<(), SinkError>;
}

/// Why a sink takes no more.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The target is full or has reached a size limit.
    #[error(
        "{} {path}: what was recorded until now is kept{}; {}", bound(.source), kept_in(.partial.as_deref()),
        remedy(.source)
    )]
    Full {
        /// The target, as the user named it.
        path: String,
        /// Where the records until now are; `None` if they were passed on.
        partial: Option<PathBuf>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The reader of the stream has closed it.
    #[error("the reader of {path} has closed it before the capture's end: the rest of the capture is lost")]
    Closed {
        /// The target, as the user named it.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The target exists by now.
    #[error(
        "{path} was created while recording: the capture is complete and kept as {}; rename it", .partial.display()
    )]
    Exists {
        /// The target, as the user named it.
        path: String,
        /// Where the capture is.
        partial: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A sync of the target failed, so the disk may lack what was written since the last successful
    /// one.
    #[error(
        "cannot sync {}: {source}; what was recorded in the last {:.1} s may be lost, what is older is kept there; look at \
         the system log for a failing device or network filesystem", .partial.display(), .unsafe_for.as_secs_f64()
    )]
    Unsynced {
        /// The file with the records.
        partial: PathBuf,
        /// Time since the last successful sync began.
        unsafe_for: Duration,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file was removed or replaced by another one.
    #[error("{} was removed or replaced while recording: the capture is lost, or has another name", .partial.display())]
    Replaced {
        /// The file's former name.
        partial: PathBuf,
    },
    /// The capture is complete but could not get its final name.
    #[error("cannot {action} {path}: {source}; the capture is complete, and is kept as {}", .current.display())]
    Unnamed {
        /// The step that failed.
        action: &'static str,
        /// The target, as given by the user.
        path: String,
        /// The current name of the capture.
        current: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Any other failure of the target.
    #[error(
        "cannot {action} {path}: {source}; what was recorded until now is kept{}; look at the system log for a failing \
         device or network filesystem", kept_in(.partial.as_deref())
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// The target, as the user named it.
        path: String,
        /// The file with the records so far; `None` if they were passed on.
        partial: Option<PathBuf>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A record does not fit the format.
    #[error("cannot encode a record: {0}")]
    Encode(#[from] EncodeError),
    /// A sink's own reason.
    #[error("{0}")]
    Other(String),
}

impl SinkError {
    /// What it means that `action` on `path` failed with `source`; `partial` is where the records until now are.
    pub fn from_io(action: &'static str, path: String, partial: Option<PathBuf>, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Self::Full { path, partial, source },
            Some(libc::EPIPE | libc::ECONNRESET) => Self::Closed { path, source },
            _ => Self::Io { action, path, partial, source },
        }
    }

    /// Whether a reader closed the other end: for a program that writes to a pipe the usual end.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}

fn kept_in(partial: Option<&Path>) -> String {
    partial.map(|path| format!(" in {}", path.display())).unwrap_or_default()
}

/// Describes the limit that a target has reached, to be followed by its name.
fn bound(error: &io::Error) -> String {
    match (error.raw_os_error(), getrlimit(Resource::Fsize).current) {
        (Some(libc::EFBIG), Some(limit)) => {
            format!("the limit on file sizes (ulimit -f), {limit} bytes, is reached by")
        }
        (Some(libc::EFBIG), None) => "the filesystem's largest file size is reached by".into(),
        (Some(libc::EDQUOT), _) => "the disk quota is used up by".into(),
        _ => "no space left for".into(),
    }
}

/// Suggests what a user can do.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EFBIG) => "raise the limit, or record to another filesystem",
        _ => "free space, or record to another filesystem",
    }
}
