//! Reads a capture and checks its accounting, independently of the recorder's own.
//!
//! The checks share nothing with `pmon_core::accounting` but the types of its records: numbers are
//! compared one by one. The live tests and the simulator use the same checks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use pmon_analysis::{Verifier, VerifyReport};
use pmon_core::accounting::LossByCause;
use pmon_core::capture::{
    Blind, Details, DetailsSubject, End, Fence, FencePosition, Header, Item, Loss, Reader, Record,
    RingCounts, Snapshot, UnreachedReason, Usage, Witness,
};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{Cpu, Seq, Task, Tgid};

/// A record that accounts for sequence numbers of a CPU.
#[derive(Clone, Copy, Debug)]
pub enum AccountedRecord {
    /// An event that was recorded.
    Event(Event),
    /// Events that were lost.
    Loss(Loss),
}

/// The sequence numbers of a CPU that a capture accounts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberSpan {
    /// The first number.
    pub first: Seq,
    /// The number of numbers.
    pub len: u64,
}

/// The records of an undamaged capture, by kind.
#[derive(Debug, Default)]
pub struct CaptureContents {
    /// The header; `None` if the file has none.
    pub header: Option<Header>,
    /// Events and losses, in their order.
    pub accounted: Vec<AccountedRecord>,
    /// Number of datagrams, events or not.
    pub datagrams: u64,
    /// Blind spans.
    pub blind: Vec<Blind>,
    /// Fences.
    pub fences: Vec<Fence>,
    /// Readings of the socket's count of drops.
    pub witnesses: Vec<Witness>,
    /// Scans of `/proc`.
    pub snapshots: Vec<Snapshot>,
    /// Details of execs.
    pub details: Vec<Details>,
    /// Resource usage of exits.
    pub usages: Vec<(Task, Usage)>,
    /// Whether the recording was limited to a part of the events.
    pub is_partial: bool,
    /// The last counts of the ring.
    pub ring: Option<RingCounts>,
    /// The end; `None` if the capture is still being written.
    pub end: Option<End>,
    /// What `pmon verify` reports.
    pub report: VerifyReport,
}

