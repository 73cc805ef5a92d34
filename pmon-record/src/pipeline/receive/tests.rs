//! Receiver, queue and assembler together, driven by generated steps, without threads or a kernel.

mod stalls;

use std::collections::{BTreeMap, BTreeSet};

use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{Blind, ClockAnchor, End, FencePosition, Loss, Record, SegmentReason, Witness};
use pmon_core::wire::{EventBody, layout};
use pmon_core::{Seq, Task, Tgid};
use pmon_fake::FakeSource;
use proptest::prelude::*;

use super::*;
use crate::pipeline::assemble::{Assembler, AssemblerSettings, Checkpoint, DivisionFence, Heartbeat};
use crate::pipeline::chunk::BYTES_PER_DATAGRAM;
use crate::pipeline::queue::{DATAGRAMS_PER_CHUNK, METADATA_PER_CHUNK, is_memory_available};
use crate::pipeline::segmented_sink::SegmentedSink;

const CPUS: usize = 3;
/// Time between two events in ns.
const INTERVAL: u64 = 1_000;
/// Half the length in ns of a time in which the kernel emits no events.
const BLIND_TIME: u64 = 1_000_000_000;
/// The CPU that emits the heartbeats.
const HEARTBEAT_CPU: u32 = 0;

/// The records of a recording, by kind.
#[derive(Debug, Default)]
struct RecordedEvents {
    events: Vec<Event>,
    raw: u64,
    losses: Vec<Loss>,
    blind: Vec<Blind>,
    witness: Option<Witness>,
    fences: Vec<Fence>,
    excluded: BTreeMap<u32, u64>,
}

impl RecordedEvents {
    fn new(sink: &SegmentedSink) -> Self {
        let mut this = Self::default();
        for segment in &sink.segments {
            this.raw += segment.raw;
            segment.records.iter().for_each(|record| this.add(record));
        }
        this
    }

    fn add(&mut self, record: &Record<'_>) {
        match record {
            Record::Event(datagram, _) => self.events.extend(datagram.event(ByteOrder::NATIVE)),
            Record::Loss(loss) => self.losses.push(*loss),
            Record::Blind(blind) => self.blind.push(*blind),
            Record::Witness(witness) => self.witness = Some(*witness),
            Record::Fence(fence) => self.fences.push(fence.clone()),
            Record::Excluded(excluded) => drop(self.excluded.insert(excluded.cpu.0, excluded.count)),
            _ => {}
        }
    }
}

/// A simulated kernel and the recorder, and the expected numbers of events.
struct PipelineSimulation {
    receiver: Receiver<FakeSource>,
    output: ChunkOutput,
    assembler: Assembler<SegmentedSink>,
    /// Whether the recording is divided; otherwise, only the fences are emitted.
    is_divided: bool,
    /// The next sequence number of each CPU.
    next: [u32; CPUS],
    /// The number of excluded events of each CPU: the source's counter, which starts at any value,
    /// and the actual number.
    excluded: [(u32, u64); CPUS],
    time: u64,
    emitted: [u64; CPUS],
    forged: u64,
    malformed: u64,
    dropped: u64,
    without_memory: u64,
    /// Number of checkpoints.
    checkpoints: u64,
    /// Times of heartbeats that the kernel did not emit.
    blind: Vec<MonoNs>,
    /// The last fence that was reported.
    fence: Option<Fence>,
}

impl PipelineSimulation {
    /// Creates a recorder with this number of chunks, and CPUs whose sequence numbers start at
    /// `first`.
    fn new(chunks: usize, first: [u32; CPUS], is_divided: bool) -> Self {
        const METADATA: usize = size_of::<u32>();
        let bytes = chunks * (DATAGRAMS_PER_CHUNK * BYTES_PER_DATAGRAM + METADATA_PER_CHUNK + METADATA);
        let (receiver, output) = Receiver::new(FakeSource::new(), bytes, METADATA);
        let settings = AssemblerSettings::new(ByteOrder::NATIVE, Tgid(1));
        let mut this = Self {
            receiver,
            output,
            assembler: Assembler::new(SegmentedSink::default(), settings),
            is_divided,
            next: first,
            excluded: first.map(|seq| (seq, 0)),
            time: 0,
            emitted: [0; CPUS],
            forged: 0,
            malformed: 0,
            dropped: 0,
            without_memory: 0,
            checkpoints: 0,
            blind: Vec::new(),
            fence: None,
        };
        this.emit_fence();
        this
    }

