//! Redacts and truncates texts before they are recorded.

use pmon_core::batch::SLOT_LEN;
use pmon_core::capture::{Details, MissReason, RecordedDatagram, SelfGenerated};
use pmon_core::wire::{Event, EventBody};

use super::AssemblerSettings;
use crate::details::redact::Redact;
use crate::transport::ring::entry::MOST_ARGS;

/// Whether a text of a process is too long for a capture, with room for redaction to grow it.
pub(super) fn is_too_long(details: &Details) -> bool {
    details.strings().into_iter().flatten().any(|text| text.len() > MOST_ARGS)
}

/// Truncates the arguments to `args_max` bytes, and leaves out any other text that is too long.
pub(super) fn fit(details: &mut Details, args_max: usize) {
    let Details { miss, comm, exe, filename, cwd, cgroup, args, args_len, .. } = details;
    if let Some(args) = args {
        let len = args.len();
        args.truncate(args_max.min(MOST_ARGS));
        if args.len() < len {
            *args_len = Some(args_len.unwrap_or(0).max(len as u64));
        }
    }
    for text in [comm, exe, filename, cwd, cgroup] {
        if text.as_ref().is_some_and(|text| text.len() > MOST_ARGS) {
            *text = None;
            miss.get_or_insert(MissReason::TooLong);
        }
    }
}

/// Returns the datagram with a redacted thread name. The recorder's own names stay, because they
/// have a meaning. A datagram that is not a regular event is copied to `bytes`.
pub(super) fn redacted<'a>(
    redact: &Redact,
    datagram: RecordedDatagram<'a>,
    bytes: &'a mut [u8; SLOT_LEN],
    settings: &AssemblerSettings,
) -> RecordedDatagram<'a> {
    if datagram
        .event(settings.order)
        .is_some_and(|event| SelfGenerated::of(&event, settings.recorder).is_some())
    {
        return datagram;
    }
    match datagram {
        RecordedDatagram::Event(Event { time, seq, cpu, body: EventBody::Comm { task, mut comm } }) => {
            redact.comm(&mut comm);
            RecordedDatagram::Event(Event { time, seq, cpu, body: EventBody::Comm { task, comm } })
        }
        RecordedDatagram::Raw(raw) => {
            let bytes = &mut bytes[..raw.len().min(SLOT_LEN)];
            bytes.copy_from_slice(&raw[..bytes.len()]);
            redact.datagram(bytes, settings.order);
            RecordedDatagram::Raw(bytes)
        }
        datagram => datagram,
    }
}
