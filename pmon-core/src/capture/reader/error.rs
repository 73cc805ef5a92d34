//! Why a file cannot be read, and which parts of it are damaged.

use std::{fmt, io};

use thiserror::Error;

use crate::capture::format::MAJOR;

/// Why a file cannot be read as a capture.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file is not a capture.
    #[error("not a pmon capture")]
    NotACapture,
    /// The file is empty, or contains only zeros.
    #[error("empty: not a pmon capture, or one whose recorder was stopped before it began")]
    Empty,
    /// The file has a major version that this version does not support.
    #[error(
        "capture format {major}.{minor} is newer than this version of pmon reads ({MAJOR}.x): use a newer pmon"
    )]
    Version {
        /// Major version of the file.
        major: u16,
        /// Minor version of the file.
        minor: u16,
    },
    /// The input cannot be read.
    #[error("cannot read")]
    Io(#[from] io::Error),
}

/// A damaged part of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Offset of the part in the file, in bytes.
    pub offset: u64,
    /// Length of the part in bytes; 0 if bytes are missing.
    pub bytes: u64,
    /// Kind of the damage.
    pub what: DamageKind,
}

/// Kind of [`Damage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// The checksum of the file header does not match, so its content is unknown.
    Header,
    /// The file ends within a block.
    Torn,
    /// The bytes are no intact block of this capture.
    Corrupt,
    /// The checksums of a block match, but its content contradicts the format.
    Malformed(&'static str),
    /// Records are missing, as the record numbers of the blocks show.
    Missing {
        /// Number of missing records.
        records: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, bytes, what } = self;
        match what {
            DamageKind::Header => write!(f, "the file header ({bytes} bytes) is damaged"),
            DamageKind::Torn => {
                write!(f, "the file ends within a block: {bytes} bytes at offset {offset} are unusable")
            }
            DamageKind::Corrupt => write!(f, "{bytes} bytes at offset {offset} are damaged"),
            DamageKind::Malformed(why) => {
                write!(f, "the block at offset {offset} ({bytes} bytes) is malformed: {why}")
            }
            DamageKind::Missing { records } => {
                write!(f, "{records} records are missing before offset {offset}")
            }
        }
    }
}
