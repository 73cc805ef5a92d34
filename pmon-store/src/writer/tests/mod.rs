//! A store in virtual time, on a filesystem that fails and fills up. Whatever happens, each number
//! of each CPU must be recorded or lost exactly once in the segments that were not removed.

mod failed_syncs;
mod failures;
mod following;
mod limits;
mod observer;
mod power_loss;
mod real_directory;
mod recovery;
mod rotation;
mod space;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pmon_analysis::Verifier;
use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{
    Blind, ClockAnchor, CpuPosition, DetailsSubject, End, Fence, FencePosition, Header, Item, Loss, Meta,
    Positions, Reader, Record, RecordedDatagram, SegmentReason, Witness,
};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid, Tid};
use pmon_record::{Division, Sink};

use super::*;
use crate::disk::{FileEntry, StoredFile};
use crate::segment::{RetentionLimits, StoreListing};
use crate::simulated::{Operation, SimulatedFilesystem};

const CPUS: usize = 2;
const STEP: Duration = Duration::from_millis(20);
const MS: u64 = 1_000_000;
/// Wall clock at the start of the recording.
const REAL: i64 = 1_795_940_102_000_000_000;

/// Options with segments of a few blocks.
fn small() -> StoreOptions {
    StoreOptions { rotate_size: 24 << 10, ..StoreOptions::default() }
}

/// Limits of only the store's size.
fn at_most(max_use: u64) -> RetentionLimits {
    RetentionLimits { max_use: Some(max_use), ..RetentionLimits::default() }
}

fn template() -> Header {
    let start = ClockAnchor { mono: MonoNs(MS), boot_ns: MS, real_ns: REAL };
    let meta = Meta {
        host: "h".into(),
        boot_id: "b".into(),
        machine_id: "m".into(),
        ticks_per_second: 100,
        start,
        ..Meta::default()
    };
    Header { uuid: [0; 16], byte_order: ByteOrder::NATIVE, meta }
}

fn model() -> ProcessModel {
    ProcessModel::new(ByteOrder::NATIVE, 100, template().meta.start)
}

/// A recorder in virtual time.
struct TestRecorder {
    fs: SimulatedFilesystem,
    writer: StoreWriter,
    handle: StoreHandle,
    base: Instant,
    now: Duration,
    /// Next number of each CPU.
    next: [u32; CPUS],
    /// Time of the last event of each CPU.
    times: [u64; CPUS],
    /// Totals since the last division.
    totals: End,
    /// Offset of the wall clock.
    real_offset: i64,
    seed: u32,
}

impl TestRecorder {
    fn new(options: StoreOptions) -> Self {
        Self::on(SimulatedFilesystem::default(), options)
    }

    fn on(fs: SimulatedFilesystem, options: StoreOptions) -> Self {
        let (base, now) = (Instant::now(), fs.now());
        let filesystem = Arc::new(fs.clone());
        let (writer, handle, _) =
            StoreWriter::open(filesystem, template(), options, model(), base + now).unwrap();
        let next = [100, u32::MAX - 50];
        let totals = End::default();
        Self { fs, writer, handle, base, now, next, times: [0; CPUS], totals, real_offset: 0, seed: 1 }
    }

    fn mono(&self) -> MonoNs {
        MonoNs(2 * MS + self.now.as_nanos() as u64)
    }

    /// Records an event of each CPU `count` times.
    fn events(&mut self, count: usize) {
        for cpu in (0..CPUS).cycle().take(count * CPUS) {
            // Numbers that do not compress well.
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let tgid = Tgid((self.seed >> 26) + 1);
            let mut comm = [b'x'; 16];
            comm[..8].copy_from_slice(format!("{:08x}", self.seed.rotate_left(9)).as_bytes());
            let body = EventBody::Comm { task: Task { tid: Tid(tgid.0), tgid }, comm: Comm(comm) };
            self.times[cpu] = self.mono().0;
            let event = Event { time: self.mono(), seq: Seq(self.next[cpu]), cpu: Cpu(cpu as u32), body };
            self.next[cpu] = self.next[cpu].wrapping_add(1);
            self.totals.events += 1;
            self.writer.record(&RecordedDatagram::Event(event).into()).unwrap();
        }
    }

