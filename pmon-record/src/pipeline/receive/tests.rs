//! The whole way from a source to records, driven by a script: no thread, no clock, no kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{Blind, End, FencePosition, Loss, Record, Witness};
use pmon_core::wire::{EventBody, layout};
use pmon_core::{Seq, Task, Tgid};
use pmon_fake::FakeSource;
use proptest::prelude::*;

use super::*;
use crate::pipeline::assemble::{Assembler, AssemblerSettings, Checkpoint, Heartbeat};
use crate::sink::{Sink, SinkError};

const CPUS: usize = 3;
/// One event in so many ns.
const APART: u64 = 1_000;
/// Length in ns of a time in which no events are emitted.
const LONG: u64 = 1_000_000_000;
/// The CPU that emits the heartbeats.
const BEATS: u32 = 0;

#[derive(Debug, Default)]
struct Recorded {
    events: Vec<Event>,
    raw: u64,
    losses: Vec<Loss>,
    blind: Vec<Blind>,
    witness: Option<Witness>,
    fences: Vec<Fence>,
    excluded: BTreeMap<u32, u64>,
}

impl Sink for Recorded {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        match record {
            Record::Event(frame, _) => match frame.event(ByteOrder::NATIVE) {
                Some(event) => self.events.push(event),
                None => self.raw += 1,
            },
            Record::Loss(loss) => self.losses.push(*loss),
            Record::Blind(blind) => self.blind.push(*blind),
            Record::Witness(witness) => self.witness = Some(*witness),
            Record::Fence(fence) => self.fences.push(fence.clone()),
            Record::Excluded(excluded) => drop(self.excluded.insert(excluded.cpu.0, excluded.count)),
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A kernel that numbers its events, the recorder that listens to it, and what really became of each event.
struct Host {
    receiver: Receiver<FakeSource>,
    output: ChunkOutput,
    assembler: Assembler<Recorded>,
    next: [u32; CPUS],
    /// What the source counts as left out, from any number on, and what that is more.
    excluded: [(u32, u64); CPUS],
    time: u64,
    emitted: [u64; CPUS],
    forged: u64,
    malformed: u64,
    dropped: u64,
    without_memory: u64,
    /// Times of heartbeats that were not emitted.
    blind: Vec<MonoNs>,
    told: Option<Fence>,
}

impl Host {
    /// A recorder with so many chunks, on CPUs that count from there.
    fn new(chunks: usize, first: [u32; CPUS]) -> Self {
        const ANNEX: usize = size_of::<u32>();
        let bytes = chunks * (CHUNK * FRAME + ANNEXES + ANNEX);
        let (receiver, output) = Receiver::new(FakeSource::new(), bytes, ANNEX);
        let setup = AssemblerSettings::new(ByteOrder::NATIVE, Tgid(1));
        let mut this = Self {
            receiver,
            output,
            assembler: Assembler::new(Recorded::default(), setup),
            next: first,
            excluded: first.map(|seq| (seq, 0)),
            time: 0,
            emitted: [0; CPUS],
            forged: 0,
            malformed: 0,
            dropped: 0,
            without_memory: 0,
            blind: Vec::new(),
            told: None,
        };
        this.fence();
        this
    }

    /// The next event of a CPU.
    fn emit(&mut self, cpu: usize, body: EventBody) -> Event {
        let seq = self.next[cpu];
        self.next[cpu] = seq.wrapping_add(1);
        self.emitted[cpu] += 1;
        self.time += APART;
        Event { time: MonoNs(self.time), seq: Seq(seq), cpu: Cpu(cpu as u32), body }
    }

    /// Events that do not arrive.
    fn lose(&mut self, cpu: usize, count: u64) {
        for _ in 0..count {
            self.emit(cpu, sid());
        }
    }

    fn arrive(&mut self, cpu: usize, body: EventBody) {
        let frame = self.emit(cpu, body).encode(ByteOrder::NATIVE).unwrap();
        self.receiver.source_mut().push_with_metadata(&frame, &self.excluded[cpu].0.to_ne_bytes());
    }

