//! Copies blocks: as they are, with other notes, or record by record.

use pmon_core::MonoNs;
use pmon_core::capture::{BlockOutline, EncodedBlock, Note, Record};

use super::Copier;
use super::notes::KeptNote;
use crate::cut::CutError;
use crate::cut::start::{BlockSpan, HORIZON, each_event, outline};

impl Copier<'_> {
    /// Handles the next block. Returns whether further blocks can matter.
    pub(super) fn block(&mut self, block: &EncodedBlock<'_>) -> Result<bool, CutError> {
        let (outline, span) = outline(block, &mut self.decoder, self.order);
        if let Some(span) = span {
            self.end_damage(span.first)?;
        }
        if self.can_copy(block, &outline, span) {
            self.copy_block(block, &outline, span)?;
        } else if self.is_after(span) && !self.needs_details(block) {
            self.skim(block, &outline)?;
        } else {
            self.decode(block)?;
        }
        if let Some(span) = span {
            self.end.last_time = self.end.last_time.max(Some(span.last));
            self.is_past |= span.last > self.range.until;
            let is_far = span.first.0.saturating_sub(self.range.until.0) > HORIZON;
            // Selected execs may still wait for their details.
            let has_details = self.awaited == 0 && self.selected.is_none();
            if self.is_past && self.accounts.is_closed() && (has_details || is_far) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns whether all events of a block are after the range.
    fn is_after(&self, span: Option<BlockSpan>) -> bool {
        span.map_or(self.is_past, |span| span.first > self.range.until)
    }

    /// Returns whether a block after the range can hold details of its last execs.
    fn needs_details(&self, block: &EncodedBlock<'_>) -> bool {
        self.selected.is_some() || self.awaited > 0 && block.details() > 0
    }

    fn can_copy(
        &mut self,
        block: &EncodedBlock<'_>,
        outline: &BlockOutline,
        span: Option<BlockSpan>,
    ) -> bool {
        let is_within = match span {
            Some(span) => !span.has_raw && self.range.from <= span.first && span.last <= self.range.until,
            None => block.events() == 0 && self.has_begun && !self.is_past,
        };
        let has_others = block.details() > 0 || block.notes() > 0;
        if !is_within
            || self.selected.is_some()
            || block.overlaps()
            || block.first_record() < self.edge
            || self.is_opening && has_others
            || self.skips_scan && has_others
            || !self.has_begun && block.details() > 0
            || self.has_unobserved(block)
        {
            return false;
        }
        outline.late_details == 0 || self.late == 0
    }

    /// Returns whether a block states a time without events, as one of an excerpt can. The numbers
    /// before and after it are counted apart.
    fn has_unobserved(&mut self, block: &EncodedBlock<'_>) -> bool {
        let is_span = |note: &Note| matches!(note.record(), Record::Unobserved(_));
        block.notes() > 0 && self.decoder.notes(block).is_ok_and(|notes| notes.iter().any(is_span))
    }

    /// Copies a block whose events are all within the range.
    fn copy_block(
        &mut self,
        block: &EncodedBlock<'_>,
        outline: &BlockOutline,
        span: Option<BlockSpan>,
    ) -> Result<(), CutError> {
        let notes = match self.decoder.notes(block) {
            Ok(notes) => notes,
            // The block contradicts the format.
            Err(_) => {
                self.note_damage();
                return Ok(());
            }
        };
        if block.events() > 0 {
            (self.has_begun, self.is_opening) = (true, false);
        }
        let mut kept: Vec<Note> = Vec::with_capacity(notes.len());
        let mut is_changed = false;
        for note in notes {
            let record = note.record();
            match self.note(&record) {
                KeptNote::Unchanged => kept.push(note),
                KeptNote::Omitted => is_changed = true,
                KeptNote::Changed(record) => {
                    kept.extend(note.with_record(&record));
                    is_changed = true;
                }
            }
        }
        self.output.block(block, is_changed.then_some(kept.as_slice()))?;
        let time = span.map_or(MonoNs(0), |span| span.last);
        outline.cpus.iter().for_each(|cpu| self.accounts.record_outlined(cpu, time));
        self.accounts.events += u64::from(block.events());
        self.awaited = (self.awaited + outline.execs).saturating_sub(outline.exec_details);
        Ok(())
    }

    /// Reads a block after the range for the numbers that follow it.
    fn skim(&mut self, block: &EncodedBlock<'_>, outline: &BlockOutline) -> Result<(), CutError> {
        if outline.raw > 0
            && let Ok(records) = self.decoder.records(block)
        {
            for record in records.records() {
                let Record::Event(datagram, _) = &record else { continue };
                each_event(datagram, self.order, |event| self.accounts.close(event.cpu));
            }
        }
        outline.cpus.iter().for_each(|cpu| self.accounts.close(cpu.cpu));
        for note in self.decoder.notes(block).unwrap_or_default() {
            let record = note.record();
            // Losses are few and overlap the range at most once a CPU.
            if let (KeptNote::Unchanged, Record::Loss(_)) = (self.note(&record), &record) {
                self.output.record(&record)?;
            }
        }
        Ok(())
    }

    /// Decodes a block, and records what belongs to the excerpt.
    fn decode(&mut self, block: &EncodedBlock<'_>) -> Result<(), CutError> {
        let mut decoder = std::mem::take(&mut self.decoder);
        let is_before_edge = block.first_record() < self.edge;
        let result = match decoder.records(block) {
            Ok(records) => records.records().try_for_each(|record| self.record(&record, is_before_edge)),
            Err(_) => {
                self.note_damage();
                Ok(())
            }
        };
        self.decoder = decoder;
        result
    }
}