    /// Records a loss of the first CPU.
    fn lose(&mut self, count: u32) {
        let (first, last) = (self.next[0], self.next[0].wrapping_add(count - 1));
        self.next[0] = last.wrapping_add(1);
        self.totals.lost.add(LossCause::Socket, count.into());
        let (after, before) = (MonoNs(self.times[0]), self.mono());
        let [first, last] = [Seq(first), Seq(last)];
        let loss = Loss { cpu: Cpu(0), first, last, after, before, cause: LossCause::Socket };
        self.writer.record(&Record::Loss(loss)).unwrap();
        let gaps = self.totals.lost.in_source();
        self.writer.record(&Record::Witness(Witness { time: before, drops: gaps, gaps })).unwrap();
    }

    fn blind(&mut self) {
        let blind = Blind { from: MonoNs(self.mono().0 - 5), until: self.mono() };
        self.totals.blind_ns += 5;
        self.writer.record(&Record::Blind(blind)).unwrap();
    }

    /// Advances the time a little, and records events.
    fn step(&mut self, events: usize) {
        self.now = (self.now + STEP).max(self.fs.now());
        self.fs.set_now(self.now);
        let now = self.base + self.now;
        self.writer.received_at(now);
        self.events(events);
        self.writer.tick(now).unwrap();
        if let Some(reason) = self.writer.segment_due() {
            self.divide(reason);
        }
    }

    fn steps(&mut self, count: usize, events: usize) {
        (0..count).for_each(|_| self.step(events));
    }

    fn clock(&self) -> ClockAnchor {
        let mono = self.mono();
        ClockAnchor { mono, boot_ns: mono.0, real_ns: REAL + self.now.as_nanos() as i64 + self.real_offset }
    }

    fn positions(&self) -> Positions {
        let cpus = (0..CPUS).filter(|&cpu| self.times[cpu] > 0).map(|cpu| CpuPosition {
            cpu: Cpu(cpu as u32),
            next: Seq(self.next[cpu]),
            time: MonoNs(self.times[cpu]),
        });
        Positions { time: self.mono(), cpus: cpus.collect(), source_drops: None }
    }

    fn end(&mut self) -> End {
        let drops = Some(self.totals.lost.in_source());
        let end = End { time: self.mono(), drops, ..self.totals };
        self.totals = End::default();
        end
    }

    fn divide(&mut self, reason: SegmentReason) {
        let positions = self.positions();
        self.writer.record(&Record::Positions(positions.clone())).unwrap();
        let end = self.end();
        self.writer.begin_segment(&Division { reason, clock: self.clock(), positions }).unwrap();
        self.writer.end_segment(&end).unwrap();
    }

    /// Ends the recording.
    fn finish(mut self) -> (SimulatedFilesystem, [u32; CPUS], Result<(), SinkError>) {
        let (positions, end) = (self.positions(), self.end());
        self.writer.record(&Record::Positions(positions)).unwrap();
        self.writer.record(&Record::End(end)).unwrap();
        let finished = self.writer.finish();
        (self.fs, self.next, finished)
    }
}

/// What the segments of a store hold.
#[derive(Debug, Default)]
struct Contents {
    segments: Vec<SegmentContents>,
    recorded: [BTreeSet<u32>; CPUS],
    lost: [BTreeSet<u32>; CPUS],
    by_cause: LossByCause,
    blinds: u64,
}

#[derive(Debug)]
struct SegmentContents {
    name: String,
    header: Header,
    is_clean: bool,
    events: u64,
}