    /// Emits the next event of a CPU.
    fn emit(&mut self, cpu: usize, body: EventBody) -> Event {
        let seq = self.next[cpu];
        self.next[cpu] = seq.wrapping_add(1);
        self.emitted[cpu] += 1;
        self.time += INTERVAL;
        Event { time: MonoNs(self.time), seq: Seq(seq), cpu: Cpu(cpu as u32), body }
    }

    /// Emits events that do not arrive.
    fn lose(&mut self, cpu: usize, count: u64) {
        for _ in 0..count {
            self.emit(cpu, sid());
        }
    }

    /// Emits an event that arrives.
    fn arrive(&mut self, cpu: usize, body: EventBody) {
        let datagram = self.emit(cpu, body).encode(ByteOrder::NATIVE).unwrap();
        self.receiver.source_mut().push_with_metadata(&datagram, &self.excluded[cpu].0.to_ne_bytes());
    }

    /// Emits an event as an older kernel does, without the bytes that only other kinds use.
    fn arrive_short(&mut self, cpu: usize) {
        const LENGTH: u8 = 60;
        let mut datagram = self.emit(cpu, sid()).encode(ByteOrder::NATIVE).unwrap()[..LENGTH.into()].to_vec();
        datagram[layout::NLMSG_LEN].copy_from_slice(&u32::from(LENGTH).to_ne_bytes());
        datagram[layout::CN_LEN].copy_from_slice(&u16::from(LENGTH - layout::PAYLOAD as u8).to_ne_bytes());
        self.receiver.source_mut().push_with_metadata(&datagram, &self.excluded[cpu].0.to_ne_bytes());
    }

    /// Emits an event on each CPU.
    fn emit_fence(&mut self) {
        (0..CPUS).for_each(|cpu| self.arrive(cpu, sid()));
    }

    fn step(&mut self, step: &PipelineStep) {
        match *step {
            PipelineStep::Arrive { cpu, count } => (0..count).for_each(|_| self.arrive(cpu, sid())),
            PipelineStep::Short { cpu } => self.arrive_short(cpu),
            PipelineStep::ForeignAck { cpu } => self.arrive(cpu, EventBody::Ack { ack: 4711, err: 0 }),
            PipelineStep::Overrun { cpu, count } => {
                self.lose(cpu, count);
                self.dropped += count;
                self.receiver.source_mut().drop(count);
                self.receiver.source_mut().overrun();
            }
            PipelineStep::Exclude { cpu, count } => {
                self.lose(cpu, count);
                self.excluded[cpu].0 = self.excluded[cpu].0.wrapping_add(count as u32);
                self.excluded[cpu].1 += count;
            }
            PipelineStep::NoMemory { cpu, count } => {
                self.lose(cpu, count);
                self.without_memory += count;
            }
            PipelineStep::Forge { cpu } => {
                // A plausible event, with the next sequence number of the kernel.
                let event = Event {
                    time: MonoNs(self.time),
                    seq: Seq(self.next[cpu]),
                    cpu: Cpu(cpu as u32),
                    body: sid(),
                };
                self.receiver.source_mut().push_from(&event.encode(ByteOrder::NATIVE).unwrap(), 4711);
                self.forged += 1;
            }
            PipelineStep::Malformed => {
                self.receiver.source_mut().push(b"what is this?");
                self.malformed += 1;
            }
            PipelineStep::Blind => {
                // Everything before is received. Events that the kernel does not emit have no
                // sequence numbers, so there is nothing to simulate.
                self.emit_fence();
                self.drain();
                self.time += BLIND_TIME;
                let (began, ended) = (MonoNs(self.time), MonoNs(self.time + 9));
                self.blind.push(began);
                self.checkpoints += 1;
                let number = self.checkpoints;
                let heartbeat = Heartbeat { began, ended, cpu: Cpu(HEARTBEAT_CPU) };
                self.assembler.add_checkpoint(number, Checkpoint::Heartbeat(heartbeat)).unwrap();
                self.receiver.complete_checkpoints(number);
                self.time += BLIND_TIME;
                self.emit_fence();
            }
            PipelineStep::Fence => {
                let fence =
                    Fence { time: MonoNs(self.time), position: FencePosition::Start, unreached: Vec::new() };
                self.receiver.set_fence(fence.clone());
                self.fence = Some(fence);
            }
            PipelineStep::Divide { is_fenced } => self.divide(is_fenced),
            PipelineStep::Receive => {
                self.receive();
            }
            PipelineStep::HandOver => {
                self.receiver.hand_over().unwrap();
            }
            PipelineStep::Write { chunks } => self.write(chunks),
        }
    }

