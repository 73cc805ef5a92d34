//! The state at the start of an excerpt: the process table, the clocks and the positions.

use std::collections::BTreeMap;
use std::io;

use pmon_analysis::process::ProcessModel;
use pmon_core::capture::{
    BlockDecoder, BlockOutline, ClockAnchor, CpuPosition, DetailsSubject, EncodedBlock, EncodedItem,
    FencePosition, Header, Note, Reader, Record, RecordedDatagram, UnreachedCpu, Witness,
};
use pmon_core::wire::{ByteOrder, Event, EventBody, Message, messages};
use pmon_core::{Cpu, MonoNs, Seq};

use super::range::Range;
use super::{CutError, CutSource};
use crate::disk::StoredFile;
use crate::reader::SkippedSegment;
use crate::segment::SegmentSummary;

/// Time after which no record belongs to an earlier time any more, in ns. Events of several CPUs
/// are out of order by microseconds, and details follow their exec within seconds.
pub(super) const HORIZON: u64 = 10_000_000_000;

/// Time for which a reader waits for the first scan of `/proc`, and for events that are out of
/// order, in ns.
const SCAN_WAIT: u64 = 1_000_000_000;

/// One of the sources.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    /// Index in the [`CutSource`].
    pub(super) index: usize,
    /// The header; `None` if it is damaged.
    pub(super) header: Option<Header>,
}

impl Capture {
    /// Returns the reading of the clocks at the start; zero if the header is damaged.
    pub(super) fn clock(&self) -> ClockAnchor {
        self.header.as_ref().map(|header| header.meta.start).unwrap_or_default()
    }

    /// Returns a time after all events of the captures before this one: its start, or earlier if
    /// its first events waited for the recorder. `None` if the header is damaged.
    pub(super) fn begin(&self) -> Option<MonoNs> {
        let SegmentSummary { start, last_before, .. } = SegmentSummary::of(self.header.as_ref()?);
        let after_last = last_before.map_or(start.mono, |last| MonoNs(last.0.saturating_add(1)));
        Some(after_last.min(start.mono))
    }

    /// Returns whether the capture begins where `previous` ends.
    pub(super) fn continues(&self, previous: &Self) -> bool {
        let headers = self.header.as_ref().zip(previous.header.as_ref());
        headers
            .is_some_and(|(own, previous)| SegmentSummary::of(own).continues(&SegmentSummary::of(previous)))
    }

    /// Returns the earliest time that an event can have; `None` if the header is damaged.
    pub(super) fn earliest(&self) -> Option<MonoNs> {
        let summary = SegmentSummary::of(self.header.as_ref()?);
        Some(MonoNs(summary.start.mono.0.saturating_sub(summary.max_lead_ns())))
    }
}

/// A reader of a source.
pub(super) type Input = Reader<Box<dyn StoredFile>>;

/// Opens a source at its start.
pub(super) fn open(source: &dyn CutSource, index: usize) -> Result<Input, CutError> {
    let name = || source.name(index);
    let input = source.open(index).map_err(|source| CutError::Read { name: name(), source })?;
    let skip_hole = |file: &mut Box<dyn StoredFile>| file.skip_hole();
    Reader::open_sparse(input, skip_hole).map_err(|source| CutError::Open { name: name(), source })
}

/// The sources: those that can be read, and those that are left out.
pub(super) struct Survey {
    pub(super) captures: Vec<Capture>,
    skipped: Vec<(usize, SkippedSegment)>,
}

impl Survey {
    /// Opens each source and reads its header. A source that cannot be read is left out, as other
    /// readers of a recording do.
    ///
    /// # Errors
    /// The error of the last source if none can be read.
    pub(super) fn of(source: &dyn CutSource) -> Result<Self, CutError> {
        let (mut captures, mut skipped, mut last_error) = (Vec::new(), Vec::new(), None);
        for index in 0..source.count() {
            match open(source, index) {
                Ok(reader) => captures.push(Capture { index, header: reader.header().cloned() }),
                Err(error) => {
                    skipped.extend(error.left_out(source.name(index)).map(|skipped| (index, skipped)));
                    last_error = Some(error);
                }
            }
        }
        match last_error {
            Some(error) if captures.is_empty() => Err(error),
            _ => Ok(Self { captures, skipped }),
        }
    }