/// Reads a store, and checks that no number occurs twice, that each segment continues the one
/// before it, and that the verifier finds no contradiction in any segment.
fn read(fs: &SimulatedFilesystem) -> Contents {
    read_after(fs, false)
}

/// As [`read`]. After a power loss, the last second of an earlier segment may be lost.
fn read_after(fs: &SimulatedFilesystem, power_loss: bool) -> Contents {
    let listing = StoreListing::read(fs).unwrap();
    let mut contents = Contents::default();
    let mut expected: Option<(Header, Tally)> = None;
    for segment in listing.segments {
        let name = segment.entry.name;
        let header = Header::read(&mut fs.open(&name).unwrap()).unwrap().unwrap();
        let positions = header.meta.segment.as_ref().unwrap().positions.clone();
        let mut tally = Tally::at(&positions);
        if let Some((previous, end)) = expected.as_ref().filter(|_| !power_loss) {
            assert_eq!(header.meta.previous, Some(previous.uuid), "{name}");
            if header.meta.segment.as_ref().unwrap().reason.is_continuous() {
                assert_eq!(positions, end.positions(), "{name}");
            }
        }
        let mut verifier = Verifier::new(header.byte_order, None);
        let mut reader = Reader::open_sparse(fs.open(&name).unwrap(), |file| file.skip_hole()).unwrap();
        let mut events = 0;
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Damage(damage) => verifier.damage(&damage),
                Item::Block(block) => {
                    for record in block.records() {
                        tally.apply(&record, header.byte_order);
                        verifier.count(&record);
                        events += u64::from(matches!(record, Record::Event(..)));
                        contents.add(&record, &name);
                    }
                }
            }
        }
        let report = verifier.finish(reader.ended_cleanly());
        assert!(
            report.problems.is_empty() || power_loss && report.damaged > 0,
            "{name}: {:?}",
            report.problems
        );
        expected = Some((header.clone(), tally));
        contents.segments.push(SegmentContents { name, header, is_clean: report.is_sealed, events });
    }
    contents
}

impl Contents {
    fn add(&mut self, record: &Record<'_>, name: &str) {
        match record {
            Record::Event(datagram, _) => {
                let event = datagram.event(ByteOrder::NATIVE).unwrap();
                let cpu = event.cpu.0 as usize;
                let is_new = self.recorded[cpu].insert(event.seq.0) && !self.lost[cpu].contains(&event.seq.0);
                assert!(is_new, "{} of CPU {cpu} occurs twice, the second time in {name}", event.seq);
            }
            Record::Loss(loss) => {
                let cpu = loss.cpu.0 as usize;
                self.by_cause.add(loss.cause, loss.count());
                for number in (0..loss.count()).map(|n| loss.first.0.wrapping_add(n as u32)) {
                    let is_new = self.lost[cpu].insert(number) && !self.recorded[cpu].contains(&number);
                    assert!(is_new, "{number} of CPU {cpu} occurs twice, the second time in {name}");
                }
            }
            Record::Blind(_) => self.blinds += 1,
            _ => {}
        }
    }

    fn lost_to_storage(&self) -> u64 {
        self.by_cause.of(LossCause::Storage)
    }

    /// Checks that every number up to `next` is recorded or lost, from the first segment on that
    /// was not removed.
    fn check_complete(&self, next: [u32; CPUS]) {
        let mut first = [100_u32, u32::MAX - 50];
        for position in &self.segments[0].header.meta.segment.as_ref().unwrap().positions {
            first[position.cpu.0 as usize] = position.next.0;
        }
        for cpu in 0..CPUS {
            let count = next[cpu].wrapping_sub(first[cpu]) as usize;
            assert_eq!(self.recorded[cpu].len() + self.lost[cpu].len(), count, "CPU {cpu}");
        }
    }

    fn reasons(&self) -> Vec<SegmentReason> {
        self.segments.iter().map(|segment| segment.header.meta.segment.as_ref().unwrap().reason).collect()
    }
}