    /// Divides the recording, with or without the writer thread waiting for the fence.
    fn divide(&mut self, is_fenced: bool) {
        let since = MonoNs(self.time + 1);
        if self.is_divided {
            self.assembler.prepare_division(since, (0..CPUS as u32).map(Cpu).collect(), None);
        }
        self.emit_fence();
        self.checkpoints += 1;
        let reached = (0..CPUS as u32).map(Cpu).collect();
        let fence = DivisionFence { began: since, reached, unreached: Vec::new() };
        self.assembler.add_checkpoint(self.checkpoints, Checkpoint::Fence(fence)).unwrap();
        if is_fenced {
            self.drain();
            self.receiver.hand_over().unwrap();
            self.write(usize::MAX);
            self.receiver.complete_checkpoints(self.checkpoints);
            self.receiver.hand_over().unwrap();
            self.write(usize::MAX);
            assert!(!self.is_divided || self.assembler.is_fenced());
        }
        if self.is_divided {
            let clock = ClockAnchor { mono: MonoNs(self.time), ..ClockAnchor::default() };
            self.assembler.divide(SegmentReason::Request, clock, None).unwrap();
        }
    }

    /// Receives once, as the drain thread does.
    fn receive(&mut self) -> ReceiveStatus {
        let status = self.receiver.receive().unwrap();
        if status == ReceiveStatus::Full {
            self.receiver.hand_over().unwrap();
        }
        status
    }

    fn drain(&mut self) {
        while self.receive() != ReceiveStatus::Drained {}
    }

    fn write(&mut self, chunks: usize) {
        for _ in 0..chunks {
            let Some(chunk) = self.output.pop() else { return };
            self.assembler.add_chunk(&chunk).unwrap();
            self.output.recycle(chunk);
        }
    }

    /// Ends the recording with an event of every CPU. The writer thread lags as much as before.
    fn finish(mut self) -> (ExpectedTotals, SegmentedSink) {
        self.drain();
        self.emit_fence();
        self.drain();
        self.receiver.finish().unwrap();
        self.write(usize::MAX);
        let end = self.assembler.finish(MonoNs(self.time)).unwrap();
        let excluded = self.excluded.map(|(_, count)| count);
        let Self { assembler, emitted, forged, malformed, dropped, without_memory, blind, fence, .. } = self;
        let expected = ExpectedTotals {
            end,
            emitted,
            excluded,
            forged,
            malformed,
            dropped,
            without_memory,
            blind,
            fence,
        };
        (expected, assembler.into_sink())
    }
}

/// The numbers of events according to the simulated kernel, and the recorder's totals.
struct ExpectedTotals {
    end: End,
    emitted: [u64; CPUS],
    excluded: [u64; CPUS],
    forged: u64,
    malformed: u64,
    dropped: u64,
    without_memory: u64,
    blind: Vec<MonoNs>,
    fence: Option<Fence>,
}