impl CaptureContents {
    /// Reads a file. Fails the test if the file is damaged.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        Self::from_bytes(File::open(path).expect("a capture"))
    }

    /// Reads bytes. Fails the test if they are damaged.
    #[track_caller]
    pub fn from_bytes(bytes: impl Read) -> Self {
        Self::try_from_bytes(bytes, |_| ()).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Reads bytes, and passes each record to `inspect`.
    ///
    /// # Errors
    /// If the bytes are no capture, or a damaged one.
    pub fn try_from_bytes(bytes: impl Read, mut inspect: impl FnMut(&Record<'_>)) -> Result<Self, String> {
        let mut reader = Reader::open(bytes).map_err(|error| format!("not a capture: {error}"))?;
        let mut this = Self { header: reader.header().cloned(), ..Self::default() };
        let recorder = this.header.as_ref().and_then(|header| header.meta.recorder());
        let mut verifier = Verifier::new(reader.byte_order(), recorder);
        while let Some(item) = reader.next_item().map_err(|error| error.to_string())? {
            let block = match item {
                Item::Block(block) => block,
                Item::Damage(damage) => return Err(format!("{damage:?}")),
            };
            for record in block.records() {
                verifier.count(&record);
                inspect(&record);
                if this.end.is_some() {
                    return Err(format!("{record:?} follows the end"));
                }
                this.add(record);
            }
        }
        this.report = verifier.finish(reader.ended_cleanly());
        ensure_equal("a clean end and a record of the end", reader.ended_cleanly(), this.end.is_some())?;
        Ok(this)
    }

    fn add(&mut self, record: Record<'_>) {
        match record {
            Record::Event(datagram, usage) => {
                self.datagrams += 1;
                let event = datagram.event(self.header().byte_order);
                if let (Some(EventBody::Exit { task, .. }), Some(usage)) =
                    (event.map(|event| event.body), usage)
                {
                    self.usages.push((task, *usage));
                }
                self.accounted.extend(event.map(AccountedRecord::Event));
            }
            Record::Details(details) if matches!(details.subject, DetailsSubject::Exec { .. }) => {
                self.details.push(*details);
            }
            Record::Scope(_) => self.is_partial = true,
            Record::Ring(counts) => self.ring = Some(counts),
            Record::Loss(loss) => self.accounted.push(AccountedRecord::Loss(loss)),
            Record::Blind(blind) => self.blind.push(blind),
            Record::Fence(fence) => self.fences.push(fence),
            Record::Witness(witness) => self.witnesses.push(witness),
            Record::Snapshot(snapshot) => self.snapshots.push(snapshot),
            Record::End(end) => self.end = Some(end),
            _ => {}
        }
    }

    /// Returns the header.
    #[track_caller]
    pub fn header(&self) -> &Header {
        self.header.as_ref().expect("a header")
    }

    /// Returns the end, with its totals.
    #[track_caller]
    pub fn totals(&self) -> End {
        self.end.expect("an end")
    }

    /// Returns the process that recorded.
    pub fn recorder(&self) -> Tgid {
        Tgid(self.header().meta.recorder_pid)
    }

    /// Returns the events, in their order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.accounted.iter().filter_map(|record| match record {
            AccountedRecord::Event(event) => Some(event),
            AccountedRecord::Loss(_) => None,
        })
    }

    /// Returns the losses, in their order.
    pub fn losses(&self) -> impl Iterator<Item = &Loss> {
        self.accounted.iter().filter_map(|record| match record {
            AccountedRecord::Loss(loss) => Some(loss),
            AccountedRecord::Event(_) => None,
        })
    }

    /// Returns the number of lost events by cause, counted from the loss records.
    pub fn lost(&self) -> LossByCause {
        let mut lost = LossByCause::default();
        self.losses().for_each(|loss| lost.add(loss.cause, loss.count()));
        lost
    }

    /// Returns the total length of the blind spans, in ns.
    pub fn blind_ns(&self) -> u64 {
        self.blind.iter().map(Blind::length_ns).sum()
    }

    /// Fails the test unless the accounting of a finished recording is consistent.
    #[track_caller]
    pub fn check(&self) {
        self.check_totals().unwrap_or_else(|why| panic!("{why}"));
        let positions: Vec<_> = self.fences.iter().map(|fence| fence.position).collect();
        assert_eq!(positions, [FencePosition::Start, FencePosition::End]);
        if !self.is_partial {
            self.number_spans().unwrap_or_else(|why| panic!("{why}"));
        }
        assert_eq!(self.report.missing, 0);
        assert!(self.report.problems.is_empty(), "{:?}", self.report.problems);
    }

    /// Compares the totals in the end record, and those of `pmon verify`, with the records.
    ///
    /// # Errors
    /// The first total that differs.
    pub fn check_totals(&self) -> Result<(), String> {
        let end = self.end.ok_or("there is no end")?;
        ensure_equal("datagrams in the end record", end.events, self.datagrams)?;
        ensure_equal("losses in the end record", end.lost, self.lost())?;
        ensure_equal("blind ns in the end record", end.blind_ns, self.blind_ns())?;
        let VerifyReport { events, self_generated: own, lost, .. } = self.report;
        ensure_equal("datagrams that verify counts", events + own, self.datagrams)?;
        ensure_equal("losses that verify counts", lost, self.lost())
    }

    /// Returns the numbers of each CPU from the first event or loss to the last, if each number is
    /// recorded or lost, exactly once, in order.
    ///
    /// # Errors
    /// The first record whose number does not follow the previous one.
    pub fn number_spans(&self) -> Result<BTreeMap<Cpu, NumberSpan>, String> {
        let mut spans: BTreeMap<Cpu, NumberSpan> = BTreeMap::new();
        for record in &self.accounted {
            let (cpu, first, len) = match record {
                AccountedRecord::Event(event) => (event.cpu, event.seq, 1),
                AccountedRecord::Loss(loss) => (loss.cpu, loss.first, loss.count()),
            };
            let span = spans.entry(cpu).or_insert(NumberSpan { first, len: 0 });
            let expected = span.first.0.wrapping_add(span.len as u32);
            ensure_equal(&format!("the number of {record:?}"), first.0, expected)?;
            span.len += len;
        }
        Ok(spans)
    }

    /// Fails the test unless the socket's count of drops equals the number of lost events. They are
    /// equal if nothing was dropped before the first fence.
    #[track_caller]
    pub fn check_witnesses(&self) {
        let end = self.totals();
        let last = self.witnesses.last().copied().unwrap_or_default();
        assert_eq!((last.drops, last.gaps), (end.lost.in_source(), end.lost.in_source()));
        assert_eq!(end.drops, Some(last.drops));
    }

    /// Fails the test unless the fences at the start and at the end reached every CPU that is
    /// online.
    #[track_caller]
    pub fn check_fences(&self) {
        let mut unreached = self.fences.iter().flat_map(|fence| &fence.unreached);
        assert!(unreached.all(|cpu| cpu.why != UnreachedReason::Silent), "{:?}", self.fences);
    }
}

/// Returns an error unless both values are equal.
///
/// # Errors
/// Both values.
pub(crate) fn ensure_equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: T,
    expected: T,
) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}
