//! Resource usage of exits to columns, and back.

use super::column::{Column, ColumnValues, ColumnWriter};
use super::delta::{delta64, undelta64};
use crate::capture::records::{ProcessState, Usage};

/// The columns other than the start time, in the order of the fields.
const PLAIN: [Column; 11] = [
    Column::UsageCpu,
    Column::UsageUser,
    Column::UsageSystem,
    Column::UsageRss,
    Column::UsageMinor,
    Column::UsageMajor,
    Column::UsageRead,
    Column::UsageWrite,
    Column::UsageThreads,
    Column::UsageProcess,
    Column::UsageProcessCpu,
];

/// Code of [`ProcessState::Unknown`].
const UNKNOWN: u64 = 0;
/// Code of [`ProcessState::Alive`].
const ALIVE: u64 = 1;
/// Code of [`ProcessState::Ended`] with status 0; the status is added.
const ENDED: u64 = 2;

/// Writes that an exit has no usage.
pub(crate) fn encode_none(out: &mut ColumnWriter) {
    out.put(Column::UsageStart, 0);
}

/// Writes the usage of a task that probably started at `expected`.
///
/// Returns `false` and writes no usage if the code of the start time does not fit. No kernel has
/// such a start time.
pub(crate) fn encode(usage: &Usage, expected: u64, out: &mut ColumnWriter) -> bool {
    let Some(start) = delta64(usage.start_ticks, expected).checked_add(1) else {
        encode_none(out);
        return false;
    };
    out.put(Column::UsageStart, start);
    let numbers = [
        usage.cpu_us,
        usage.user_us,
        usage.system_us,
        usage.max_rss_kib,
        usage.minor_faults,
        usage.major_faults,
        usage.read_bytes,
        usage.write_bytes,
        u64::from(usage.threads) << 1 | u64::from(usage.at_least),
        match usage.process {
            ProcessState::Unknown => UNKNOWN,
            ProcessState::Alive => ALIVE,
            ProcessState::Ended { status } => ENDED + u64::from(status),
        },
        match usage.process {
            // Most processes have one thread.
            ProcessState::Ended { .. } => delta64(usage.process_cpu_us, usage.cpu_us),
            _ => usage.process_cpu_us,
        },
    ];
    PLAIN.into_iter().zip(numbers).for_each(|(column, number)| out.put(column, number));
    true
}

/// Reads the usage of an exit whose start time has code `start`.
pub(crate) fn decode(start: u64, expected: u64, from: &mut ColumnValues<'_>) -> Usage {
    let [
        cpu_us,
        user_us,
        system_us,
        max_rss_kib,
        minor_faults,
        major_faults,
        read_bytes,
        write_bytes,
        threads,
        process,
        process_cpu_us,
    ] = PLAIN.map(|column| from.take(column));
    Usage {
        start_ticks: undelta64(start, expected),
        cpu_us,
        user_us,
        system_us,
        max_rss_kib,
        minor_faults,
        major_faults,
        read_bytes,
        write_bytes,
        threads: (threads >> 1) as u32,
        at_least: threads & 1 == 1,
        process: match process {
            UNKNOWN => ProcessState::Unknown,
            ALIVE => ProcessState::Alive,
            code => ProcessState::Ended { status: (code - ENDED) as u32 },
        },
        process_cpu_us: match process {
            UNKNOWN | ALIVE => process_cpu_us,
            _ => undelta64(process_cpu_us, cpu_us),
        },
    }
}
