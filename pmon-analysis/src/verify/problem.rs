//! Contradictions within a capture.

use std::fmt;

use pmon_core::accounting::LossCause;
use pmon_core::{Cpu, Seq};

/// Two statements of a capture that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Sequence numbers are missing without a loss record.
    Missing {
        /// CPU whose numbers are missing.
        cpu: Cpu,
        /// First missing number.
        first: Seq,
        /// Number of missing numbers.
        count: u64,
    },
    /// A sequence number is lower than an earlier one of its CPU.
    Backwards {
        /// CPU of the number.
        cpu: Cpu,
        /// The number.
        seq: Seq,
    },
    /// A total in the end record differs from the records.
    Total {
        /// What is counted.
        what: &'static str,
        /// Total in the end record.
        stated: u64,
        /// Total of the records.
        found: u64,
    },
    /// The records hold more than the ring counted.
    Exceeds {
        /// What is counted.
        what: &'static str,
        /// Count of the ring.
        stated: u64,
        /// Count of the records.
        found: u64,
    },
    /// The number of excluded events of a CPU differs from the number of missing sequence numbers.
    Excluded {
        /// CPU of the numbers.
        cpu: Cpu,
        /// Number of excluded events that the recorder reports.
        stated: u64,
        /// Number of numbers that are missing and not lost.
        found: u64,
    },
    /// The losses of a cause differ from the total in the end record.
    Lost {
        /// Cause of the losses.
        cause: LossCause,
        /// Total in the end record.
        stated: u64,
        /// Total of the loss records.
        found: u64,
    },
    /// Records follow the end record.
    AfterEnd,
    /// A capture of another machine follows.
    OtherMachine,
    /// A capture cannot be read.
    Unreadable,
    /// A capture begins before one of another recorder ends.
    Overlap,
    /// Two captures hold the same part of one recording.
    Repeated,
}

/// Writes the text of the field `problems` in the JSON output, which must not change.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Missing { cpu, first, count } => {
                write!(f, "{count} missing on cpu {cpu} from seq {first} on, and no loss says so")
            }
            Self::Backwards { cpu, seq } => write!(f, "seq {seq} on cpu {cpu} comes after a later one"),
            Self::Total { what, stated, found } => {
                write!(f, "{what}: the end says {stated}, and there are {found}")
            }
            Self::Exceeds { what, stated, found } => {
                write!(f, "{what}: {found}, which is more than the {stated} that the ring counted")
            }
            Self::Excluded { cpu, stated, found } => {
                write!(f, "cpu {cpu}: {stated} are said to be left out, and {found} are missing and not lost")
            }
            Self::Lost { cause, stated, found } => {
                write!(f, "lost ({}): the end says {stated}, and there are {found}", cause.name())
            }
            Self::AfterEnd => f.write_str("records follow the end"),
            Self::Overlap => f.write_str("captures of two recorders overlap in time"),
            Self::Repeated => f.write_str("two captures hold the same part of one recording"),
            Self::Unreadable => f.write_str("a capture cannot be read"),
            Self::OtherMachine => f.write_str("a capture of another machine follows"),
        }
    }
}
