//! What a capture holds, and whether its account adds up.

use std::collections::HashMap;
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

/// Of a capture, what the account is made of, in order.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Event(Event),
    Loss(Loss),
}

/// A capture without damage.
#[derive(Debug, Default)]
pub struct Capture {
    pub header: Option<Header>,
    pub steps: Vec<Step>,
    pub datagrams: u64,
    pub blind: Vec<Blind>,
    pub fences: Vec<Fence>,
    pub witnesses: Vec<Witness>,
    pub snapshots: Vec<Snapshot>,
    /// Of execs.
    pub details: Vec<Details>,
    /// Of exits.
    pub usages: Vec<(Task, Usage)>,
    /// Whether it is of a part of the events only.
    pub is_partial: bool,
    pub ring: Option<RingCounts>,
    /// `None` if it is still being written.
    pub end: Option<End>,
    /// What `pmon verify` finds.
    pub report: VerifyReport,
}

impl Capture {
    /// Reads a file.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        Self::from(File::open(path).unwrap())
    }

    /// Reads bytes.
    #[track_caller]
    pub fn from(bytes: impl Read) -> Self {
        let mut reader = Reader::open(bytes).unwrap();
        let mut this = Self { header: reader.header().cloned(), ..Self::default() };
        let recorder = this.header.as_ref().and_then(|header| header.meta.recorder());
        let mut verifier = Verifier::new(reader.byte_order(), recorder);
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Block(block) => block.records().for_each(|record| {
                    verifier.count(&record);
                    this.take(record);
                }),
                Item::Damage(damage) => panic!("{damage:?}"),
            }
        }
        this.report = verifier.finish(reader.ended_cleanly());
        assert_eq!(reader.ended_cleanly(), this.end.is_some());
        this
    }

    fn take(&mut self, record: Record<'_>) {
        assert!(self.end.is_none(), "{record:?} after the end");
        match record {
            Record::Event(frame, usage) => {
                self.datagrams += 1;
                let event = frame.event(self.header().byte_order);
                if let (Some(EventBody::Exit { task, .. }), Some(usage)) =
                    (event.map(|event| event.body), usage)
                {
                    self.usages.push((task, *usage));
                }
                self.steps.extend(event.map(Step::Event));
            }
            Record::Details(details) if matches!(details.subject, DetailsSubject::Exec { .. }) => {
                self.details.push(*details);
            }
            Record::Scope(_) => self.is_partial = true,
            Record::Ring(counts) => self.ring = Some(counts),
            Record::Loss(loss) => self.steps.push(Step::Loss(loss)),
            Record::Blind(blind) => self.blind.push(blind),
            Record::Fence(fence) => self.fences.push(fence),
            Record::Witness(witness) => self.witnesses.push(witness),
            Record::Snapshot(snapshot) => self.snapshots.push(snapshot),
            Record::End(end) => self.end = Some(end),
            _ => {}
        }
    }

    pub fn header(&self) -> &Header {
        self.header.as_ref().expect("a header")
    }

    #[track_caller]
    pub fn totals(&self) -> End {
        self.end.expect("an end")
    }

    pub fn recorder(&self) -> Tgid {
        Tgid(self.header().meta.recorder_pid)
    }

    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.steps.iter().filter_map(|step| if let Step::Event(event) = step { Some(event) } else { None })
    }

    pub fn losses(&self) -> impl Iterator<Item = &Loss> {
        self.steps.iter().filter_map(|step| if let Step::Loss(loss) = step { Some(loss) } else { None })
    }

    /// Fails unless the account of a recording that has ended adds up in itself.
    #[track_caller]
    pub fn check(&self) {
        let end = self.totals();
        assert_eq!(end.events, self.datagrams);
        let mut lost = LossByCause::default();
        self.losses().for_each(|loss| lost.add(loss.cause, loss.count()));
        assert_eq!(end.lost, lost);
        assert_eq!(end.blind_ns, self.blind.iter().map(Blind::length_ns).sum::<u64>());
        let edges: Vec<_> = self.fences.iter().map(|fence| fence.position).collect();
        assert_eq!(edges, [FencePosition::Start, FencePosition::End]);
        if !self.is_partial {
            self.check_numbers();
        }
        let VerifyReport { events, self_generated: own, missing, problems, .. } = &self.report;
        assert_eq!((events + own, self.report.lost, *missing), (end.events, lost, 0));
        assert!(problems.is_empty(), "{problems:?}");
    }

    /// Of each CPU, every number from its first event on is recorded or lost, once, in order.
    #[track_caller]
    fn check_numbers(&self) {
        let mut next: HashMap<Cpu, Seq> = HashMap::new();
        for step in &self.steps {
            let (cpu, first, last) = match step {
                Step::Event(event) => (event.cpu, event.seq, event.seq),
                Step::Loss(loss) => (loss.cpu, loss.first, loss.last),
            };
            let before = next.insert(cpu, last.next());
            assert!(before.is_none_or(|next| next == first), "{before:?} was to come, not {step:?}");
        }
    }

    /// Fails unless both counts of what the socket dropped agree. They do if nothing was dropped before the first fence.
    #[track_caller]
    pub fn check_witnesses(&self) {
        let end = self.totals();
        let last = self.witnesses.last().copied().unwrap_or_default();
        assert_eq!((last.drops, last.gaps), (end.lost.in_source(), end.lost.in_source()));
        assert_eq!(end.drops, Some(last.drops));
    }

    /// Fails unless every CPU that is there was heard at the start and at the end.
    #[track_caller]
    pub fn check_edges(&self) {
        let mut unreached = self.fences.iter().flat_map(|fence| &fence.unreached);
        assert!(unreached.all(|cpu| cpu.why != UnreachedReason::Silent), "{:?}", self.fences);
    }
}
