//! A sink that encodes a capture, or several segments, into memory.

use std::collections::BTreeMap;
use std::time::Instant;

use pmon_core::Cpu;
use pmon_core::accounting::LossCause;
use pmon_core::capture::{
    CpuPosition, Encoder, End, Header, Item, Positions, Reader, Record, SegmentInfo, SegmentReason,
};
use pmon_core::wire::{ByteOrder, Message, messages};
use pmon_record::{Division, Sink, SinkError};

use super::SimulationError;

/// A sink that encodes a capture, or several segments, into memory.
pub(super) struct MemorySink {
    header: Header,
    /// Number of records per block.
    block_records: usize,
    segments: Vec<SegmentWriter>,
}

/// A segment, or the one capture.
pub(super) struct SimulatedSegment {
    pub(super) capture: Vec<u8>,
    /// The positions from which the next segment continues; `None` if the capture is no segment.
    pub(super) end: Option<Positions>,
    /// Whether the recorder was killed.
    pub(super) is_killed: bool,
}

struct SegmentWriter {
    uuid: [u8; 16],
    encoder: Encoder,
    segment: SimulatedSegment,
}

impl MemorySink {
    /// Creates a sink. If the header has a segment, the sink has segments.
    pub(super) fn new(header: Header, block_records: usize) -> Result<Self, SimulationError> {
        let mut this = Self { header, block_records, segments: Vec::new() };
        this.begin(None)?;
        Ok(this)
    }

    /// Returns the bytes of the last segment, or of the one capture.
    pub(super) fn into_capture(mut self) -> Vec<u8> {
        self.segments.pop().map(|last| last.segment.capture).unwrap_or_default()
    }

    pub(super) fn into_segments(self) -> (Header, Vec<SimulatedSegment>) {
        (self.header, self.segments.into_iter().map(|writer| writer.segment).collect())
    }

    /// Begins a segment of another recorder with the same socket. If the recorder was killed,
    /// records that are not part of a block are lost. Returns the positions at its start.
    pub(super) fn restart(
        mut self,
        is_killed: bool,
        cpus: u32,
    ) -> Result<(Self, Positions), SimulationError> {
        let drops_before = match &self.segments[..] {
            [.., previous, _] => previous.segment.end.as_ref().and_then(|end| end.source_drops),
            _ => Some(0),
        };
        let last = self.last();
        if is_killed {
            let mut end = recover(&last.segment.capture, drops_before)?;
            if end.cpus.len() < cpus as usize {
                // Nothing is known of a CPU none of whose events was written.
                last.seal();
                end = recover(&last.segment.capture, drops_before)?;
            }
            (last.segment.end, last.segment.is_killed) = (Some(end), true);
        }
        let positions = last.segment.end.clone().ok_or("the segment has no positions".to_owned())?;
        self.begin(Some((SegmentReason::Restart, &positions)))?;
        Ok((self, positions))
    }

    fn begin(&mut self, continued: Option<(SegmentReason, &Positions)>) -> Result<(), SinkError> {
        let mut header = self.header.clone();
        header.uuid[0] = self.segments.len() as u8;
        if let Some((reason, positions)) = continued {
            header.meta.segment = Some(SegmentInfo { reason, positions: positions.cpus.clone() });
            header.meta.previous = Some(self.last().uuid);
        }
        let encoder = Encoder::new(&header)?;
        let capture = encoder.header().to_vec();
        let segment = SimulatedSegment { capture, end: None, is_killed: false };
        self.segments.push(SegmentWriter { uuid: header.uuid, encoder, segment });
        Ok(())
    }

    fn last(&mut self) -> &mut SegmentWriter {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }
}

impl SegmentWriter {
    fn record(&mut self, record: &Record<'_>, block_records: usize) -> Result<(), SinkError> {
        if let Record::Positions(positions) = record {
            self.segment.end = Some(positions.clone());
        }
        self.encoder.push(record)?;
        if self.encoder.pending() >= block_records {
            self.seal();
        }
        Ok(())
    }

    fn seal(&mut self) {
        self.segment.capture.extend_from_slice(self.encoder.seal());
    }

    fn finish(&mut self) {
        self.seal();
        self.segment.capture.extend_from_slice(self.encoder.finish());
    }
}

impl Sink for MemorySink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let block_records = self.block_records;
        self.last().record(record, block_records)
    }

    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.last().finish();
        Ok(())
    }

    fn has_segments(&self) -> bool {
        self.header.meta.segment.is_some()
    }

    fn begin_segment(&mut self, division: &Division) -> Result<(), SinkError> {
        self.begin(Some((division.reason, &division.positions)))
    }

    fn end_segment(&mut self, end: &End) -> Result<(), SinkError> {
        let block_records = self.block_records;
        let previous = self.segments.len() - 2;
        let previous = &mut self.segments[previous];
        previous.record(&Record::End(*end), block_records)?;
        previous.finish();
        Ok(())
    }
}

/// Returns the positions at which a capture without an end record ends. `drops_before` is the
/// socket's count of drops at its start.
fn recover(capture: &[u8], drops_before: Option<u64>) -> Result<Positions, SimulationError> {
    let mut reader = Reader::open(capture).map_err(|error| error.to_string())?;
    let segment = reader.header().and_then(|header| header.meta.segment.clone());
    let positions = segment.into_iter().flat_map(|segment| segment.positions);
    let mut cpus: BTreeMap<Cpu, CpuPosition> = positions.map(|position| (position.cpu, position)).collect();
    let mut drops = 0;
    while let Some(item) = reader.next_item().map_err(|error| error.to_string())? {
        let Item::Block(block) = item else { return Err("a killed capture is damaged".to_owned().into()) };
        for record in block.records() {
            match record {
                Record::Event(datagram, _) => datagram.with_bytes(ByteOrder::NATIVE, |bytes| {
                    for message in messages(bytes, ByteOrder::NATIVE) {
                        if let Ok(Message::Event(event)) = message {
                            let (cpu, next, time) = (event.cpu, event.seq.next(), event.time);
                            cpus.insert(cpu, CpuPosition { cpu, next, time });
                        }
                    }
                }),
                Record::Loss(loss) => {
                    drops += if loss.cause == LossCause::Socket { loss.count() } else { 0 };
                    let (cpu, next) = (loss.cpu, loss.last.next());
                    let time = cpus.get(&cpu).map_or(loss.after, |position| position.time);
                    cpus.insert(cpu, CpuPosition { cpu, next, time });
                }
                _ => {}
            }
        }
    }
    let cpus = cpus.into_values().collect();
    Ok(Positions { cpus, source_drops: drops_before.map(|before| before + drops), ..Positions::default() })
}
