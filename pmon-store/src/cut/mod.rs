//! Excerpts of captures that stand alone.

mod accounts;
mod copy;
mod coverage;
mod described;
mod file;
mod output;
mod range;
mod report;
mod selected;
mod source;
mod start;
mod steps;

#[cfg(test)]
pub(crate) mod tests;

use std::io;

use pmon_analysis::TimeBound;
use pmon_analysis::filter::{ExitIndex, Filter};
use pmon_core::MonoNs;
use pmon_core::capture::{EncodeError, OpenError, UnobservedReason};
use thiserror::Error;

pub use file::CutFile;
pub use report::CutReport;
pub use steps::cut;

use crate::disk::StoredFile;
use crate::file::PARTIAL;
use crate::reader::SkippedSegment;

/// The captures that an excerpt is taken from, in the order of their times.
///
/// Only the captures that can hold a part of the range are opened, one at a time.
pub trait CutSource {
    /// Returns the number of captures.
    fn count(&self) -> usize;

    /// Returns the name of a capture for messages.
    fn name(&self, index: usize) -> String;

    /// Opens a capture at its start.
    ///
    /// # Errors
    /// When the capture cannot be opened.
    fn open(&self, index: usize) -> io::Result<Box<dyn StoredFile>>;
}

/// What an excerpt contains.
#[derive(Clone, Debug, Default)]
pub struct CutOptions {
    /// First time of the range; `None` is the start of the first capture.
    pub since: Option<TimeBound>,
    /// Last time of the range, which belongs to the range; `None` is the end of the last capture.
    pub until: Option<TimeBound>,
    /// The selected events; `None` selects all.
    pub selection: Option<Selection>,
    /// Random UUID of the excerpt.
    pub uuid: [u8; 16],
    /// Name and version of the program that makes the excerpt.
    pub tool: String,
    /// Present time on the monotonic clock, if the sources are being recorded; later times of the
    /// range are in the future.
    pub now: Option<MonoNs>,
    /// Why the recording has no events before the sources; `None` if their headers shall say.
    pub before: Option<UnobservedReason>,
    /// Whether the recording has captures after the sources that can hold a part of the range.
    pub lacks_end: bool,
}

/// The events of an excerpt that does not contain all events of its range.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Description of the selected events, for people.
    pub text: String,
    /// The conditions. Their times are ignored.
    pub filter: Filter,
    /// Exits of the captures, if these lack forks.
    pub exits: Option<ExitIndex>,
}

/// Why an excerpt cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CutError {
    /// A source is no capture, or of a future version.
    #[error("cannot read {name}: {source}")]
    Open {
        /// Name of the capture.
        name: String,
        /// The reason.
        #[source]
        source: OpenError,
    },
    /// A source cannot be read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// Name of the capture.
        name: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The excerpt cannot be written.
    #[error("cannot write the excerpt: {0}")]
    Write(#[source] io::Error),
    /// The range spans a reboot.
    #[error(
        "{name} was recorded after a reboot, and an excerpt has one monotonic clock: end the excerpt before \
         the reboot, or begin it after"
    )]
    Reboot {
        /// Name of the first capture after the reboot.
        name: String,
    },
    /// The range ends before the sources begin, or begins after their end.
    #[error("no part of the range is recorded")]
    NotRecorded,
    /// There is no capture.
    #[error("there is no capture to take an excerpt from")]
    NoCapture,
    /// A record does not fit the format.
    #[error("cannot encode the excerpt: {0}")]
    Encode(#[from] EncodeError),
}

impl CutError {
    /// Describes a source that is left out because of this error. `None` for a file that its
    /// recorder has only just created.
    fn left_out(&self, name: String) -> Option<SkippedSegment> {
        let (why, is_removed) = match self {
            Self::Open { source: OpenError::Empty, .. } if name.ends_with(PARTIAL) => return None,
            Self::Open { source, .. } => (source.to_string(), false),
            Self::Read { source, .. } => (source.to_string(), source.kind() == io::ErrorKind::NotFound),
            error => (error.to_string(), false),
        };
        Some(SkippedSegment { name, why, is_removed })
    }
}
