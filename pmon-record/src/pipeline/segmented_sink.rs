//! A sink of tests that keeps the records of each segment, and checks that each one accounts for
//! its own events and that they follow each other.

use std::collections::BTreeMap;
use std::time::Instant;

use pmon_core::accounting::LossByCause;
use pmon_core::capture::{
    CpuPosition, DetailsSubject, End, Record, RecordedDatagram, SegmentReason, Witness,
};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{Cpu, MonoNs};

use crate::sink::{Division, Sink, SinkError};

/// One segment.
#[derive(Debug, Default)]
pub(crate) struct RecordedSegment {
    /// Why it began; `None` for the first one.
    pub(crate) reason: Option<SegmentReason>,
    /// The positions at its start.
    pub(crate) start: Vec<CpuPosition>,
    pub(crate) records: Vec<Record<'static>>,
    /// Number of datagrams that are not events.
    pub(crate) raw: u64,
    pub(crate) end: Option<End>,
}

/// A sink that keeps the records of each segment.
#[derive(Debug)]
pub(crate) struct SegmentedSink {
    pub(crate) segments: Vec<RecordedSegment>,
    /// Why a division is due, until it is requested.
    pub(crate) due: Option<SegmentReason>,
}

impl Default for SegmentedSink {
    fn default() -> Self {
        Self { segments: vec![RecordedSegment::default()], due: None }
    }
}

impl RecordedSegment {
    pub(crate) fn events(&self) -> impl Iterator<Item = Event> {
        self.records.iter().filter_map(|record| match record {
            Record::Event(datagram, _) => datagram.event(ByteOrder::NATIVE),
            _ => None,
        })
    }

    /// Returns the positions at the end.
    pub(crate) fn positions(&self) -> &[CpuPosition] {
        let positions = self.records.iter().find_map(|record| match record {
            Record::Positions(positions) => Some(positions),
            _ => None,
        });
        &positions.expect("positions").cpus
    }

    /// Checks that the records, and nothing else, lead from the positions at the start to those at
    /// the end, and that the totals are those of the records. CPUs without a position at the start
    /// begin at any number.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut next: BTreeMap<Cpu, u32> = self.start.iter().map(|cpu| (cpu.cpu, cpu.next.0)).collect();
        let mut excluded: BTreeMap<Cpu, u64> = BTreeMap::new();
        let mut absent: BTreeMap<Cpu, u64> = BTreeMap::new();
        let (mut events, mut lost, mut blind_ns) = (self.raw, LossByCause::default(), 0);
        let mut witness = Witness::default();
        let mut advance = |cpu, first: u32, count: u32| {
            let expected = next.insert(cpu, first.wrapping_add(count)).unwrap_or(first);
            let skipped = first.wrapping_sub(expected);
            if skipped > i32::MAX as u32 {
                return Err(format!("{first} on {cpu} comes after {expected}"));
            }
            *absent.entry(cpu).or_default() += u64::from(skipped);
            Ok(())
        };
        for record in &self.records {
            match record {
                Record::Event(..) => events += 1,
                Record::Loss(loss) => {
                    lost.add(loss.cause, loss.count());
                    advance(loss.cpu, loss.first.0, loss.count() as u32)?;
                }
                Record::Blind(blind) => blind_ns += blind.length_ns(),
                Record::Witness(counts) => witness = *counts,
                Record::Excluded(counts) => drop(excluded.insert(counts.cpu, counts.count)),
                _ => {}
            }
            if let Record::Event(RecordedDatagram::Event(event), _) = record {
                advance(event.cpu, event.seq.0, 1)?;
            }
        }
        // The last numbers of a gap at the end may be excluded.
        self.positions().iter().try_for_each(|position| advance(position.cpu, position.next.0, 0))?;
        absent.retain(|_, count| *count > 0);
        let positions: BTreeMap<_, _> = self.positions().iter().map(|cpu| (cpu.cpu, cpu.next.0)).collect();
        let end = self.end.ok_or("the segment has no end")?;
        let drops = end.drops.map(|_| witness.drops);
        equal("excluded", excluded, absent)?;
        equal("positions", positions, next)?;
        equal("events", end.events, events)?;
        equal("losses", end.lost, lost)?;
        equal("blind", end.blind_ns, blind_ns)?;
        equal("drops", end.drops, drops)?;
        equal("gaps", witness.gaps, if drops.is_some() { lost.in_source() } else { 0 })
    }

    /// Checks that each exec of the segment has details in it, and no other exec has.
    pub(crate) fn check_details(&self) -> Result<(), String> {
        let mut execs: Vec<_> = self
            .events()
            .filter_map(|event| match event.body {
                EventBody::Exec { task } => Some((task.tgid.0, event.time)),
                _ => None,
            })
            .collect();
        let mut detailed: Vec<(u32, MonoNs)> = self
            .records
            .iter()
            .filter_map(|record| match record {
                Record::Details(details) => match details.subject {
                    DetailsSubject::Exec { tgid, time } => Some((tgid.0, time)),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        execs.sort();
        detailed.sort();
        equal("execs with details", detailed, execs)
    }
}

impl SegmentedSink {
    /// Checks each segment, and that each one begins where the previous one ends.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (at, segment) in self.segments.iter().enumerate() {
            segment.check().map_err(|why| format!("segment {at}: {why}"))?;
        }
        for (at, pair) in self.segments.windows(2).enumerate() {
            equal(&format!("start after segment {at}"), &pair[1].start[..], pair[0].positions())?;
        }
        Ok(())
    }
}

