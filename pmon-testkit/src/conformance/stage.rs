//! A host at work: the events that were emitted, received and missed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use pmon_core::batch::{Arrival, Batch, Datagram};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, Seq};

use super::Host;

/// Nothing takes so long, unless something is broken, or there is a storm.
const LONG: Duration = Duration::from_secs(5);
/// The names of the events that are emitted here begin so, and go on with a number.
const NAME: &str = "own-";

/// A host at work, and the events that were emitted, received and missed.
pub(crate) struct Stage<H> {
    pub(crate) name: &'static str,
    pub(crate) host: H,
    /// The next event's name.
    next: u32,
    /// The last number of each CPU.
    last: BTreeMap<Cpu, Seq>,
    /// Numbers that are missing between.
    pub(crate) missing: u64,
    drops: u64,
    /// Events that were not emitted here.
    others: u64,
}

/// A datagram that came.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) arrival: Arrival,
    pub(crate) bytes: Vec<u8>,
    /// What the kernel has sent, if it is that.
    pub(crate) event: Option<Event>,
    /// Which of the events that were emitted here it is.
    pub(crate) own: Option<u32>,
}

/// All that was there.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) heard: Vec<Heard>,
    pub(crate) overruns: usize,
}

impl<H: Host> Stage<H> {
    pub(crate) fn new(name: &'static str, host: H) -> Self {
        Self { name, host, next: 0, last: BTreeMap::new(), missing: 0, drops: 0, others: 0 }
    }

    /// Events that were not emitted here, and those that were lost.
    pub(crate) fn others(&mut self) -> u64 {
        self.others + self.host.lost()
    }

    pub(crate) fn batch(&self, frames: usize) -> Batch {
        let largest = self.host.largest_annex();
        Batch::with_metadata(frames, frames * largest, largest)
    }

    /// Emits so many events, and says which.
    pub(crate) fn emit(&mut self, cpu: Cpu, events: u32) -> Range<u32> {
        let first = self.next;
        self.next += events;
        (first..self.next).for_each(|number| self.host.emit(cpu, &format!("{NAME}{number}")));
        first..self.next
    }

    /// Has every CPU emit an event, and hears them all.
    pub(crate) fn fence(&mut self) {
        let cpus = self.host.cpus();
        let emitted: Vec<_> = cpus.iter().flat_map(|&cpu| self.emit(cpu, 1)).collect();
        assert_eq!(self.drain().own(), emitted);
    }

    /// One call, which keeps to the contract as far as one call can show.
    pub(crate) fn receive(&mut self, batch: &mut Batch) -> (Received, Vec<Heard>) {
        let before: Vec<_> = batch.datagrams().map(|frame| (frame.bytes.to_vec(), frame.arrival)).collect();
        let was_full = batch.is_full();
        let received = self.host.source().receive(batch).unwrap();
        let kept: Vec<_> =
            batch.datagrams().take(before.len()).map(|f| (f.bytes.to_vec(), f.arrival)).collect();
        assert_eq!(kept, before, "what the batch held is as it was");
        let appended = batch.len() - before.len();
        assert_eq!(
            appended,
            if let Received::Datagrams(frames) = received { frames } else { 0 },
            "{received:?}"
        );
        assert!(appended > 0 || was_full || received != Received::Datagrams(0), "nothing is `Empty`");
        assert!(received != Received::Closed);
        let heard = batch.datagrams_from(before.len()).map(|frame| heard(frame, self.host.tid())).collect();
        (received, heard)
    }

    /// All that is there, in batches of so many datagrams.
    pub(crate) fn drain_by(&mut self, frames: usize) -> Drained {
        let mut batch = self.batch(frames);
        let mut drained = Drained::default();
        let since = Instant::now();
        loop {
            batch.clear();
            let (received, heard) = self.receive(&mut batch);
            self.account(&heard);
            drained.heard.extend(heard);
            match received {
                Received::Empty => break,
                Received::Overrun => drained.overruns += 1,
                Received::Datagrams(_) | Received::Closed => {}
            }
            assert!(since.elapsed() < LONG, "there is no end of it");
        }
        self.drops();
        drained
    }

    pub(crate) fn drain(&mut self) -> Drained {
        self.drain_by(512)
    }

    /// What the source says that it has dropped.
    pub(crate) fn drops(&mut self) -> Option<u64> {
        let drops = self.host.source().drops().unwrap()?;
        assert!(drops >= self.drops, "{drops} drops after {}", self.drops);
        self.drops = drops;
        Some(drops)
    }

    /// Counts the numbers that are missing before these. Of a CPU, none comes twice, or late.
    pub(crate) fn account(&mut self, heard: &[Heard]) {
        self.others += heard.iter().filter(|heard| heard.own.is_none()).count() as u64;
        for event in heard.iter().filter_map(|heard| heard.event) {
            if let Some(last) = self.last.insert(event.cpu, event.seq) {
                let since = event.seq.0.wrapping_sub(last.0);
                assert!((1..1 << 31).contains(&since), "{} after {last} on CPU {}", event.seq, event.cpu);
                self.missing += u64::from(since) - 1;
            }
        }
    }
}

impl Drained {
    /// Which of the events that were emitted here are in it, in their order.
    pub(crate) fn own(&self) -> Vec<u32> {
        own(&self.heard)
    }
}

pub(crate) fn own(heard: &[Heard]) -> Vec<u32> {
    heard.iter().filter_map(|heard| heard.own).collect()
}

fn heard(frame: Datagram<'_>, tid: u32) -> Heard {
    let is_kernels = frame.arrival.sender == 0;
    let event = Event::decode(frame.bytes, ByteOrder::NATIVE).ok().filter(|_| is_kernels);
    let own = event.and_then(|event| match event.body {
        EventBody::Comm { task, comm } if task.tid.0 == tid => number(&comm),
        _ => None,
    });
    Heard { arrival: frame.arrival, bytes: frame.bytes.to_vec(), event, own }
}

/// The number in such a name.
fn number(comm: &Comm) -> Option<u32> {
    std::str::from_utf8(comm.as_bytes()).ok()?.strip_prefix(NAME)?.parse().ok()
}
