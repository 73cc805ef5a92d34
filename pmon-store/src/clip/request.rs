//! Requests for clips, and their results.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use pmon_analysis::Verdict;
use pmon_core::MonoNs;
use thiserror::Error;

/// Maximum length of a clip's name in bytes.
const MAX_NAME: usize = 64;
/// Time before the requested moment that a clip contains, unless its request states another one.
pub const DEFAULT_BEFORE: Duration = Duration::from_secs(30);
/// Time after the requested moment that a clip contains, unless its request states another one.
pub const DEFAULT_AFTER: Duration = Duration::from_secs(10);
/// Maximum time from the requested moment to the end of its clip.
pub const MAX_AFTER: Duration = Duration::from_secs(3600);

/// The name that a request gives to its clip: 1 to 64 of the characters `A-Z a-z 0-9 . _ -`, of
/// which the first is a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClipName(String);

impl ClipName {
    /// Checks a name.
    ///
    /// # Errors
    /// Returns what is wrong with the name.
    pub fn new(name: &str) -> Result<Self, String> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if name.len() > MAX_NAME {
            Err(format!("the name has {} bytes; at most {MAX_NAME} are allowed", name.len()))
        } else if begins_well && name.chars().all(is_allowed) {
            Ok(Self(name.into()))
        } else {
            Err(format!(
                "{name:?} is no name for a clip; use letters, digits, `.`, `_` and `-`, and begin with a \
                 letter or a digit"
            ))
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClipName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request for the events around a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipRequest {
    /// Name of the clip, which becomes a part of the file's name.
    pub name: ClipName,
    /// The moment, on the monotonic clock.
    pub at: MonoNs,
    /// Length of the clip before the moment.
    pub before: Duration,
    /// Length of the clip after the moment.
    pub after: Duration,
}

impl ClipRequest {
    /// Returns the first time of the clip.
    pub fn from(&self) -> MonoNs {
        MonoNs(self.at.0.saturating_sub(nanos(self.before)))
    }

    /// Returns the last time of the clip.
    pub fn until(&self) -> MonoNs {
        MonoNs(self.at.0.saturating_add(nanos(self.after)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A finished clip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    /// Path of the file.
    pub path: PathBuf,
    /// Distinct names of its requests, at most four.
    pub names: Vec<ClipName>,
    /// First time of the clip.
    pub from: MonoNs,
    /// Last time of the clip.
    pub until: MonoNs,
    /// Number of events, including self-generated ones.
    pub events: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// How complete the clip is.
    pub verdict: Verdict,
    /// What the clip lacks, for people; empty if it is complete.
    pub missing: String,
}

/// Why there is no clip.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClipError {
    /// Too many clips are pending.
    #[error("{pending} clips are pending already: wait for one of them")]
    Busy {
        /// Number of pending clips.
        pending: usize,
        /// The request that was refused.
        request: Box<ClipRequest>,
    },
    /// The limits of the store leave no room.
    #[error("no room for a clip of {bytes} bytes: {reason}; remove older clips, or raise the limit")]
    NoRoom {
        /// Size of the clip in bytes.
        bytes: u64,
        /// The limit that is reached.
        reason: String,
    },
    /// The sources cannot be read, or the clip cannot be written.
    #[error("cannot write the clip {path}: {why}")]
    Failed {
        /// Path of the clip.
        path: String,
        /// The reason.
        why: String,
    },
    /// The recorder is ending, or the service has ended.
    #[error("the recorder ended before the clip was complete")]
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_directory_or_hide_the_file() {
        for name in ["crash", "nginx-crash", "a.b_c-9", &"x".repeat(64)] {
            assert_eq!(ClipName::new(name).unwrap().as_str(), name);
        }
        for name in ["", ".hidden", "-x", "a/b", "..", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(ClipName::new(name).is_err(), "{name:?}");
        }
    }
}
