//! Records the details of processes once it is certain which program they belong to, and redacts
//! and truncates texts before they are recorded.

use pmon_core::batch::SLOT_LEN;
use pmon_core::capture::{Details, MissReason, Record, RecordedDatagram, SelfGenerated};
use pmon_core::wire::{Event, EventBody};

use super::{Assembler, AssemblerSettings};
use crate::details::exec::{Exec, ExecDetails};
use crate::details::redact::Redact;
use crate::details::settle::DetailsSettler;
use crate::sink::{Sink, SinkError};
use crate::transport::ring::entry::MAX_ARGS_BYTES;

impl<S: Sink> Assembler<S> {
    /// Adds details that were read after an exec.
    pub(crate) fn add_details(&mut self, details: ExecDetails) -> Result<(), SinkError> {
        if let Some(settler) = &mut self.settler {
            settler.add_details(details);
        }
        self.record_settled()
    }

    /// Adds an exec event and its `details`, if they came with it. If not, they will be read unless
    /// `busy`.
    pub(super) fn add_exec(
        &mut self,
        exec: Exec,
        busy: bool,
        details: Option<Box<Details>>,
    ) -> Result<(), SinkError> {
        let Some(settler) = &mut self.settler else { return Ok(()) };
        settler.add_exec(exec, !busy && details.is_none());
        match details {
            Some(mut details) => {
                if self.args_max == 0 {
                    (details.args, details.args_len) = (None, None);
                }
                self.record_details(details, false)
            }
            None if busy => {
                self.record_details(Box::new(Details::missed(exec.subject(), MissReason::Busy)), false)
            }
            None => Ok(()),
        }
    }

    /// Redacts, truncates and records details. Redaction comes first, so no part of a secret stays
    /// at the end of a truncated text. Afterwards, every text fits into a capture.
    ///
    /// `late` states whether the details belong to the previous segment.
    pub(super) fn record_details(&mut self, mut details: Box<Details>, late: bool) -> Result<(), SinkError> {
        if let Some(container) = self.container_of(&details) {
            details.container = Some(container);
        }
        if let Some(redact) = &self.redact {
            redact.details(&mut details, self.args_read);
        }
        if is_too_long(&details) || self.redact.is_some() {
            limit_texts(&mut details, self.args_max);
        }
        self.counters.details_missed += u64::from(details.miss.is_some());
        let record = Record::Details(details);
        if late { self.sink.record_late(&record) } else { self.sink.record(&record) }
    }

    /// Returns the names of the container of a process whose details lack them.
    pub(super) fn container_of(&mut self, details: &Details) -> Option<Vec<u8>> {
        let lookup = self.containers.as_mut().filter(|_| details.container.is_none())?;
        lookup.names(details.cgroup.as_deref()?)
    }

    /// Records the details that have become certain.
    pub(super) fn record_settled(&mut self) -> Result<(), SinkError> {
        while let Some((details, late)) = self.settler.as_mut().and_then(DetailsSettler::next_certain) {
            self.record_details(details, late)?;
        }
        self.end_segment_if_settled()
    }

    /// Records all execs whose details are still uncertain as missed.
    pub(super) fn record_unsettled(&mut self) -> Result<(), SinkError> {
        let Some(mut settler) = self.settler.take() else { return Ok(()) };
        settler.give_up().try_for_each(|details| self.record_details(details, false))
    }

    /// Marks details as uncertain because events were lost, and an exec may be among them.
    pub(super) fn invalidate_details(&mut self) {
        if let Some(settler) = &mut self.settler {
            settler.invalidate();
        }
    }
}

/// Whether a text of a process is too long for a capture, with room for redaction to grow it.
pub(super) fn is_too_long(details: &Details) -> bool {
    details.strings().into_iter().flatten().any(|text| text.len() > MAX_ARGS_BYTES)
}

/// Truncates the arguments to `args_max` bytes, and leaves out any other text that is too long.
fn limit_texts(details: &mut Details, args_max: usize) {
    let Details { miss, comm, exe, filename, cwd, cgroup, args, args_len, .. } = details;
    if let Some(args) = args {
        let len = args.len();
        args.truncate(args_max.min(MAX_ARGS_BYTES));
        if args.len() < len {
            *args_len = Some(args_len.unwrap_or(0).max(len as u64));
        }
    }
    for text in [comm, exe, filename, cwd, cgroup] {
        if text.as_ref().is_some_and(|text| text.len() > MAX_ARGS_BYTES) {
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
    let is_own = |event: Event| SelfGenerated::of(&event, settings.recorder).is_some();
    if datagram.event(settings.order).is_some_and(is_own) {
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