impl Sink for SegmentedSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let segment = self.segments.last_mut().expect("a segment");
        assert!(segment.end.is_none(), "a record follows the end");
        segment.records.extend(owned(record));
        segment.raw += u64::from(owned(record).is_none());
        if let Record::End(end) = record {
            segment.end = Some(*end);
        }
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        assert!(self.segments.iter().all(|segment| segment.end.is_some()), "a segment has no end");
        Ok(())
    }

    fn has_segments(&self) -> bool {
        true
    }

    fn segment_due(&mut self) -> Option<SegmentReason> {
        self.due.take()
    }

    fn begin_segment(&mut self, division: &Division) -> Result<(), SinkError> {
        let last = self.segments.last().and_then(|segment| segment.records.last());
        assert_eq!(last, Some(&Record::Positions(division.positions.clone())));
        let is_ending = |segment: &&RecordedSegment| segment.end.is_none();
        assert_eq!(self.segments.iter().filter(is_ending).count(), 1, "more than two segments are open");
        let (reason, start) = (Some(division.reason), division.positions.cpus.clone());
        self.segments.push(RecordedSegment { reason, start, ..RecordedSegment::default() });
        Ok(())
    }

    fn record_late(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        assert!(matches!(record, Record::Details(_)));
        let segment = self.segments.iter_mut().rev().nth(1).expect("a previous segment");
        assert!(segment.end.is_none(), "a record follows the end");
        segment.records.extend(owned(record));
        Ok(())
    }

    fn end_segment(&mut self, end: &End) -> Result<(), SinkError> {
        let segment = self.segments.iter_mut().rev().nth(1).expect("a previous segment");
        assert_eq!(segment.end.replace(*end), None, "a segment ends twice");
        Ok(())
    }
}

/// Returns a copy of a record, unless it is a datagram that is not an event.
fn owned(record: &Record<'_>) -> Option<Record<'static>> {
    Some(match record {
        Record::Event(RecordedDatagram::Event(event), usage) => {
            Record::Event(RecordedDatagram::Event(*event), usage.clone())
        }
        Record::Event(RecordedDatagram::Raw(bytes), _) => {
            // An older kernel's event is shorter, so it is raw.
            let event = RecordedDatagram::Raw(bytes).event(ByteOrder::NATIVE)?;
            Record::Event(RecordedDatagram::Event(event), None)
        }
        Record::Loss(loss) => Record::Loss(*loss),
        Record::Blind(blind) => Record::Blind(*blind),
        Record::Fence(fence) => Record::Fence(fence.clone()),
        Record::Witness(witness) => Record::Witness(*witness),
        Record::Forks(reading) => Record::Forks(reading.clone()),
        Record::Scope(scope) => Record::Scope(scope.clone()),
        Record::Excluded(excluded) => Record::Excluded(*excluded),
        Record::Ring(counts) => Record::Ring(counts.clone()),
        Record::Clock(anchor) => Record::Clock(*anchor),
        Record::Snapshot(snapshot) => Record::Snapshot(*snapshot),
        Record::Details(details) => Record::Details(details.clone()),
        Record::Positions(positions) => Record::Positions(positions.clone()),
        Record::End(end) => Record::End(*end),
        other => panic!("{other:?}"),
    })
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}
