//! The origins of fatal signals to columns, and back.
//!
//! Nearly all exits have none: their codes are zero and take no space. The names of senders are not
//! in the table of strings, whose numbers an earlier reader would count differently.

use super::column::{Column, ColumnValues, ColumnWriter};
use super::delta::{delta32, delta64, undelta32, undelta64};
use crate::capture::records::{FatalSignal, SignalOrigin, SignalSender};
use crate::ids::Tgid;
use crate::wire::Comm;

/// Number of codes of `oom_victim`; the code of the origin is multiplied by it.
const VICTIM_CODES: u64 = 3;
/// Code of [`SignalOrigin::Unknown`].
const UNKNOWN: u64 = 0;
/// Code of [`SignalOrigin::Kernel`].
const KERNEL: u64 = 1;
/// Code of [`SignalOrigin::Process`].
const PROCESS: u64 = 2;

/// Writes the signal that killed a process. `subject` is the process ID and the start time of the
/// exiting task: many processes send the signal to themselves.
pub(super) fn encode(signal: &FatalSignal, subject: (Tgid, u64), out: &mut ColumnWriter) {
    let victim = signal.oom_victim.map_or(0, |is_victim| 1 + u64::from(is_victim));
    let (origin, code) = match signal.origin {
        SignalOrigin::Unknown => (UNKNOWN, None),
        SignalOrigin::Kernel { code } => (KERNEL, Some(code)),
        SignalOrigin::Process { code, .. } => (PROCESS, Some(code)),
    };
    out.put(Column::SignalOrigin, victim + VICTIM_CODES * origin);
    if let Some(code) = code {
        out.put(Column::SignalCode, delta32(code as u32, 0));
    }
    if let SignalOrigin::Process { sender, .. } = signal.origin {
        let comm = u128::from_le_bytes(sender.comm.0);
        out.put(Column::SenderPid, delta32(sender.pid, subject.0.0));
        out.put(Column::SenderStart, delta64(sender.start_ticks, subject.1));
        out.put(Column::SenderUid, sender.uid.into());
        out.put(Column::SenderCommLow, comm as u64);
        out.put(Column::SenderCommHigh, (comm >> 64) as u64);
    }
}

/// Reads the signal that killed a process.
#[inline]
pub(super) fn decode(subject: (Tgid, u64), from: &mut ColumnValues<'_>) -> FatalSignal {
    match from.take(Column::SignalOrigin) {
        0 => FatalSignal::default(),
        code => decode_known(code, subject, from),
    }
}

#[cold]
fn decode_known(code: u64, subject: (Tgid, u64), from: &mut ColumnValues<'_>) -> FatalSignal {
    let oom_victim = (code % VICTIM_CODES).checked_sub(1).map(|is_victim| is_victim == 1);
    let mut code_of_signal = || undelta32(from.take(Column::SignalCode), 0) as i32;
    let origin = match code / VICTIM_CODES {
        KERNEL => SignalOrigin::Kernel { code: code_of_signal() },
        PROCESS => SignalOrigin::Process { code: code_of_signal(), sender: sender(subject, from) },
        _ => SignalOrigin::Unknown,
    };
    FatalSignal { oom_victim, origin }
}

fn sender(subject: (Tgid, u64), from: &mut ColumnValues<'_>) -> SignalSender {
    let pid = undelta32(from.take(Column::SenderPid), subject.0.0);
    let start_ticks = undelta64(from.take(Column::SenderStart), subject.1);
    let uid = from.take(Column::SenderUid) as u32;
    let low = u128::from(from.take(Column::SenderCommLow));
    let comm = low | u128::from(from.take(Column::SenderCommHigh)) << 64;
    SignalSender { pid, start_ticks, uid, comm: Comm(comm.to_le_bytes()) }
}
