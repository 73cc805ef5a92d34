//! Sinks that keep their records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::Tgid;
use pmon_core::capture::{
    Blind, Block, ClockAnchor, Details, DetailsSubject, End, Fence, Loss, Record, RingCounts, Snapshot,
    Witness,
};
use pmon_core::wire::{ByteOrder, Event};
use pmon_record::{Sink, SinkError};

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
    pub(crate) end: End,
}

impl Recorded {
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
        let recorded = &mut self.recorded;
        match record {
            Record::Event(datagram, _) => {
                recorded.datagrams += 1;
                recorded.events.extend(datagram.event(ByteOrder::NATIVE));
            }
            Record::Loss(loss) => recorded.losses.push(*loss),
            Record::Clock(clock) => recorded.clocks.push(*clock),
            Record::Details(details) => recorded.details.push((**details).clone()),
            Record::Snapshot(snapshot) => recorded.snapshots.push(*snapshot),
            Record::Fence(fence) => recorded.fences.push(fence.clone()),
            Record::Blind(blind) => recorded.blind.push(*blind),
            Record::Witness(witness) => recorded.witnesses.push(*witness),
            // The verifier compares the fork counter. The tests here count the events.
            Record::Forks(_) => {}
            Record::Ring(counts) => recorded.ring = Some(counts.clone()),
            Record::End(end) => (recorded.end, self.ended) = (*end, true),
            other => panic!("{other:?}"),
        }
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
