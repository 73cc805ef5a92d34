//! Copies the range of each source to the excerpt.
//!
//! A block within the range is copied as it is, or with other notes. A block that holds records
//! from outside of the range, or an opening, is decoded and encoded again.

use pmon_analysis::OwnedRecord;
use pmon_core::MonoNs;
use pmon_core::capture::{
    BlockDecoder, BlockOutline, Details, DetailsSubject, EncodedBlock, EncodedItem, End, Fence,
    FencePosition, ForkReading, Junction, Note, Record, RecordedDatagram, Splicer, Unobserved,
    UnobservedReason, UnreachedCpu,
};
use pmon_core::wire::{ByteOrder, Event, EventBody};

use super::accounts::Accounts;
use super::output::Output;
use super::range::Range;
use super::selected::SelectedEvents;
use super::start::{BlockSpan, HORIZON, Input, each_event, outline};
use super::{CutError, CutSource};

/// The state of a source at its end.
#[derive(Debug, Default)]
pub(super) struct SourceEnd {
    /// The end record, if the source ended cleanly.
    pub(super) end: Option<End>,
    /// CPUs that the last fence did not reach, if there was one.
    unreached: Option<Vec<UnreachedCpu>>,
    /// Whether the source was read to its end.
    pub(super) is_complete: bool,
    /// Time of the last event.
    pub(super) last_time: Option<MonoNs>,
}

impl SourceEnd {
    /// Returns the time of the end, or that of the last event if the source has no end.
    pub(super) fn time(&self) -> Option<MonoNs> {
        self.end.map(|end| end.time).max(self.last_time)
    }
}

/// Copies the range of the sources.
pub(super) struct Copier<'a> {
    pub(super) range: Range,
    pub(super) output: Output<'a>,
    pub(super) accounts: Accounts,
    /// Selects events; `None` to copy all.
    pub(super) selected: Option<SelectedEvents>,
    /// The spans of the range without events.
    pub(super) unobserved: Vec<Unobserved>,
    pub(super) damaged: u64,
    /// Whether the excerpt has a scope.
    pub(super) is_partial: bool,
    /// Number of execs before the range whose details follow within it.
    pub(super) late: u64,
    /// Number of execs of the excerpt whose details have not been copied yet.
    awaited: u64,
    /// Whether an event of the range has been read.
    pub(super) has_begun: bool,
    /// Whether the first scan of `/proc` is part of the process table.
    pub(super) skips_scan: bool,
    /// Number of the first record after the last event from before the range.
    pub(super) edge: u64,
    /// Whether an event after the range has been read.
    is_past: bool,
    /// Start of a damaged part, until the time of the next event is known.
    damaged_since: Option<MonoNs>,
    decoder: BlockDecoder,
    order: ByteOrder,
    end: SourceEnd,
    splicer: Splicer,
    is_opening: bool,
}

impl<'a> Copier<'a> {
    pub(super) fn new(range: Range, output: Output<'a>) -> Self {
        Self {
            range,
            output,
            accounts: Accounts::default(),
            selected: None,
            unobserved: Vec::new(),
            damaged: 0,
            is_partial: false,
            late: 0,
            awaited: 0,
            has_begun: !range.has_start(),
            skips_scan: false,
            edge: 0,
            is_past: false,
            damaged_since: None,
            decoder: BlockDecoder::default(),
            order: ByteOrder::NATIVE,
            end: SourceEnd::default(),
            splicer: Splicer::default(),
            is_opening: false,
        }
    }

