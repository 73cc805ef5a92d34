//! The table of losses.

use pmon_core::capture::Loss;

use super::column_type;
use crate::life::columns;
use crate::wall_clock::WallClock;

/// A loss, with what its columns need in addition.
#[derive(Debug)]
pub struct LossRow<'a> {
    /// The loss.
    pub loss: &'a Loss,
    /// The clock of the boot.
    pub wall: &'a WallClock,
    /// Name of the machine.
    pub host: &'a str,
}

column_type! {
    /// A column of the table of losses.
    LossColumn, LossRow
}

/// The columns of the losses.
pub const LOSS_COLUMNS: &[LossColumn] = columns! { LossColumn;
    start_time: Timestamp,
        "Time of the last event before the loss.",
        |row| row.wall.at(row.loss.after);
    start_time_ns: Integer,
        "`start_time` in ns since 1970.",
        |row| row.wall.at(row.loss.after);
    end_time: Timestamp,
        "Time of the first event after the loss.",
        |row| row.wall.at(row.loss.before);
    end_time_ns: Integer,
        "`end_time` in ns since 1970.",
        |row| row.wall.at(row.loss.before);
    host: Text,
        "Name of the machine.",
        |row| Some(row.host.as_bytes()).filter(|host| !host.is_empty());
    cpu: Integer,
        "CPU that emitted the lost events.",
        |row| Some(row.loss.cpu.0);
    events: Integer,
        "Number of lost events.",
        |row| Some(row.loss.count());
    first_seq: Integer,
        "Sequence number of the first lost event.",
        |row| Some(row.loss.first.0);
    last_seq: Integer,
        "Sequence number of the last lost event.",
        |row| Some(row.loss.last.0);
    cause: Text,
        "Cause of the loss, as in docs/json.md.",
        |row| Some(row.loss.cause.name().as_bytes());
    after_mono_ns: Integer,
        "`start_time` by the kernel's monotonic clock in ns.",
        |row| Some(row.loss.after.0);
    before_mono_ns: Integer,
        "`end_time` by the kernel's monotonic clock in ns.",
        |row| Some(row.loss.before.0);
};
