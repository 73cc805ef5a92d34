//! A source under test, with the events that were emitted, received and missed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use pmon_core::batch::{Arrival, Batch, Datagram};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, Seq};

use super::SourceUnderTest;

/// Maximum time in which a source must become empty.
const MAX_DRAIN: Duration = Duration::from_secs(5);
/// Prefix of the names that the test's thread takes; a number follows.
const NAME: &str = "own-";

/// A source under test, with the events that were emitted, received and missed.
pub(super) struct Fixture<S> {
    pub(super) name: &'static str,
    pub(super) tested: S,
    /// Number in the name of the next event.
    next: u32,
    /// Last sequence number of each CPU.
    last: BTreeMap<Cpu, Seq>,
    /// Number of sequence numbers that were skipped.
    pub(super) missing: u64,
    drops: u64,
    /// Number of received datagrams that the test did not cause.
    foreign: u64,
}

/// A received datagram.
#[derive(Debug)]
pub(super) struct DecodedDatagram {
    pub(super) arrival: Arrival,
    pub(super) bytes: Vec<u8>,
    /// The event, if the kernel has sent one.
    pub(super) event: Option<Event>,
    /// The number of the event, if the test has emitted it.
    pub(super) own: Option<u32>,
}

/// Everything that a source held.
#[derive(Debug, Default)]
pub(super) struct Drained {
    pub(super) datagrams: Vec<DecodedDatagram>,
    pub(super) overruns: usize,
}

impl<S: SourceUnderTest> Fixture<S> {
    pub(super) fn new(name: &'static str, tested: S) -> Self {
        Self { name, tested, next: 0, last: BTreeMap::new(), missing: 0, drops: 0, foreign: 0 }
    }

    /// Returns the number of events that the test did not emit, and of those that were dropped.
    pub(super) fn foreign_events(&mut self) -> u64 {
        self.foreign + self.tested.dropped()
    }

    pub(super) fn batch(&self, datagrams: usize) -> Batch {
        let max = self.tested.max_metadata();
        Batch::with_metadata(datagrams, datagrams * max, max)
    }

    /// Emits that many events on a CPU. Returns their numbers.
    pub(super) fn emit(&mut self, cpu: Cpu, events: u32) -> Range<u32> {
        let first = self.next;
        self.next += events;
        (first..self.next).for_each(|number| self.tested.emit(cpu, &format!("{NAME}{number}")));
        first..self.next
    }

    /// Emits an event on each CPU, and asserts that all of them are received.
    pub(super) fn fence(&mut self) {
        let cpus = self.tested.cpus();
        let emitted: Vec<_> = cpus.iter().flat_map(|&cpu| self.emit(cpu, 1)).collect();
        assert_eq!(self.drain().own(), emitted);
    }

    /// Receives once, and asserts the contract of [`Source`] for one call.
    pub(super) fn receive(&mut self, batch: &mut Batch) -> (Received, Vec<DecodedDatagram>) {
        let contents = |batch: &Batch, len: usize| -> Vec<_> {
            batch.datagrams().take(len).map(|datagram| (datagram.bytes.to_vec(), datagram.arrival)).collect()
        };
        let len = batch.len();
        let before = contents(batch, len);
        let was_full = batch.is_full();
        let received = self.tested.source().receive(batch).expect("a source without errors");
        assert_eq!(contents(batch, len), before, "datagrams already in the batch do not change");
        let appended = batch.len() - len;
        let reported = if let Received::Datagrams(number) = received { number } else { 0 };
        assert_eq!(appended, reported, "{received:?}");
        assert!(
            appended > 0 || was_full || received != Received::Datagrams(0),
            "an empty source returns `Empty`"
        );
        assert!(received != Received::Closed);
        let tid = self.tested.tid();
        (received, batch.datagrams_from(len).map(|datagram| decode(datagram, tid)).collect())
    }

    /// Receives until the source is empty, in batches of that many datagrams.
    pub(super) fn drain_by(&mut self, datagrams: usize) -> Drained {
        let mut batch = self.batch(datagrams);
        let mut drained = Drained::default();
        let since = Instant::now();
        loop {
            batch.clear();
            let (received, datagrams) = self.receive(&mut batch);
            self.account(&datagrams);
            drained.datagrams.extend(datagrams);
            match received {
                Received::Empty => break,
                Received::Overrun => drained.overruns += 1,
                Received::Datagrams(_) | Received::Closed => {}
            }
            assert!(since.elapsed() < MAX_DRAIN, "the source is not empty after {MAX_DRAIN:?}");
        }
        self.drops();
        drained
    }

    /// Receives until the source is empty.
    pub(super) fn drain(&mut self) -> Drained {
        self.drain_by(512)
    }

    /// Returns the number of drops that the source reports, and asserts that it never decreases.
    pub(super) fn drops(&mut self) -> Option<u64> {
        let drops = self.tested.source().drops().expect("a source without errors")?;
        assert!(drops >= self.drops, "{drops} drops after {}", self.drops);
        self.drops = drops;
        Some(drops)
    }

    /// Counts skipped sequence numbers, and asserts that the numbers of each CPU ascend.
    pub(super) fn account(&mut self, datagrams: &[DecodedDatagram]) {
        self.foreign += datagrams.iter().filter(|datagram| datagram.own.is_none()).count() as u64;
        for event in datagrams.iter().filter_map(|datagram| datagram.event) {
            if let Some(last) = self.last.insert(event.cpu, event.seq) {
                let since = event.seq.0.wrapping_sub(last.0);
                assert!((1..1 << 31).contains(&since), "{} after {last} on CPU {}", event.seq, event.cpu);
                self.missing += u64::from(since) - 1;
            }
        }
    }
}

impl Drained {
    /// Returns the numbers of the test's own events, in the order of their arrival.
    pub(super) fn own(&self) -> Vec<u32> {
        own(&self.datagrams)
    }
}

/// Returns the numbers of the test's own events.
pub(super) fn own(datagrams: &[DecodedDatagram]) -> Vec<u32> {
    datagrams.iter().filter_map(|datagram| datagram.own).collect()
}

/// Decodes a datagram; `tid` is the test's thread.
fn decode(datagram: Datagram<'_>, tid: u32) -> DecodedDatagram {
    let is_from_kernel = datagram.arrival.sender == 0;
    let event = Event::decode(datagram.bytes, ByteOrder::NATIVE).ok().filter(|_| is_from_kernel);
    let own = event.and_then(|event| match event.body {
        EventBody::Comm { task, comm } if task.tid.0 == tid => number(&comm),
        _ => None,
    });
    DecodedDatagram { arrival: datagram.arrival, bytes: datagram.bytes.to_vec(), event, own }
}

/// Returns the number in a name of the test's thread.
fn number(comm: &Comm) -> Option<u32> {
    std::str::from_utf8(comm.as_bytes()).ok()?.strip_prefix(NAME)?.parse().ok()
}