    /// An event as an older kernel sends it: without the bytes that only other kinds have a use for.
    fn arrive_short(&mut self, cpu: usize) {
        const LENGTH: u8 = 60;
        let mut frame = self.emit(cpu, sid()).encode(ByteOrder::NATIVE).unwrap()[..LENGTH.into()].to_vec();
        frame[layout::NLMSG_LEN].copy_from_slice(&u32::from(LENGTH).to_ne_bytes());
        frame[layout::CN_LEN].copy_from_slice(&u16::from(LENGTH - layout::PAYLOAD as u8).to_ne_bytes());
        self.receiver.source_mut().push_with_metadata(&frame, &self.excluded[cpu].0.to_ne_bytes());
    }

    /// What a fence is to the kernel: an event of each CPU, which arrives.
    fn fence(&mut self) {
        (0..CPUS).for_each(|cpu| self.arrive(cpu, sid()));
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Arrive { cpu, count } => (0..count).for_each(|_| self.arrive(cpu, sid())),
            Step::Short { cpu } => self.arrive_short(cpu),
            Step::ForeignAck { cpu } => self.arrive(cpu, EventBody::Ack { ack: 4711, err: 0 }),
            Step::Overrun { cpu, count } => {
                self.lose(cpu, count);
                self.dropped += count;
                self.receiver.source_mut().drop(count);
                self.receiver.source_mut().overrun();
            }
            Step::LeaveOut { cpu, count } => {
                self.lose(cpu, count);
                self.excluded[cpu].0 = self.excluded[cpu].0.wrapping_add(count as u32);
                self.excluded[cpu].1 += count;
            }
            Step::NoMemory { cpu, count } => {
                self.lose(cpu, count);
                self.without_memory += count;
            }
            Step::Forge { cpu } => {
                // A plausible event: the next number, as if it were the kernel's.
                let event = Event {
                    time: MonoNs(self.time),
                    seq: Seq(self.next[cpu]),
                    cpu: Cpu(cpu as u32),
                    body: sid(),
                };
                self.receiver.source_mut().push_from(&event.encode(ByteOrder::NATIVE).unwrap(), 4711);
                self.forged += 1;
            }
            Step::Malformed => {
                self.receiver.source_mut().push(b"what is this?");
                self.malformed += 1;
            }
            Step::Blind => {
                // What had arrived was taken, and then nothing: unnumbered events, so that there is nothing to simulate.
                self.fence();
                self.drain();
                self.time += LONG;
                let (began, ended) = (MonoNs(self.time), MonoNs(self.time + 9));
                self.blind.push(began);
                let number = self.blind.len() as u64;
                let heartbeat = Heartbeat { began, ended, cpu: Cpu(BEATS) };
                self.assembler.add_checkpoint(number, Checkpoint::Heartbeat(heartbeat)).unwrap();
                self.receiver.complete_checkpoints(number);
                self.time += LONG;
                self.fence();
            }
            Step::Tell => {
                let fence =
                    Fence { time: MonoNs(self.time), position: FencePosition::Start, unreached: Vec::new() };
                self.receiver.set_fence(fence.clone());
                self.told = Some(fence);
            }
            Step::ReceiveStatus => {
                self.look();
            }
            Step::HandOver => {
                self.receiver.hand_over().unwrap();
            }
            Step::Write { chunks } => self.write(chunks),
        }
    }

    /// As the drain thread does it.
    fn look(&mut self) -> ReceiveStatus {
        let look = self.receiver.receive().unwrap();
        if look == ReceiveStatus::Full {
            self.receiver.hand_over().unwrap();
        }
        look
    }

    fn drain(&mut self) {
        while self.look() != ReceiveStatus::Drained {}
    }

    fn write(&mut self, chunks: usize) {
        for _ in 0..chunks {
            let Ok(chunk) = self.output.filled.pop() else { return };
            self.assembler.add_chunk(&chunk).unwrap();
            self.output.recycle(chunk);
        }
    }