#[derive(Clone, Debug)]
enum PipelineStep {
    /// Events arrive in the source.
    Arrive { cpu: usize, count: u64 },
    /// An older kernel's event arrives.
    Short { cpu: usize },
    /// Another listener subscribes.
    ForeignAck { cpu: usize },
    /// The source drops events, counts them and reports an overrun.
    Overrun { cpu: usize, count: u64 },
    /// A filter excludes events.
    Exclude { cpu: usize, count: u64 },
    /// The kernel has no memory for events and reports nothing.
    NoMemory { cpu: usize, count: u64 },
    /// User space sends a message.
    Forge { cpu: usize },
    /// The kernel sends a datagram without an event.
    Malformed,
    /// For a time, the kernel emits no events and uses no sequence numbers.
    Blind,
    /// The drain thread reports a fence.
    Fence,
    /// The recording is divided, after the fence of the division or without it.
    Divide { is_fenced: bool },
    /// The drain thread receives once.
    Receive,
    /// The drain thread hands its chunk over.
    HandOver,
    /// The writer thread processes chunks.
    Write { chunks: usize },
}

fn sid() -> EventBody {
    EventBody::Sid { task: Task::new(9, 9) }
}

fn steps() -> impl Strategy<Value = Vec<PipelineStep>> {
    let cpu = || 0..CPUS;
    let step = prop_oneof![
        6 => (cpu(), prop_oneof![4 => 1..5_u64, 1 => 200..1500_u64]).prop_map(|(cpu, count)| PipelineStep::Arrive { cpu, count }),
        1 => cpu().prop_map(|cpu| PipelineStep::Short { cpu }),
        1 => cpu().prop_map(|cpu| PipelineStep::ForeignAck { cpu }),
        2 => (cpu(), 1..50_u64).prop_map(|(cpu, count)| PipelineStep::Overrun { cpu, count }),
        2 => (cpu(), 1..50_u64).prop_map(|(cpu, count)| PipelineStep::Exclude { cpu, count }),
        1 => (cpu(), 1..5_u64).prop_map(|(cpu, count)| PipelineStep::NoMemory { cpu, count }),
        1 => cpu().prop_map(|cpu| PipelineStep::Forge { cpu }),
        1 => Just(PipelineStep::Malformed),
        1 => Just(PipelineStep::Blind),
        1 => Just(PipelineStep::Fence),
        2 => any::<bool>().prop_map(|is_fenced| PipelineStep::Divide { is_fenced }),
        4 => Just(PipelineStep::Receive),
        2 => Just(PipelineStep::HandOver),
        2 => (1..4_usize).prop_map(|chunks| PipelineStep::Write { chunks }),
    ];
    prop::collection::vec(step, 0..60)
}

