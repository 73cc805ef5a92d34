//! Measures the cost of losses, from sequence numbers to records.
//!
//! `cargo bench --profile dist --bench overrun`

use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pmon_analysis::Verifier;
use pmon_core::accounting::{Accountant, Continuity, LossCause, LossLedger};
use pmon_core::capture::{Loss, Record, RecordedDatagram};
use pmon_core::source::{Received, Source as _};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use pmon_fake::FakeSource;
use pmon_record::assemble::{Assembler, AssemblerSettings};
use pmon_record::{Chunk, Sink, SinkError};

const ORDER: ByteOrder = ByteOrder::NATIVE;
/// Number of events that arrive.
const EVENTS: usize = 1 << 16;
/// Number of events in the default socket buffer of 64 MiB, at 832 bytes each.
const BURST: usize = (64 << 20) / 832;
/// Number of events per chunk, as in the recorder.
const CHUNK: usize = 512;

/// One event in this many is lost. Losses of a single event are the most expensive ones.
const LOSSES: [(&str, Option<usize>); 3] = [("0 %", None), ("1 %", Some(100)), ("50 %", Some(2))];

fn event(n: usize) -> Event {
    let (cpu, seq) = (n as u32 % 2, n as u32 / 2);
    let body = EventBody::Comm { task: Task::new(7, 7), comm: Comm(*b"f1234567\0\0\0\0\0\0\0\0") };
    Event { time: MonoNs(500 * n as u64), seq: Seq(seq), cpu: Cpu(cpu), body }
}

/// Returns whether that event is lost, on either CPU.
fn is_lost(n: usize, one_in: Option<usize>) -> bool {
    one_in.is_some_and(|one_in| n / 2 % one_in == 1)
}

/// Returns events of two CPUs in turn, without the lost ones.
fn events(one_in: Option<usize>) -> Vec<Event> {
    (0..).filter(|&n| !is_lost(n, one_in)).map(event).take(EVENTS).collect()
}

/// Returns the same events with a record for each loss.
fn records(one_in: Option<usize>) -> Vec<Record<'static>> {
    let record = |n| {
        let Event { time, seq, cpu, .. } = event(n);
        let loss = Loss { cpu, first: seq, last: seq, after: time, before: time, cause: LossCause::Socket };
        if is_lost(n, one_in) {
            Record::Loss(loss)
        } else {
            Record::Event(RecordedDatagram::Event(event(n)), None)
        }
    };
    (0..EVENTS).map(record).collect()
}

/// A sink that discards records.
struct NullSink;

impl Sink for NullSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        black_box(record);
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

fn assembler() -> Assembler<NullSink> {
    Assembler::new(NullSink, AssemblerSettings::new(ORDER, Tgid(1)))
}

/// Measures the accounting: gaps of numbers, and their causes.
fn accounting(c: &mut Criterion) {
    let mut group = c.benchmark_group("accounting");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, one_in) in LOSSES {
        let events = events(one_in);
        group.bench_function(name, |b| {
            b.iter(|| {
                let (mut accountant, mut ledger) = (Accountant::new(), LossLedger::default());
                ledger.note_drops(EVENTS as u64);
                for event in &events {
                    if let Continuity::Gap(gap) = accountant.observe(black_box(event), 0) {
                        for part in ledger.split(&gap) {
                            black_box(part);
                        }
                    }
                }
                accountant.lost()
            });
        });
    }
    group.finish();
}

/// Measures the assembler: datagrams to records.
fn assembling(c: &mut Criterion) {
    let mut group = c.benchmark_group("assemble");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, one_in) in LOSSES {
        let chunks: Vec<Chunk> = events(one_in)
            .chunks(CHUNK)
            .map(|events| {
                let mut chunk = Chunk::with_capacity(CHUNK);
                let frames = events.iter().map(|event| event.encode(ORDER).unwrap());
                frames.for_each(|frame| assert!(chunk.batch.push(&frame, 0)));
                (chunk.overruns, chunk.drops) = (1, Some(EVENTS as u64));
                chunk
            })
            .collect();
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut assembler = assembler();
                chunks.iter().for_each(|chunk| assembler.add_chunk(black_box(chunk)).unwrap());
                assembler.counters().lost.total()
            });
        });
    }
    group.finish();
}

/// Measures the verifier: records to a verdict.
fn verifying(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, one_in) in LOSSES {
        let records = records(one_in);
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut verifier = Verifier::new(ORDER, Some(Tgid(1)));
                records.iter().for_each(|record| verifier.count(black_box(record)));
                verifier.finish(true).lost
            });
        });
    }
    group.finish();
}

/// Measures the recovery from an overrun: a full socket buffer is emptied and accounted for.
fn recovery(c: &mut Criterion) {
    let frames: Vec<_> = (0..BURST).map(|n| event(n).encode(ORDER).unwrap()).collect();
    let full = || {
        let mut source = FakeSource::new();
        source.overrun();
        frames.iter().for_each(|frame| source.push(frame));
        source.drop(1000);
        source.close();
        source
    };
    let mut group = c.benchmark_group("recovery");
    group.throughput(Throughput::Elements(BURST as u64)).sample_size(20);
    group.bench_function("burst", |b| {
        let mut chunk = Chunk::with_capacity(CHUNK);
        b.iter_batched_ref(
            || (full(), assembler()),
            |(source, assembler)| {
                loop {
                    chunk.clear();
                    match source.receive(&mut chunk.batch).unwrap() {
                        Received::Overrun => chunk.overruns += 1,
                        Received::Datagrams(_) => {}
                        Received::Empty | Received::Closed => return assembler.counters().events,
                    }
                    chunk.drops = source.drops().unwrap();
                    assembler.add_chunk(&chunk).unwrap();
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, accounting, assembling, verifying, recovery);
criterion_main!(benches);
