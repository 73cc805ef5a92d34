//! The table of machines and boots.

use pmon_core::capture::Meta;

use super::column_type;
use crate::life::columns;

/// A boot of a machine, as far as it was recorded.
#[derive(Debug)]
pub struct HostRow<'a> {
    /// The first header of the boot.
    pub meta: &'a Meta,
    /// Wall-clock time of the last record in ns since 1970.
    pub end_ns: Option<i64>,
    /// Number of events.
    pub events: u64,
}

column_type! {
    /// A column of the table of machines.
    HostColumn, HostRow
}

/// Returns a text, unless it is empty because it is unknown.
fn known(text: &str) -> Option<&[u8]> {
    Some(text.as_bytes()).filter(|text| !text.is_empty())
}

/// The columns of machines.
pub const HOST_COLUMNS: &[HostColumn] = columns! { HostColumn;
    host: Text,
        "Name of the machine.",
        |row| known(&row.meta.host);
    machine_id: Text,
        "Identifier of the machine, as in `machine-id(5)`.",
        |row| known(&row.meta.machine_id);
    boot_id: Text,
        "Identifier of the boot.",
        |row| known(&row.meta.boot_id);
    kernel: Text,
        "Release of the kernel.",
        |row| known(&row.meta.kernel);
    machine: Text,
        "Name of the hardware, such as `x86_64`.",
        |row| known(&row.meta.machine);
    cpus: Integer,
        "Number of CPUs online at the start.",
        |row| Some(row.meta.cpus_online).filter(|&cpus| cpus > 0);
    transport: Text,
        "How the recorder received the events.",
        |row| known(&row.meta.transport.name);
    tool: Text,
        "Program that recorded, with its version.",
        |row| known(&row.meta.tool);
    start_time: Timestamp,
        "Start of the recording.",
        |row| Some(row.meta.start.real_ns);
    start_time_ns: Integer,
        "`start_time` in ns since 1970.",
        |row| Some(row.meta.start.real_ns);
    end_time: Timestamp,
        "Time of the last event, or of the end of the recording.",
        |row| row.end_ns;
    end_time_ns: Integer,
        "`end_time` in ns since 1970.",
        |row| row.end_ns;
    events: Integer,
        "Number of recorded events.",
        |row| Some(row.events);
};