/// Checks that each sequence number of each CPU is recorded or lost exactly once, unless it was
/// excluded, and that no other one is.
fn check(
    first: [u32; CPUS],
    expected: &ExpectedTotals,
    recorded: &RecordedEvents,
) -> Result<(), TestCaseError> {
    let ExpectedTotals { end, emitted, excluded, forged, malformed, dropped, without_memory, blind, fence } =
        expected;
    let mut numbers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for event in &recorded.events {
        numbers.entry(event.cpu.0).or_default().push(event.seq.0);
    }
    let mut lost = LossByCause::default();
    for loss in &recorded.losses {
        let missing = (0..loss.count()).map(|n| loss.first.0.wrapping_add(n as u32));
        numbers.entry(loss.cpu.0).or_default().extend(missing);
        lost.add(loss.cause, loss.count());
    }
    for (cpu, (first, emitted)) in first.into_iter().zip(emitted).enumerate() {
        let numbers = &numbers[&(cpu as u32)];
        let emitted_numbers: BTreeSet<_> = (0..*emitted).map(|n| first.wrapping_add(n as u32)).collect();
        prop_assert_eq!(numbers.len() as u64, *emitted - excluded[cpu], "cpu {}", cpu);
        // It is unknown which events of a partly excluded gap were excluded.
        let numbers: BTreeSet<_> = numbers.iter().copied().collect();
        prop_assert_eq!(numbers.len() as u64, *emitted - excluded[cpu], "cpu {}", cpu);
        prop_assert!(numbers.is_subset(&emitted_numbers), "cpu {}", cpu);
        let recorded_excluded = recorded.excluded.get(&(cpu as u32)).copied().unwrap_or(0);
        prop_assert_eq!(recorded_excluded, excluded[cpu], "cpu {}", cpu);
    }
    prop_assert_eq!(end.lost, lost);
    prop_assert_eq!((end.rejected, end.malformed), (*forged, *malformed));
    prop_assert_eq!(end.events, recorded.events.len() as u64 + recorded.raw);
    prop_assert_eq!(lost.of(LossCause::Unknown), 0);
    // The sum is exact: the events that the source dropped, and those that never reached it.
    prop_assert_eq!(lost.in_source(), dropped + without_memory);
    prop_assert_eq!((lost.of(LossCause::Socket), end.drops), (*dropped, Some(*dropped)));
    let witness = recorded.witness.map(|witness| (witness.drops, witness.gaps)).unwrap_or_default();
    prop_assert_eq!(witness, (*dropped, lost.in_source()));
    // A missing heartbeat is reported, unless it may be among lost events of its CPU.
    for &beat in blind {
        let is_reported = recorded.blind.iter().any(|blind| blind.from <= beat && beat <= blind.until);
        let may_hold = |loss: &Loss| loss.cpu.0 == HEARTBEAT_CPU && loss.after <= beat && beat <= loss.before;
        prop_assert!(is_reported || recorded.losses.iter().any(may_hold), "{:?}", beat);
    }
    prop_assert!(recorded.blind.len() <= blind.len());
    // A later fence replaces one that is not recorded yet.
    prop_assert_eq!(recorded.fences.last(), fence.as_ref());
    prop_assert_eq!(end.blind_ns, recorded.blind.iter().map(Blind::length_ns).sum::<u64>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn each_emitted_event_is_recorded_or_counted_as_lost(
        chunks in 2..5_usize,
        first in prop::array::uniform3(prop_oneof![any::<u32>(), (u32::MAX - 300)..=u32::MAX]),
        steps in steps(),
    ) {
        let record = |is_divided| {
            let mut simulation = PipelineSimulation::new(chunks, first, is_divided);
            steps.iter().for_each(|step| simulation.step(step));
            simulation.finish()
        };
        let (expected, undivided) = record(false);
        let undivided = RecordedEvents::new(&undivided);
        check(first, &expected, &undivided)?;
        let (_, divided) = record(true);
        check_divided(&expected, &undivided, &divided)?;
    }
}

/// Checks that each segment is complete in itself, and that all of them together have the records
/// and the totals of an undivided recording.
fn check_divided(
    expected: &ExpectedTotals,
    undivided: &RecordedEvents,
    divided: &SegmentedSink,
) -> Result<(), TestCaseError> {
    divided.check().map_err(TestCaseError::fail)?;
    let recorded = RecordedEvents::new(divided);
    prop_assert_eq!(&recorded.events, &undivided.events);
    prop_assert_eq!(&recorded.losses, &undivided.losses);
    let end = expected.end;
    let sum =
        |of: fn(&End) -> u64| divided.segments.iter().flat_map(|segment| &segment.end).map(of).sum::<u64>();
    let sums = [sum(|end| end.events), sum(|end| end.rejected), sum(|end| end.malformed)];
    prop_assert_eq!(sums, [end.events, end.rejected, end.malformed]);
    prop_assert_eq!(sum(|end| end.lost.total()), end.lost.total());
    prop_assert_eq!(sum(|end| end.drops.unwrap_or(0)), end.drops.unwrap_or(0));
    // A blind time may be divided as well.
    let is_covered = |blind: &Blind| {
        let mut parts =
            recorded.blind.iter().filter(|part| blind.from < part.until && part.from < blind.until);
        parts
            .try_fold(blind.from, |until, part| (part.from <= until).then_some(part.until))
            .is_some_and(|until| until >= blind.until)
    };
    prop_assert!(undivided.blind.iter().all(is_covered), "{:?} {:?}", undivided.blind, recorded.blind);
    Ok(())
}
