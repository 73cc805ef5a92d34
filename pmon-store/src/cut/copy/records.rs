//! Copies the records of decoded blocks.

use pmon_analysis::OwnedRecord;
use pmon_core::capture::{Details, DetailsSubject, Fence, FencePosition, Record, RecordedDatagram};
use pmon_core::wire::{Event, EventBody};

use super::Copier;
use super::notes::KeptNote;
use crate::cut::CutError;
use crate::cut::start::each_event;

impl Copier<'_> {
    pub(in crate::cut) fn record(
        &mut self,
        record: &Record<'_>,
        is_before_edge: bool,
    ) -> Result<(), CutError> {
        let is_spliced = self.splicer.keeps(record);
        if let Record::Event(datagram, _) = record {
            self.is_opening = false;
            return self.event(datagram, record);
        }
        if let Record::Fence(Fence { position: FencePosition::Start, .. }) = record {
            self.is_opening = false;
        }
        if let Some(selected) = &mut self.selected {
            // These records keep their places among the events.
            let is_joined = matches!(
                record,
                Record::Details(_)
                    | Record::Snapshot(_)
                    | Record::Loss(_)
                    | Record::Blind(_)
                    | Record::Clock(_)
            );
            if is_joined && is_spliced {
                selected.push(record);
                return self.emit_selected();
            }
        }
        match record {
            Record::Details(details) if is_spliced => self.details(details, is_before_edge),
            Record::Details(_) => Ok(()),
            Record::Snapshot(_) => {
                let is_held = std::mem::take(&mut self.skips_scan);
                let is_kept = is_spliced && !is_held && self.has_begun && !self.is_past;
                if is_kept { self.output.record(record) } else { Ok(()) }
            }
            _ => self.emit_note(record),
        }
    }

    fn event(&mut self, datagram: &RecordedDatagram<'_>, record: &Record<'_>) -> Result<(), CutError> {
        let event = datagram.event(self.order);
        let time = event.map(|event| event.time);
        self.end.last_time = self.end.last_time.max(time);
        if time.is_some_and(|time| time > self.range.until) {
            self.is_past = true;
            each_event(datagram, self.order, |event| self.accounts.close(event.cpu));
        }
        let is_within = self.range.contains(time);
        if is_within {
            self.has_begun = true;
            each_event(datagram, self.order, |event| {
                self.accounts.observe(event.cpu, event.seq, event.time);
            });
        }
        if let Some(selected) = &mut self.selected {
            selected.push(record);
            return self.emit_selected();
        }
        if !is_within {
            return Ok(());
        }
        self.output.record(record)?;
        self.count_event(datagram, event.as_ref());
        Ok(())
    }

    /// Counts an event of the excerpt.
    fn count_event(&mut self, datagram: &RecordedDatagram<'_>, event: Option<&Event>) {
        self.accounts.events += 1;
        self.accounts.malformed += u64::from(datagram.is_malformed(self.order));
        each_event(datagram, self.order, |event| self.accounts.record_event(event.cpu, event.seq));
        if let Some(EventBody::Exec { .. }) = event.map(|event| event.body) {
            self.awaited += 1;
        }
    }

    fn details(&mut self, details: &Details, is_before_edge: bool) -> Result<(), CutError> {
        let is_within = match details.subject {
            DetailsSubject::Exec { time, .. } => {
                if time < self.range.from && !is_before_edge {
                    self.late = self.late.saturating_sub(1);
                }
                self.range.contains(Some(time))
            }
            DetailsSubject::Snapshot { .. } => self.has_begun && !self.is_past && !self.skips_scan,
        };
        if !is_within {
            return Ok(());
        }
        self.emit_details(Box::new(details.clone()))
    }

    /// Records the selected events that no longer wait for details.
    fn emit_selected(&mut self) -> Result<(), CutError> {
        let Some(mut selected) = self.selected.take() else { return Ok(()) };
        let mut result = Ok(());
        while let (Ok(()), Some(record)) = (&result, selected.pop(&self.range)) {
            result = self.emit_owned(record);
        }
        self.selected = Some(selected);
        result
    }

    fn emit_owned(&mut self, record: OwnedRecord) -> Result<(), CutError> {
        match record {
            OwnedRecord::Event(item) => {
                let datagram = match (&item.raw, item.event) {
                    (Some(raw), _) => RecordedDatagram::Raw(raw),
                    (None, Some(event)) => RecordedDatagram::Event(event),
                    (None, None) => return Ok(()),
                };
                self.count_event(&datagram, item.event.as_ref());
                self.output.record(&Record::Event(datagram, item.usage))?;
                item.details.map_or(Ok(()), |details| self.emit_details(details))
            }
            OwnedRecord::Details(details) => self.emit_details(details),
            OwnedRecord::Snapshot(snapshot) => self.output.record(&Record::Snapshot(snapshot)),
            OwnedRecord::Loss(loss) => self.emit_note(&Record::Loss(loss)),
            OwnedRecord::Blind(blind) => self.emit_note(&Record::Blind(blind)),
            OwnedRecord::Clock(clock) => self.emit_note(&Record::Clock(clock)),
            _ => Ok(()),
        }
    }

    fn emit_details(&mut self, details: Box<Details>) -> Result<(), CutError> {
        if let DetailsSubject::Exec { .. } = details.subject {
            self.awaited = self.awaited.saturating_sub(1);
        }
        self.output.record(&Record::Details(details))
    }

    /// Records the selected events that still wait for details.
    pub(in crate::cut) fn release_selected(&mut self) -> Result<(), CutError> {
        if let Some(selected) = &mut self.selected {
            selected.release();
        }
        self.emit_selected()
    }

    fn emit_note(&mut self, record: &Record<'_>) -> Result<(), CutError> {
        match self.note(record) {
            // Only a copied block can keep a note of a later version.
            KeptNote::Unchanged if matches!(record, Record::Unknown { .. }) => Ok(()),
            KeptNote::Unchanged => self.output.record(record),
            KeptNote::Changed(record) => {
                if let Record::Unobserved(span) = &record
                    && !self.is_before_start(span)
                {
                    self.release_selected()?;
                    self.reset_numbers()?;
                }
                self.output.record(&record)
            }
            KeptNote::Omitted => Ok(()),
        }
    }
}
