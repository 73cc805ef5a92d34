//! Divides a capture into the segments that a recorder of a store would have written.

use std::collections::BTreeMap;

use pmon_core::accounting::LossByCause;
use pmon_core::capture::{
    ClockAnchor, CpuPosition, Details, DetailsSubject, Encoder, End, Fence, FencePosition, Header, Item,
    MissReason, Positions, Reader, Record, RecordedDatagram, SegmentInfo, SegmentReason, Snapshot,
    SnapshotReason, Witness,
};
use pmon_core::{Cpu, MonoNs, Tgid};
use pmon_store::SegmentName;

/// Number of records of a block.
const BLOCK: usize = 500;

/// A segment of a store.
#[derive(Clone, Debug)]
pub struct StoredSegment {
    /// File name.
    pub name: String,
    /// Header of the capture.
    pub header: Header,
    /// Bytes of the file.
    pub bytes: Vec<u8>,
}

/// Divides a capture before the records of these numbers, which are in ascending order.
///
/// Each segment opens with processes that do not exist: a reader of the whole recording must not
/// use them. The capture must be intact and of all events.
pub fn divide(capture: &[u8], cuts: &[usize]) -> Vec<StoredSegment> {
    let mut reader = Reader::open(capture).expect("a capture");
    let header = reader.header().expect("an intact header").clone();
    let mut divider = Divider::new(header);
    let mut number = 0;
    let mut cuts = cuts.iter().copied().peekable();
    while let Some(item) = reader.next_item().expect("memory is readable") {
        let Item::Block(block) = item else { panic!("the capture is damaged") };
        for record in block.records() {
            if cuts.next_if(|&cut| cut <= number).is_some() && number > 0 && !matches!(record, Record::End(_))
            {
                divider.divide(SegmentReason::Size);
            }
            divider.push(&record);
            number += 1;
        }
    }
    divider.finished
}

struct Divider {
    first: Header,
    header: Header,
    encoder: Encoder,
    bytes: Vec<u8>,
    positions: BTreeMap<Cpu, CpuPosition>,
    now: MonoNs,
    /// Counts of the current segment.
    events: u64,
    blind_ns: u64,
    lost: LossByCause,
    /// Drops and gaps that the earlier segments state.
    witnessed: (u64, u64),
    finished: Vec<StoredSegment>,
}

impl Divider {
    fn new(mut header: Header) -> Self {
        header.meta.segment = Some(SegmentInfo { reason: SegmentReason::Start, positions: vec![] });
        let encoder = Encoder::new(&header).expect("the header fits");
        let first_time = header.meta.start.mono;
        Self {
            first: header.clone(),
            bytes: encoder.header().to_vec(),
            header,
            encoder,
            positions: BTreeMap::new(),
            now: first_time,
            events: 0,
            blind_ns: 0,
            lost: LossByCause::default(),
            witnessed: (0, 0),
            finished: Vec::new(),
        }
    }

    fn write(&mut self, record: &Record<'_>) {
        self.encoder.push(record).expect("the record fits");
        if self.encoder.unsealed() >= BLOCK {
            self.bytes.extend_from_slice(self.encoder.seal());
        }
    }

    fn push(&mut self, record: &Record<'_>) {
        match record {
            Record::Event(datagram, _) => {
                self.events += 1;
                let event = match datagram {
                    RecordedDatagram::Event(event) => Some(*event),
                    datagram => datagram.event(self.header.byte_order),
                };
                if let Some(event) = event {
                    self.now = self.now.max(event.time);
                    let position = CpuPosition { cpu: event.cpu, next: event.seq.next(), time: event.time };
                    self.positions.insert(event.cpu, position);
                }
            }
            Record::Loss(loss) => {
                self.lost.add(loss.cause, loss.count());
                let position = CpuPosition { cpu: loss.cpu, next: loss.last.next(), time: loss.after };
                self.positions.insert(loss.cpu, position);
            }
            Record::Blind(blind) => self.blind_ns += blind.length_ns(),
            Record::Witness(witness) => {
                let (drops, gaps) = self.witnessed;
                let time = witness.time;
                let own = Witness { time, drops: witness.drops - drops, gaps: witness.gaps - gaps };
                return self.write(&Record::Witness(own));
            }
            Record::End(end) => return self.end(*end),
            _ => {}
        }
        self.write(record);
    }

    fn positions(&self) -> Vec<CpuPosition> {
        self.positions.values().copied().collect()
    }

    /// Ends the segment with totals of its own.
    fn end(&mut self, end: End) {
        let drops = end.drops.map(|drops| drops - self.witnessed.0);
        let own = End { events: self.events, blind_ns: self.blind_ns, lost: self.lost, drops, ..end };
        let positions = Positions { time: end.time, cpus: self.positions(), source_drops: end.drops };
        self.write(&Record::Positions(positions));
        self.write(&Record::End(own));
        self.bytes.extend_from_slice(self.encoder.seal());
        self.bytes.extend_from_slice(self.encoder.finish());
        let is_taken = |name: &SegmentName| self.finished.iter().any(|other| other.name == name.as_str());
        let name = SegmentName::unused(&self.header.meta.host, self.header.meta.start.real_ns, is_taken);
        let bytes = std::mem::take(&mut self.bytes);
        let (name, header) = (name.as_str().to_owned(), self.header.clone());
        self.finished.push(StoredSegment { name, header, bytes });
    }

    fn divide(&mut self, reason: SegmentReason) {
        let fence = |position| Record::Fence(Fence { time: MonoNs(1), position, unreached: vec![] });
        let gaps = self.lost.in_source();
        if gaps > 0 {
            self.write(&Record::Witness(Witness { time: self.now, drops: gaps, gaps }));
        }
        self.write(&fence(FencePosition::End));
        let drops = Some(self.witnessed.0 + gaps);
        self.end(End { time: self.now, drops, ..End::default() });
        self.witnessed = (self.witnessed.0 + gaps, self.witnessed.1 + gaps);

        let start = self.first.meta.start;
        let since = self.now.0.saturating_sub(start.mono.0);
        self.header.meta.start = ClockAnchor {
            mono: self.now,
            boot_ns: start.boot_ns + since,
            real_ns: start.real_ns + since as i64,
        };
        self.header.meta.previous = Some(self.header.uuid);
        self.header.meta.segment = Some(SegmentInfo { reason, positions: self.positions() });
        let number = self.finished.len() as u32;
        self.header.uuid[..4].copy_from_slice(&(number | 0xAB00_0000).to_be_bytes());
        self.encoder = Encoder::new(&self.header).expect("the header fits");
        self.bytes = self.encoder.header().to_vec();
        (self.events, self.blind_ns, self.lost) = (0, 0, LossByCause::default());

        let subject = DetailsSubject::Snapshot { tgid: Tgid(1) };
        let missed = Details::missed(subject, MissReason::Gone);
        let wrong = Details { comm: Some(b"not-applied".to_vec()), ppid: Some(77), miss: None, ..missed };
        self.write(&Record::Details(Box::new(wrong)));
        self.write(&Record::Snapshot(Snapshot {
            started: self.now,
            ended: self.now,
            processes: 1,
            reason: SnapshotReason::Segment,
            atomic: true,
        }));
        self.write(&fence(FencePosition::Start));
    }
}
