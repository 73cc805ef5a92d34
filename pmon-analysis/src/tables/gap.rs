//! The table of the times in which events may be missing.

use super::column_type;
use crate::coverage::{Gap, GapReason};
use crate::life::columns;

/// A gap, with what its columns need in addition.
#[derive(Debug)]
pub struct GapRow<'a> {
    /// The gap.
    pub gap: &'a Gap,
    /// Name of the machine.
    pub host: &'a str,
}

column_type! {
    /// A column of the table of gaps.
    GapColumn, GapRow
}

/// The columns of the gaps.
pub const GAP_COLUMNS: &[GapColumn] = columns! { GapColumn;
    start_time: Timestamp,
        "First time at which events may be missing.",
        |row| row.gap.real_ns.0;
    start_time_ns: Integer,
        "`start_time` in ns since 1970.",
        |row| row.gap.real_ns.0;
    end_time: Timestamp,
        "Last time at which events may be missing.",
        |row| row.gap.real_ns.1;
    end_time_ns: Integer,
        "`end_time` in ns since 1970.",
        |row| row.gap.real_ns.1;
    host: Text,
        "Name of the machine.",
        |row| Some(row.host.as_bytes()).filter(|host| !host.is_empty());
    reason: Text,
        "Why events may be missing: `lost`, `blind`, `unobserved`, `damaged`, `before_start`, `after_end`.",
        |row| Some(match row.gap.reason {
            GapReason::Lost { .. } => "lost",
            GapReason::Blind => "blind",
            GapReason::Unobserved(_) => "unobserved",
            GapReason::Damaged => "damaged",
            GapReason::BeforeStart => "before_start",
            GapReason::AfterEnd => "after_end",
        }.as_bytes());
    cause: Text,
        "Cause of a loss, or why nothing was observed: `stopped`, `killed`, `pruned`, `missing`, `future`; null for other reasons.",
        |row| match row.gap.reason {
            GapReason::Lost { cause, .. } => Some(cause.name().as_bytes()),
            GapReason::Unobserved(reason) => Some(reason.name().as_bytes()),
            _ => None,
        };
    cpu: Integer,
        "CPU that emitted the lost events; null for other reasons.",
        |row| match row.gap.reason {
            GapReason::Lost { cpu, .. } => Some(cpu.0),
            _ => None,
        };
    events: Integer,
        "Number of lost events; null for other reasons, because the number is unknown.",
        |row| match row.gap.reason {
            GapReason::Lost { events, .. } => Some(events),
            _ => None,
        };
};