    /// Returns the sources that were left out.
    pub(super) fn skipped(&self) -> Vec<SkippedSegment> {
        self.skipped.iter().map(|(_, skipped)| skipped.clone()).collect()
    }

    /// Returns the last reading of the clocks before `from` in the source that `first` continues.
    /// `None` if the reading in the header of `first` holds. The first events of a segment can be
    /// earlier than that reading.
    pub(super) fn clock_before(
        &self,
        source: &dyn CutSource,
        first: &Capture,
        from: MonoNs,
    ) -> Result<Option<ClockAnchor>, CutError> {
        let before = self.captures.iter().take_while(|capture| capture.index < first.index).last();
        match before.filter(|before| from < first.clock().mono && first.continues(before)) {
            Some(before) => {
                Ok(clocks(source, before.index)?.into_iter().rev().find(|clock| clock.mono <= from))
            }
            None => Ok(None),
        }
    }

    /// Returns whether a source before `first`, and one after `last`, is there and cannot be read.
    pub(super) fn lacks_around(&self, first: &Capture, last: &Capture) -> (bool, bool) {
        let lacks = |is_there: &dyn Fn(usize) -> bool| {
            self.skipped.iter().any(|(index, skipped)| !skipped.is_removed && is_there(*index))
        };
        (lacks(&|index| index < first.index), lacks(&|index| index > last.index))
    }
}

/// Returns the readings of the clocks in a source, in the order of their times.
pub(super) fn clocks(source: &dyn CutSource, index: usize) -> Result<Vec<ClockAnchor>, CutError> {
    let failed = |error| CutError::Read { name: source.name(index), source: error };
    let mut reader = open(source, index)?;
    let mut clocks: BTreeMap<MonoNs, ClockAnchor> = BTreeMap::new();
    clocks.extend(reader.header().map(|header| (header.meta.start.mono, header.meta.start)));
    let mut decoder = BlockDecoder::default();
    while let Some(item) = reader.next_encoded().map_err(failed)? {
        let EncodedItem::Block(block) = item else { continue };
        for note in decoder.notes(&block).unwrap_or_default() {
            if let Record::Clock(clock) = note.record() {
                clocks.insert(clock.mono, clock);
            }
        }
    }
    Ok(clocks.into_values().collect())
}

/// Calls `visit` with each event of a datagram.
pub(super) fn each_event(datagram: &RecordedDatagram<'_>, order: ByteOrder, mut visit: impl FnMut(&Event)) {
    match datagram {
        RecordedDatagram::Event(event) => visit(event),
        RecordedDatagram::Raw(bytes) => {
            for message in messages(bytes, order) {
                if let Ok(Message::Event(event)) = message {
                    visit(&event);
                }
            }
        }
    }
}

/// The smallest and the largest time of a block's events, and whether some of them are raw.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockSpan {
    pub(super) first: MonoNs,
    pub(super) last: MonoNs,
    pub(super) has_raw: bool,
}

/// Returns the outline of a block, and the times of its events; `None` instead of the times if it
/// has no event with a time.
pub(super) fn outline(
    block: &EncodedBlock<'_>,
    decoder: &mut BlockDecoder,
    order: ByteOrder,
) -> (BlockOutline, Option<BlockSpan>) {
    // A block that contradicts the format is reported when it is decoded.
    let Ok(outline) = decoder.outline(block) else { return Default::default() };
    let Some((first, last)) = block.times() else { return (outline, None) };
    if outline.raw == 0 {
        return (outline, Some(BlockSpan { first, last, has_raw: false }));
    }
    let mut span: Option<BlockSpan> = None;
    if let Ok(records) = decoder.records(block) {
        for record in records.records() {
            let Record::Event(datagram, _) = &record else { continue };
            let Some(event) = datagram.event(order) else { continue };
            let at = event.time;
            let known = span.unwrap_or(BlockSpan { first: at, last: at, has_raw: true });
            span = Some(BlockSpan { first: known.first.min(at), last: known.last.max(at), has_raw: true });
        }
    }
    (outline, span)
}

