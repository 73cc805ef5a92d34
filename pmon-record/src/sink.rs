//! The destination of records.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pmon_core::capture::{ClockAnchor, EncodeError, End, Positions, Record, SegmentReason};
use rustix::process::{Resource, getrlimit};
use thiserror::Error;

/// A destination of records, called by the writer thread.
pub trait Sink: Send {
    /// Accepts the next record. Records arrive in order, and [`Record::End`] is the last one.
    ///
    /// # Errors
    /// When the record cannot be accepted. The recording then ends without a call of
    /// [`Sink::finish`].
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError>;

    /// Announces that the next records were received from the source at `_time` or later.
    fn received_at(&mut self, _time: Instant) {}

    /// Performs timed work, and returns the time at which the next call is needed, if any.
    ///
    /// This is called within 50 ms after a record, at the returned time or a little later, and
    /// about once a second in any case.
    ///
    /// # Errors
    /// As [`Sink::record`].
    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError>;

    /// Completes the output after the last record.
    ///
    /// # Errors
    /// As [`Sink::record`].
    fn finish(&mut self) -> Result<(), SinkError>;

    /// Whether the recording consists of segments. The last record before the end is then
    /// [`Record::Positions`].
    fn has_segments(&self) -> bool {
        false
    }

    /// Returns why the next segment should begin, if the current one should end.
    ///
    /// The writer thread calls this after each tick, except while it is dividing the recording or
    /// the previous segment awaits details. If a segment is due, the thread makes every CPU emit an
    /// event, and calls [`Sink::begin_segment`] once all of them have been recorded, or after about
    /// a second.
    fn segment_due(&mut self) -> Option<SegmentReason> {
        None
    }

    /// Divides the recording here. Later records belong to the next segment, except those of
    /// [`Sink::record_late`].
    ///
    /// The last record before is [`Record::Positions`]. The first ones after are
    /// [`Record::Scope`], if only a part of the events is recorded, and [`Record::Fence`].
    ///
    /// # Errors
    /// As [`Sink::record`].
    fn begin_segment(&mut self, _division: &Division) -> Result<(), SinkError> {
        Ok(())
    }

    /// Accepts the details of an exec of the previous segment.
    ///
    /// # Errors
    /// As [`Sink::record`].
    fn record_late(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.record(record)
    }

    /// Completes the previous segment, to which `end` is the last record: at once after
    /// [`Sink::begin_segment`] if no details are awaited, else at most about 2 s later, and before
    /// the next division.
    ///
    /// # Errors
    /// As [`Sink::record`].
    fn end_segment(&mut self, _end: &End) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The division between two segments of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// Why the next segment begins.
    pub reason: SegmentReason,
    /// The clocks at the division.
    pub clock: ClockAnchor,
    /// The last record of the ending segment before late details and its end. The next segment
    /// continues from these positions.
    pub positions: Positions,
}

/// What became of the records that a sink received before it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptRecords {
    /// They were passed on, for example to a pipe.
    PassedOn,
    /// They are in this file.
    In(PathBuf),
    /// No record was written.
    None,
}

impl fmt::Display for KeptRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassedOn => f.write_str("the records so far are kept"),
            Self::In(path) => write!(f, "the records so far are kept in {}", path.display()),
            Self::None => f.write_str("no record was kept"),
        }
    }
}

/// Why a sink accepts no more records.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The target is full or has reached a size limit.
    #[error(
        "{} {path}: {kept}; {}", bound(.source),
        remedy(.source)
    )]
    Full {
        /// The target, as given by the user.
        path: String,
        /// What became of the records so far.
        kept: KeptRecords,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The reader closed the stream.
    #[error("the reader of {path} closed it before the end of the capture: the rest of the capture is lost")]
    Closed {
        /// The target, as given by the user.
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Another process created the target during the recording.
    #[error(
        "{path} was created while recording: the capture is complete and kept as {}; rename it", .partial.display()
    )]
    Exists {
        /// The target, as given by the user.
        path: String,
        /// The file with the capture.
        partial: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A sync of the target failed, so the disk may lack what was written since the last successful
    /// one.
    #[error(
        "cannot sync {}: {source}; the records of the last {:.1} s may be lost, older ones are kept there; check the \
         system log for a failing device or network filesystem", .partial.display(), .unsafe_for.as_secs_f64()
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
        "cannot {action} {path}: {source}; {kept}; {}", remedy(.source)
    )]
    Io {
        /// The step that failed.
        action: &'static str,
        /// The target, as given by the user.
        path: String,
        /// What became of the records so far.
        kept: KeptRecords,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A record does not fit the format.
    #[error("cannot encode a record: {0}")]
    Encode(#[from] EncodeError),
    /// A failure that is specific to the sink.
    #[error("{0}")]
    Other(String),
}

impl SinkError {
    /// Returns the error of an `action` on `path` that failed with `source`.
    pub fn from_io(action: &'static str, path: String, kept: KeptRecords, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Self::Full { path, kept, source },
            Some(libc::EPIPE | libc::ECONNRESET) => Self::Closed { path, source },
            _ => Self::Io { action, path, kept, source },
        }
    }

    /// Whether a reader closed the stream, which is the usual end of a program that writes to a
    /// pipe.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }
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
    match error.kind() {
        ErrorKind::FileTooLarge => "raise the limit, or record to another filesystem",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space, or record to another filesystem",
        _ => "check the system log for a failing device or network filesystem",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_suggests_what_helps_against_its_cause() {
        let text = |source: io::Error| {
            SinkError::from_io("write to", "x".into(), KeptRecords::PassedOn, source).to_string()
        };
        let of = |errno| text(io::Error::from_raw_os_error(errno));
        let limit = io::Error::new(ErrorKind::StorageFull, "the limit is reached");
        assert!(text(limit).ends_with("cannot write to x: the limit is reached; the records so far are kept; free space, or record to another filesystem"));
        for (error, remedy) in [
            (of(libc::ENOSPC), "free space"),
            (of(libc::EDQUOT), "free space"),
            (of(libc::EFBIG), "raise the limit"),
            (of(libc::EIO), "check the system log"),
        ] {
            assert!(error.contains(remedy), "{error}");
        }
    }
}