    /// The end of a recording: with a last word of every CPU, and with the writer as far behind as it is.
    fn finish(mut self) -> (Outcome, Recorded) {
        self.drain();
        self.fence();
        self.drain();
        self.receiver.finish().unwrap();
        self.write(usize::MAX);
        let end = self.assembler.finish(MonoNs(self.time)).unwrap();
        let excluded = self.excluded.map(|(_, count)| count);
        let Self { assembler, emitted, forged, malformed, dropped, without_memory, blind, told, .. } = self;
        let outcome =
            Outcome { end, emitted, excluded, forged, malformed, dropped, without_memory, blind, told };
        (outcome, assembler.into_sink())
    }
}

/// What the kernel knows, and what the recorder says.
struct Outcome {
    end: End,
    emitted: [u64; CPUS],
    excluded: [u64; CPUS],
    forged: u64,
    malformed: u64,
    dropped: u64,
    without_memory: u64,
    blind: Vec<MonoNs>,
    told: Option<Fence>,
}

#[derive(Clone, Debug)]
enum Step {
    /// Events arrive in the source.
    Arrive { cpu: usize, count: u64 },
    /// An older kernel's event arrives.
    Short { cpu: usize },
    /// Another listener subscribes.
    ForeignAck { cpu: usize },
    /// The source has no room for events, counts them and says so.
    Overrun { cpu: usize, count: u64 },
    /// Events are not wanted.
    LeaveOut { cpu: usize, count: u64 },
    /// The kernel has no memory for events: nobody says anything.
    NoMemory { cpu: usize, count: u64 },
    /// User space sends a message.
    Forge { cpu: usize },
    /// The kernel sends something else.
    Malformed,
    /// For a time, nothing is heard, and no number used.
    Blind,
    /// A fence was heard, of which the capture is to tell.
    Tell,
    /// The drain thread looks once.
    ReceiveStatus,
    /// The drain thread hands over what it has.
    HandOver,
    /// The writer thread takes chunks.
    Write { chunks: usize },
}

fn sid() -> EventBody {
    EventBody::Sid { task: Task::new(9, 9) }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cpu = || 0..CPUS;
    let step = prop_oneof![
        6 => (cpu(), prop_oneof![4 => 1..5_u64, 1 => 200..1500_u64]).prop_map(|(cpu, count)| Step::Arrive { cpu, count }),
        1 => cpu().prop_map(|cpu| Step::Short { cpu }),
        1 => cpu().prop_map(|cpu| Step::ForeignAck { cpu }),
        2 => (cpu(), 1..50_u64).prop_map(|(cpu, count)| Step::Overrun { cpu, count }),
        2 => (cpu(), 1..50_u64).prop_map(|(cpu, count)| Step::LeaveOut { cpu, count }),
        1 => (cpu(), 1..5_u64).prop_map(|(cpu, count)| Step::NoMemory { cpu, count }),
        1 => cpu().prop_map(|cpu| Step::Forge { cpu }),
        1 => Just(Step::Malformed),
        1 => Just(Step::Blind),
        1 => Just(Step::Tell),
        4 => Just(Step::ReceiveStatus),
        2 => Just(Step::HandOver),
        2 => (1..4_usize).prop_map(|chunks| Step::Write { chunks }),
    ];
    prop::collection::vec(step, 0..60)
}

/// Each number of each CPU is recorded or lost, once, and nothing else is; but those that were left out are not.
fn check(first: [u32; CPUS], outcome: &Outcome, recorded: &Recorded) -> Result<(), TestCaseError> {
    let Outcome { end, emitted, excluded, forged, malformed, dropped, without_memory, blind, told } = outcome;
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
        let wanted: BTreeSet<_> = (0..*emitted).map(|n| first.wrapping_add(n as u32)).collect();
        prop_assert_eq!(numbers.len() as u64, *emitted - excluded[cpu], "cpu {}", cpu);
        // Of a gap that is partly left out, it is not known which are.
        let numbers: BTreeSet<_> = numbers.iter().copied().collect();
        prop_assert_eq!(numbers.len() as u64, *emitted - excluded[cpu], "cpu {}", cpu);
        prop_assert!(numbers.is_subset(&wanted), "cpu {}", cpu);
        let told = recorded.excluded.get(&(cpu as u32)).copied().unwrap_or(0);
        prop_assert_eq!(told, excluded[cpu], "cpu {}", cpu);
    }
    prop_assert_eq!(end.lost, lost);
    prop_assert_eq!((end.rejected, end.malformed), (*forged, *malformed));
    prop_assert_eq!(end.events, recorded.events.len() as u64 + recorded.raw);
    prop_assert_eq!(lost.of(LossCause::Unknown), 0);
    // The sum of the causes is exact: what the source dropped, and what never came to it.
    prop_assert_eq!(lost.in_source(), dropped + without_memory);
    prop_assert_eq!((lost.of(LossCause::Socket), end.drops), (*dropped, Some(*dropped)));
    let witness = recorded.witness.map(|witness| (witness.drops, witness.gaps)).unwrap_or_default();
    prop_assert_eq!(witness, (*dropped, lost.in_source()));
    // A missing heartbeat is reported, unless it may be among lost events of its CPU.
    for &beat in blind {
        let is_told = recorded.blind.iter().any(|blind| blind.from <= beat && beat <= blind.until);
        let may_hold = |loss: &Loss| loss.cpu.0 == BEATS && loss.after <= beat && beat <= loss.before;
        prop_assert!(is_told || recorded.losses.iter().any(may_hold), "{:?}", beat);
    }
    prop_assert!(recorded.blind.len() <= blind.len());
    // One told before the last was recorded takes its place.
    prop_assert_eq!(recorded.fences.last(), told.as_ref());
    prop_assert_eq!(end.blind_ns, recorded.blind.iter().map(Blind::length_ns).sum::<u64>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn what_was_emitted_is_recorded_or_lost_to_the_event_whatever_happens(
        chunks in 2..5_usize,
        first in prop::array::uniform3(prop_oneof![any::<u32>(), (u32::MAX - 300)..=u32::MAX]),
        steps in steps(),
    ) {
        let mut host = Host::new(chunks, first);
        steps.iter().for_each(|step| host.step(step));
        let (outcome, recorded) = host.finish();
        check(first, &outcome, &recorded)?;
    }
}

/// The script's losses, by cause.
fn run(chunks: usize, steps: &[Step]) -> LossByCause {
    let mut host = Host::new(chunks, [0; CPUS]);
    steps.iter().for_each(|step| host.step(step));
    let (outcome, recorded) = host.finish();
    check([0; CPUS], &outcome, &recorded).unwrap();
    outcome.end.lost
}

#[test]
fn a_writer_that_stalls_costs_nothing_until_all_chunks_are_full_and_then_counted_events() {
    let full = |cpu, count| [Step::Arrive { cpu, count }, Step::ReceiveStatus];
    // The fence of three events is in the first chunk.
    let fits = [full(0, CHUNK as u64 - 3), full(1, CHUNK as u64)].concat();
    assert_eq!(run(3, &fits).total(), 0);
    let lost = run(2, &[fits, full(2, 300).into()].concat());
    assert_eq!(lost.of(LossCause::Backpressure), 300 + CPUS as u64);
    assert_eq!(lost.total(), 300 + CPUS as u64);
}

#[test]
fn recording_goes_on_as_soon_as_a_chunk_is_free() {
    let steps = [
        Step::Arrive { cpu: 0, count: 4 * CHUNK as u64 },
        Step::ReceiveStatus,
        Step::ReceiveStatus,
        Step::ReceiveStatus,
        Step::ReceiveStatus,
        Step::Write { chunks: 2 },
        Step::Arrive { cpu: 1, count: 5 },
    ];
    let lost = run(2, &steps);
    assert!(lost.of(LossCause::Backpressure) > 0 && lost.total() < 3 * CHUNK as u64, "{lost:?}");
}

#[test]
fn a_loss_at_the_tail_is_found_by_the_last_fence() {
    let steps = [
        Step::Arrive { cpu: 0, count: 3 },
        Step::ReceiveStatus,
        Step::Overrun { cpu: 1, count: 1000 },
        Step::ReceiveStatus,
        Step::HandOver,
    ];
    assert_eq!(run(4, &steps).of(LossCause::Socket), 1000);
}

#[test]
fn memory_that_cannot_be_there_is_told_before_any_is_allocated() {
    assert!(is_there_memory(1 << 20, 0) && is_there_memory(0, 1 << 10));
    // More than any address space, and sizes that overflow.
    for bytes in [1 << 60, usize::MAX / 2, usize::MAX] {
        assert!(!is_there_memory(bytes, 0) && !is_there_memory(bytes, 140 << 10), "{bytes}");
    }
}
