//! Resource usage of exits to columns, and back.

use super::column::{Column, ColumnValues, ColumnWriter};
use super::delta::{delta64, undelta64};
use super::fatal_signal;
use crate::capture::records::{ProcessState, Usage};
use crate::ids::Tgid;

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

/// Writes the usage of a task of process `tgid` that probably started at `expected`.
///
/// Returns `false` and writes no usage if the code of the start time does not fit. No kernel has
/// such a start time.
pub(crate) fn encode(usage: &Usage, tgid: Tgid, expected: u64, out: &mut ColumnWriter) -> bool {
    let Some(start) = delta64(usage.start_ticks, expected).checked_add(1) else {
        encode_none(out);
        return false;
    };
    out.put(Column::UsageStart, start);
    out.put(Column::UsageCpu, usage.cpu_us);
    out.put(Column::UsageUser, usage.user_us);
    out.put(Column::UsageSystem, usage.system_us);
    out.put(Column::UsageRss, usage.max_rss_kib);
    out.put(Column::UsageMinor, usage.minor_faults);
    out.put(Column::UsageMajor, usage.major_faults);
    out.put(Column::UsageRead, usage.read_bytes);
    out.put(Column::UsageWrite, usage.write_bytes);
    out.put(Column::UsageThreads, u64::from(usage.threads) << 1 | u64::from(usage.at_least));
    let (process, process_cpu) = match usage.process {
        ProcessState::Unknown => (UNKNOWN, usage.process_cpu_us),
        ProcessState::Alive => (ALIVE, usage.process_cpu_us),
        // Most processes have one thread.
        ProcessState::Ended { status } => {
            (ENDED + u64::from(status), delta64(usage.process_cpu_us, usage.cpu_us))
        }
    };
    out.put(Column::UsageProcess, process);
    out.put(Column::UsageProcessCpu, process_cpu);
    fatal_signal::encode(&usage.fatal_signal, (tgid, usage.start_ticks), out);
    true
}

/// Reads the usage of an exit of process `tgid`. The start time has code `start`.
pub(crate) fn decode(start: u64, tgid: Tgid, expected: u64, from: &mut ColumnValues<'_>) -> Usage {
    let cpu_us = from.take(Column::UsageCpu);
    let threads = from.take(Column::UsageThreads);
    let process_cpu = from.take(Column::UsageProcessCpu);
    let (process, process_cpu_us) = match from.take(Column::UsageProcess) {
        UNKNOWN => (ProcessState::Unknown, process_cpu),
        ALIVE => (ProcessState::Alive, process_cpu),
        code => (ProcessState::Ended { status: (code - ENDED) as u32 }, undelta64(process_cpu, cpu_us)),
    };
    let start_ticks = undelta64(start, expected);
    Usage {
        start_ticks,
        cpu_us,
        user_us: from.take(Column::UsageUser),
        system_us: from.take(Column::UsageSystem),
        max_rss_kib: from.take(Column::UsageRss),
        minor_faults: from.take(Column::UsageMinor),
        major_faults: from.take(Column::UsageMajor),
        read_bytes: from.take(Column::UsageRead),
        write_bytes: from.take(Column::UsageWrite),
        threads: (threads >> 1) as u32,
        at_least: threads & 1 == 1,
        process,
        process_cpu_us,
        fatal_signal: fatal_signal::decode((tgid, start_ticks), from),
    }
}
