//! The state at the start of an excerpt: the process table, the clocks and the positions.

use std::collections::BTreeMap;
use std::io;

use pmon_core::capture::{
    BlockDecoder, BlockOutline, ClockAnchor, CpuPosition, DetailsSubject, EncodedBlock, EncodedItem,
    FencePosition, Header, Reader, Record, RecordedDatagram, UnreachedCpu, Witness,
};
use pmon_core::wire::{ByteOrder, Event, EventBody, Message, messages};
use pmon_core::{Cpu, MonoNs, Seq};

use super::range::{self, Range};
use super::{CutError, CutSource};
use crate::disk::StoredFile;
use crate::model::ProcessModel;

/// Time after which no record belongs to an earlier time any more, in ns. Events of several CPUs
/// are out of order by microseconds, and details follow their exec within seconds.
pub(super) const HORIZON: u64 = 10_000_000_000;

/// Time for which a reader waits for the first scan of `/proc`, in ns.
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
    /// Returns the reading of the clocks at the start.
    pub(super) fn clock(&self) -> ClockAnchor {
        self.header.as_ref().map(|header| header.meta.start).unwrap_or_default()
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

/// Opens each source and reads its header.
pub(super) fn survey(source: &dyn CutSource) -> Result<Vec<Capture>, CutError> {
    let captures = (0..source.count()).map(|index| {
        let reader = open(source, index)?;
        Ok(Capture { index, header: reader.header().cloned() })
    });
    captures.collect()
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

/// The state of the first source at the start of the range.
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
    range: Range,
    order: ByteOrder,
}

impl StartState {
    /// Reads the state from a source.
    pub(super) fn read(source: &dyn CutSource, capture: &Capture, range: Range) -> Result<Self, CutError> {
        let failed = |error| CutError::Read { name: source.name(capture.index), source: error };
        let mut reader = open(source, capture.index)?;
        let order = reader.byte_order();
        let meta = capture.header.as_ref().map(|header| &header.meta);
        let ticks = meta.map_or(0, |meta| meta.ticks_per_second);
        let segment = meta.and_then(|meta| meta.segment.as_ref());
        let positions = segment.map(|segment| segment.positions.as_slice()).unwrap_or_default();
        let mut this = Self {
            model: ProcessModel::new(order, ticks, capture.clock()),
            clock: capture.clock(),
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
            range,
            order,
        };
        this.edge = find_edge(source, capture.index, range)?;
        let (mut decoder, mut is_behind) = (BlockDecoder::default(), true);
        while let Some(item) = reader.next_encoded().map_err(failed)? {
            // Damage is reported when the range is copied.
            let EncodedItem::Block(block) = item else { continue };
            if block.first_record() >= this.edge {
                if std::mem::take(&mut is_behind) {
                    this.late_at_edge = this.late;
                }
                if !this.needs(&block) {
                    if this.is_past(&block) { break } else { continue }
                }
            }
            let Ok(records) = decoder.records(&block) else { continue };
            records.records().for_each(|record| this.apply(&record));
        }
        Ok(this)
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

/// Returns the reading of the clocks at the start of the range.
pub(super) fn start_clock(state: &StartState, from: MonoNs) -> ClockAnchor {
    range::at(state.clock, from)
}