    /// Copies the range of a source. Returns the state at its end.
    pub(super) fn copy(
        &mut self,
        source: &dyn CutSource,
        index: usize,
        mut reader: Input,
        continues: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<SourceEnd, CutError> {
        self.order = reader.byte_order();
        self.end = SourceEnd::default();
        self.splicer = Splicer::new(Junction { continues, is_followed: true, ..Junction::default() });
        self.is_opening = continues;
        let start = reader.offset();
        loop {
            let item = reader.next_encoded();
            let item = item.map_err(|error| CutError::Read { name: source.name(index), source: error })?;
            match item {
                Some(EncodedItem::Block(block)) => {
                    if !self.block(&block)? {
                        break;
                    }
                }
                Some(EncodedItem::Damage(_)) => self.note_damage(),
                None => {
                    self.end.is_complete = true;
                    break;
                }
            }
            progress(reader.offset() - start);
        }
        if !reader.ended_cleanly() {
            self.end.end = None;
        }
        self.accounts.end_capture();
        Ok(std::mem::take(&mut self.end))
    }

    /// Handles a damaged part: the time until the next event is unobserved.
    fn note_damage(&mut self) {
        if self.is_past {
            return;
        }
        let since = self.end.last_time.unwrap_or(self.range.from);
        self.damaged_since.get_or_insert(since);
    }

    /// Records the damaged part before an event at `time`.
    fn end_damage(&mut self, time: MonoNs) -> Result<(), CutError> {
        let Some(from) = self.damaged_since.take() else { return Ok(()) };
        if !self.range.overlaps(from, time) {
            return Ok(());
        }
        self.damaged += 1;
        self.add_unobserved(Unobserved { from, until: time, reason: UnobservedReason::Missing })?;
        self.reset_numbers()
    }

    /// Handles damage at the end of the sources.
    pub(super) fn finish_damage(&mut self, time: MonoNs) -> Result<(), CutError> {
        self.end_damage(time)
    }

    /// Records a span without events, as far as it is within the range.
    pub(super) fn add_unobserved(&mut self, span: Unobserved) -> Result<(), CutError> {
        let (from, until) = (span.from.max(self.range.from), span.until.min(self.range.until));
        let span = Unobserved { from, until: until.max(from), ..span };
        self.unobserved.push(span);
        self.output.record(&Record::Unobserved(span))
    }

    /// Records the numbers so far, which the next ones do not continue.
    pub(super) fn reset_numbers(&mut self) -> Result<(), CutError> {
        self.record_excluded()?;
        self.accounts.reset_numbers();
        Ok(())
    }

    /// Records how many events of each CPU are out of scope.
    pub(super) fn record_excluded(&mut self) -> Result<(), CutError> {
        if !self.is_partial {
            return Ok(());
        }
        for excluded in self.accounts.excluded() {
            self.output.record(&Record::Excluded(excluded))?;
        }
        Ok(())
    }

    /// Handles the next block. Returns whether further blocks can matter.
    fn block(&mut self, block: &EncodedBlock<'_>) -> Result<bool, CutError> {
        let (outline, span) = outline(block, &mut self.decoder, self.order);
        if let Some(span) = span {
            self.end_damage(span.first)?;
        }
        if self.can_copy(block, &outline, span) {
            self.copy_block(block, &outline, span)?;
        } else if self.is_after(span) && !self.needs_details(block) {
            self.skim(block, &outline);
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

    fn can_copy(&self, block: &EncodedBlock<'_>, outline: &BlockOutline, span: Option<BlockSpan>) -> bool {
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
        {
            return false;
        }
        outline.late_details == 0 || self.late == 0
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
    fn skim(&mut self, block: &EncodedBlock<'_>, outline: &BlockOutline) {
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
                // An error shows again when the next record is written.
                let _ = self.output.record(&record);
            }
        }
    }

    /// Decodes a block, and records what belongs to the excerpt.
    fn decode(&mut self, block: &EncodedBlock<'_>) -> Result<(), CutError> {
        let mut decoder = std::mem::take(&mut self.decoder);
        let is_behind = block.first_record() < self.edge;
        let result = match decoder.records(block) {
            Ok(records) => records.records().try_for_each(|record| self.record(&record, is_behind)),
            Err(_) => {
                self.note_damage();
                Ok(())
            }
        };
        self.decoder = decoder;
        result
    }

    fn record(&mut self, record: &Record<'_>, is_behind: bool) -> Result<(), CutError> {
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
            Record::Details(details) if is_spliced => self.details(details, is_behind),
            Record::Details(_) => Ok(()),
            Record::Snapshot(_) => {
                let is_held = std::mem::take(&mut self.skips_scan);
                let is_kept = is_spliced && !is_held && self.has_begun && !self.is_past;
                if is_kept { self.output.record(record) } else { Ok(()) }
            }
            _ => self.emit_note(record),
        }
    }

    fn emit_note(&mut self, record: &Record<'_>) -> Result<(), CutError> {
        match self.note(record) {
            // Only a copied block can keep a note of a later version.
            KeptNote::Unchanged if matches!(record, Record::Unknown { .. }) => Ok(()),
            KeptNote::Unchanged => self.output.record(record),
            KeptNote::Changed(record) => self.output.record(&record),
            KeptNote::Omitted => Ok(()),
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

    fn details(&mut self, details: &Details, is_behind: bool) -> Result<(), CutError> {
        let is_within = match details.subject {
            DetailsSubject::Exec { time, .. } => {
                if time < self.range.from && !is_behind {
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
    pub(super) fn release_selected(&mut self) -> Result<(), CutError> {
        if let Some(selected) = &mut self.selected {
            selected.release();
        }
        self.emit_selected()
    }

    /// Accounts for a record that is neither an event nor details. Returns whether the excerpt
    /// contains it.
    fn note(&mut self, record: &Record<'_>) -> KeptNote {
        let range = self.range;
        let kept = |is_kept: bool| if is_kept { KeptNote::Unchanged } else { KeptNote::Omitted };
        match record {
            Record::Loss(loss) => {
                let is_within = range.overlaps(loss.after, loss.before);
                if is_within {
                    self.accounts.record_loss(loss);
                } else if loss.after > range.until {
                    self.accounts.close(loss.cpu);
                }
                kept(is_within)
            }
            Record::Blind(blind) => {
                let is_within = range.overlaps(blind.from, blind.until);
                if is_within {
                    self.accounts.blind_ns = self.accounts.blind_ns.saturating_add(blind.length_ns());
                }
                kept(is_within)
            }
            Record::Unobserved(span) => {
                if !range.overlaps(span.from, span.until) {
                    return KeptNote::Omitted;
                }
                let (from, until) = (span.from.max(range.from), span.until.min(range.until));
                let span = Unobserved { from, until, ..*span };
                self.unobserved.push(span);
                KeptNote::Changed(Record::Unobserved(span))
            }
            Record::Fence(fence) => {
                if fence.position == FencePosition::End {
                    self.end.unreached = Some(fence.unreached.clone());
                }
                KeptNote::Omitted
            }
            Record::Witness(witness) => {
                self.accounts.add_witness(witness, witness.time < range.from);
                KeptNote::Omitted
            }
            Record::Forks(ForkReading::Counted(count)) => {
                kept(range.from <= count.from && count.until <= range.until && self.selected.is_none())
            }
            Record::Forks(ForkReading::Absent { .. }) => kept(!self.is_past),
            Record::Clock(clock) => kept(range.contains(Some(clock.mono))),
            Record::Snapshot(_) => kept(self.has_begun && !self.is_past && self.splicer.keeps(record)),
            Record::End(end) => {
                if end.drops.is_some() {
                    self.accounts.set_drops_known();
                }
                self.end.end = Some(*end);
                KeptNote::Omitted
            }
            Record::Unknown { .. } => kept(self.has_begun && !self.is_past),
            // The excerpt has records of these kinds of its own.
            _ => KeptNote::Omitted,
        }
    }

    /// Returns the CPUs of which events at the end of the range may be missing, given the end of
    /// the last source.
    pub(super) fn unreached(&self, end: &SourceEnd) -> Vec<UnreachedCpu> {
        use pmon_core::capture::UnreachedReason::Silent;
        if !end.is_complete {
            return Vec::new();
        }
        match (&end.unreached, end.end) {
            // The source states which CPUs it knows nothing about.
            (Some(unreached), _) => {
                let open: Vec<_> = self.accounts.open_cpus().collect();
                let is_open =
                    |unreached: &&UnreachedCpu| unreached.why != Silent || open.contains(&unreached.cpu);
                unreached.iter().filter(is_open).copied().collect()
            }
            (None, Some(_)) => Vec::new(),
            (None, None) => self.accounts.open_cpus().map(|cpu| UnreachedCpu { cpu, why: Silent }).collect(),
        }
    }
}

/// Whether the excerpt contains a note.
enum KeptNote {
    Unchanged,
    Omitted,
    Changed(Record<'static>),
}