/// The state at the start of the range: that of the first source, and of events in the sources that
/// continue it which are earlier than the range.
pub(super) struct StartState {
    pub(super) model: ProcessModel,
    /// The last reading of the clocks before the range.
    pub(super) clock: ClockAnchor,
    positions: BTreeMap<Cpu, (Seq, MonoNs)>,
    /// The scope of the source.
    pub(super) scope: Option<String>,
    /// CPUs that have not emitted an event before the range and that the first fence did not reach.
    unreached: Vec<UnreachedCpu>,
    /// The last count of drops before the range.
    pub(super) witness: Option<Witness>,
    /// Number of the first record after the last event from before the range.
    pub(super) edge: u64,
    /// Number of execs before the range whose details have not been found yet.
    late: u64,
    /// The same before record number `edge`.
    pub(super) late_at_edge: u64,
    /// Whether the first scan of `/proc` is part of the process table and ends within the range.
    pub(super) holds_scan: bool,
    /// Whether a scan has ended.
    has_scanned: bool,
    /// Whether an event of the range was seen.
    has_begun: bool,
    /// Whether a loss, a time without events or a reading of the clocks that belongs to the range
    /// comes before its first event. A reader that seeks this event may skip it.
    pub(super) has_early_notes: bool,
    /// Start of the first source, where its positions hold.
    began_at: MonoNs,
    range: Range,
    order: ByteOrder,
}

impl StartState {
    /// Reads the state from the sources, of which `capture` is the first one. `clock` is an earlier
    /// reading of the clocks than that in its header.
    pub(super) fn read(
        source: &dyn CutSource,
        capture: &Capture,
        clock: Option<ClockAnchor>,
        others: &[Capture],
        range: Range,
    ) -> Result<Self, CutError> {
        let failed = |error| CutError::Read { name: source.name(capture.index), source: error };
        let mut reader = open(source, capture.index)?;
        let order = reader.byte_order();
        let meta = capture.header.as_ref().map(|header| &header.meta);
        let ticks = meta.map_or(0, |meta| meta.ticks_per_second);
        let segment = meta.and_then(|meta| meta.segment.as_ref());
        let positions = segment.map(|segment| segment.positions.as_slice()).unwrap_or_default();
        let mut this = Self {
            model: ProcessModel::new(order, ticks, capture.clock()),
            clock: clock.unwrap_or_else(|| capture.clock()),
            positions: positions.iter().map(|at| (at.cpu, (at.next, at.time))).collect(),
            scope: None,
            unreached: Vec::new(),
            witness: None,
            edge: 0,
            late: 0,
            late_at_edge: 0,
            holds_scan: false,
            has_scanned: false,
            has_begun: false,
            has_early_notes: false,
            began_at: capture.clock().mono,
            range,
            order,
        };
        this.edge = find_edge(source, capture.index, range)?;
        let (mut decoder, mut is_before_edge) = (BlockDecoder::default(), true);
        while let Some(item) = reader.next_encoded().map_err(failed)? {
            // Damage is reported when the range is copied.
            let EncodedItem::Block(block) = item else { continue };
            if block.first_record() >= this.edge {
                if std::mem::take(&mut is_before_edge) {
                    this.late_at_edge = this.late;
                }
                if !this.needs(&block) {
                    this.read_notes(&decoder.notes(&block).unwrap_or_default());
                    // A reading of the clocks can be in the first block of the range.
                    let has_events = block.times().is_some();
                    if has_events && this.is_past(&block) { break } else { continue }
                }
            }
            let Ok(records) = decoder.records(&block) else { continue };
            records.records().for_each(|record| this.apply(&record));
        }
        let mut previous = capture;
        for other in others {
            if !other.continues(previous) || other.earliest().is_none_or(|earliest| earliest >= range.from) {
                break;
            }
            this.read_early_events(source, other)?;
            previous = other;
        }
        Ok(this)
    }

