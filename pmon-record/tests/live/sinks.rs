//! Sinks that keep their records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::Tgid;
use pmon_core::capture::{
    Blind, Block, ClockAnchor, Details, DetailsSubject, End, Fence, Loss, Positions, Record, RingCounts,
    SegmentReason, Snapshot, Witness,
};
use pmon_core::wire::{ByteOrder, Event};
use pmon_record::{Division, Sink, SinkError};

/// The records of a recording.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) datagrams: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) losses: Vec<Loss>,
    pub(crate) clocks: Vec<ClockAnchor>,
    pub(crate) details: Vec<Details>,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) fences: Vec<Fence>,
    pub(crate) blind: Vec<Blind>,
    pub(crate) witnesses: Vec<Witness>,
    pub(crate) ring: Option<RingCounts>,
    pub(crate) positions: Option<Positions>,
    pub(crate) end: End,
}

impl Recorded {
    fn add(&mut self, record: &Record<'_>) {
        match record {
            Record::Event(datagram, _) => {
                self.datagrams += 1;
                self.events.extend(datagram.event(ByteOrder::NATIVE));
            }
            Record::Loss(loss) => self.losses.push(*loss),
            Record::Clock(clock) => self.clocks.push(*clock),
            Record::Details(details) => self.details.push((**details).clone()),
            Record::Snapshot(snapshot) => self.snapshots.push(*snapshot),
            Record::Fence(fence) => self.fences.push(fence.clone()),
            Record::Blind(blind) => self.blind.push(*blind),
            Record::Witness(witness) => self.witnesses.push(*witness),
            // The verifier compares the fork counter. The tests here count the events.
            Record::Forks(_) => {}
            Record::Ring(counts) => self.ring = Some(counts.clone()),
            Record::Positions(positions) => self.positions = Some(positions.clone()),
            Record::End(end) => self.end = *end,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the details of a process after its execs.
    pub(crate) fn of_exec(&self, tgid: Tgid) -> Vec<&Details> {
        let of = |details: &&Details| matches!(details.subject, DetailsSubject::Exec { tgid: found, .. } if found == tgid);
        self.details.iter().filter(of).collect()
    }
}

/// A sink that keeps its records.
#[derive(Debug, Default)]
pub(crate) struct CollectingSink {
    recorded: Recorded,
    ended: bool,
    finished: bool,
}

impl CollectingSink {
    /// Returns the records, once the recording has ended.
    pub(crate) fn finished(self, end: End) -> Recorded {
        assert!(self.ended && self.finished);
        assert_eq!(self.recorded.end, end);
        self.recorded
    }
}

impl Sink for CollectingSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        assert!(!self.ended, "a record follows the end");
        self.recorded.add(record);
        self.ended = matches!(record, Record::End(_));
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        assert!(self.ended, "the end record is missing");
        self.finished = true;
        Ok(())
    }
}

/// A sink that keeps the records of each segment, and begins one at intervals.
#[derive(Debug)]
pub(crate) struct DividedSink {
    pub(crate) segments: Vec<Recorded>,
    interval: Duration,
    next: Instant,
}

impl DividedSink {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { segments: vec![Recorded::default()], interval, next: Instant::now() + interval }
    }

    fn current(&mut self) -> &mut Recorded {
        self.segments.last_mut().expect("a segment")
    }

    /// Returns the previous segment, which has not ended.
    fn previous(&mut self) -> &mut Recorded {
        let previous = self.segments.iter_mut().rev().nth(1).expect("a previous segment");
        assert_eq!(previous.end, End::default(), "a record follows the end");
        previous
    }
}

impl Sink for DividedSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.current().add(record);
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(Some(self.next))
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn has_segments(&self) -> bool {
        true
    }

    fn segment_due(&mut self) -> Option<SegmentReason> {
        let now = Instant::now();
        (now >= self.next).then(|| {
            self.next = now + self.interval;
            SegmentReason::Age
        })
    }

    fn begin_segment(&mut self, division: &Division) -> Result<(), SinkError> {
        assert_eq!(self.current().positions.as_ref(), Some(&division.positions));
        self.segments.push(Recorded::default());
        Ok(())
    }

    fn record_late(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.previous().add(record);
        Ok(())
    }

    fn end_segment(&mut self, end: &End) -> Result<(), SinkError> {
        self.previous().end = *end;
        Ok(())
    }
}

/// A sink that blocks until its gate is open.
#[derive(Debug, Default)]
pub(crate) struct GatedSink {
    pub(crate) memory: CollectingSink,
    pub(crate) is_open: Arc<AtomicBool>,
}

impl Sink for GatedSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        while !self.is_open.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
        self.memory.record(record)
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        self.memory.tick(now)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.memory.finish()
    }
}

/// Returns the number of events in a block.
pub(crate) fn events(block: Block<'_>) -> u64 {
    block.records().filter(|record| matches!(record, Record::Event(_, _))).count() as u64
}