    /// Takes over readings of the clocks and times without events before the range.
    fn read_notes(&mut self, notes: &[Note]) {
        for record in notes.iter().map(Note::record) {
            match record {
                Record::Clock(_) | Record::Unobserved(_) => self.apply(&record),
                _ => self.note_early(&record),
            }
        }
    }

    /// Remembers whether a record before the first event of the range belongs to the range.
    fn note_early(&mut self, record: &Record<'_>) {
        let time = match record {
            Record::Loss(loss) => loss.before,
            Record::Blind(blind) => blind.until,
            Record::Unobserved(span) => span.until,
            Record::Clock(clock) => clock.mono,
            _ => return,
        };
        self.has_early_notes |= !self.has_begun && time >= self.range.from;
    }

    /// Reads the events before the range in a source that continues the first one. They are there
    /// because CPUs emit events independently.
    fn read_early_events(&mut self, source: &dyn CutSource, capture: &Capture) -> Result<(), CutError> {
        let failed = |error| CutError::Read { name: source.name(capture.index), source: error };
        let (mut reader, from) = (open(source, capture.index)?, self.range.from);
        let mut decoder = BlockDecoder::default();
        while let Some(item) = reader.next_encoded().map_err(failed)? {
            let EncodedItem::Block(block) = item else { continue };
            // The opening is that of the source, not of the excerpt.
            let (_, Some(span)) = outline(&block, &mut decoder, self.order) else { continue };
            if span.first.0.saturating_sub(from.0) > SCAN_WAIT {
                break;
            }
            let Ok(records) = decoder.records(&block) else { continue };
            for record in records.records() {
                let before = self.late;
                match &record {
                    Record::Event(..) | Record::Loss(_) => self.apply(&record),
                    Record::Details(details) => match details.subject {
                        DetailsSubject::Exec { time, .. } if time < from => self.model.apply(&record),
                        _ => {}
                    },
                    _ => {}
                }
                // The copier finds the details of these execs after the start of this source.
                self.late_at_edge += self.late - before;
            }
        }
        Ok(())
    }

    /// Returns the byte order of the datagrams.
    pub(super) fn order(&self) -> ByteOrder {
        self.order
    }

    /// Returns the positions of the CPUs, in their order.
    pub(super) fn positions(&self) -> Vec<CpuPosition> {
        let positions = self.positions.iter();
        positions.map(|(&cpu, &(next, time))| CpuPosition { cpu, next, time }).collect()
    }

    /// Returns the CPUs of which events at the start may be missing.
    pub(super) fn unreached(&self) -> Vec<UnreachedCpu> {
        let unknown = |unreached: &&UnreachedCpu| !self.positions.contains_key(&unreached.cpu);
        self.unreached.iter().filter(unknown).copied().collect()
    }

    /// Returns whether a block after the start can still hold a part of the state: the scope, the
    /// first scan, or the details of an earlier exec.
    fn needs(&self, block: &EncodedBlock<'_>) -> bool {
        let first = block.times().map_or(MonoNs(0), |(first, _)| first);
        let passed = first.0.saturating_sub(self.range.from.0);
        let is_first = block.first_record() == 0;
        let has_late = block.details() > 0 && self.late > 0 && passed <= HORIZON;
        let may_scan = self.range.has_start() && !self.has_scanned && passed <= SCAN_WAIT;
        is_first || has_late || may_scan && block.details() + block.notes() > 0
    }

    fn is_past(&self, block: &EncodedBlock<'_>) -> bool {
        let first = block.times().map_or(MonoNs(0), |(first, _)| first);
        let passed = first.0.saturating_sub(self.range.from.0);
        let waits = self.late > 0 && passed <= HORIZON
            || self.range.has_start() && !self.has_scanned && passed <= SCAN_WAIT;
        !waits
    }

    fn apply(&mut self, record: &Record<'_>) {
        let from = self.range.from;
        self.note_early(record);
        match record {
            Record::Event(datagram, _) => {
                let event = datagram.event(self.order);
                if event.is_none_or(|event| event.time >= from) {
                    self.has_begun |= event.is_some();
                    return;
                }
                self.model.apply(record);
                each_event(datagram, self.order, |event| {
                    self.positions.insert(event.cpu, (event.seq.next(), event.time));
                });
                self.late +=
                    u64::from(event.is_some_and(|event| matches!(event.body, EventBody::Exec { .. })));
            }
            Record::Details(details) => match details.subject {
                DetailsSubject::Exec { time, .. } if time < from => {
                    self.late = self.late.saturating_sub(1);
                    self.model.apply(record);
                }
                DetailsSubject::Exec { .. } => {}
                DetailsSubject::Snapshot { .. } => {
                    if self.takes_scan() {
                        self.model.apply(record);
                    }
                }
            },
            Record::Snapshot(_) => {
                if !self.has_begun {
                    self.model.apply(record);
                }
                self.holds_scan |= self.range.has_start() && !self.has_scanned && self.has_begun;
                self.has_scanned = true;
            }
            Record::Loss(loss) if loss.before < from => {
                self.positions.insert(loss.cpu, (loss.last.next(), loss.after));
                self.model.apply(record);
            }
            Record::Clock(clock) if clock.mono <= from => {
                self.clock = *clock;
                self.model.apply(record);
            }
            Record::Fence(fence) if fence.position == FencePosition::Start => {
                self.unreached.clone_from(&fence.unreached);
            }
            Record::Scope(scope) => self.scope = Some(scope.text.clone()),
            Record::Witness(witness) if witness.time < from => self.witness = Some(*witness),
            Record::Blind(blind) if blind.until < from => self.model.apply(record),
            // The numbers after such a time do not continue those before it. If the source does not
            // cover its own beginning, its positions are those after that time.
            Record::Unobserved(span) if span.from < from && span.until > self.began_at => {
                self.positions.clear();
                self.model.apply(record);
            }
            _ => {}
        }
    }

    /// Returns whether details of a scan belong to the process table. The first scan does even if
    /// it ends within the range: it describes processes that existed before.
    fn takes_scan(&self) -> bool {
        self.range.has_start() && (!self.has_begun || !self.has_scanned)
    }
}

/// Returns the number of the first record after the last event from before the range.
fn find_edge(source: &dyn CutSource, index: usize, range: Range) -> Result<u64, CutError> {
    if !range.has_start() {
        return Ok(0);
    }
    let failed = |error: io::Error| CutError::Read { name: source.name(index), source: error };
    let mut reader = open(source, index)?;
    let order = reader.byte_order();
    reader.seek(range.from).map_err(failed)?;
    let (mut edge, mut decoder) = (None, BlockDecoder::default());
    while let Some(item) = reader.next_encoded().map_err(failed)? {
        let EncodedItem::Block(block) = item else { continue };
        let (_, Some(span)) = outline(&block, &mut decoder, order) else {
            // A block without events belongs to the time before, as long as no event follows.
            continue;
        };
        if span.first < range.from {
            edge = Some(block.first_record() + u64::from(block.records()));
        }
        let edge = *edge.get_or_insert(block.first_record());
        if span.first.0.saturating_sub(range.from.0) > HORIZON {
            return Ok(edge);
        }
    }
    // Without an event, everything belongs to the time before.
    Ok(edge.unwrap_or(u64::MAX))
}
