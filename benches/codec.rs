//! The hot paths of `pmon-core`, each on events like those of a real host: `cargo bench --bench codec`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pmon_core::batch::Batch;
use pmon_core::capture::{Encoder, Frame, Header, Item, Meta, Reader, Record};
use pmon_core::wire::{Body, ByteOrder, Comm, EVENT_FRAME, Event};
use pmon_core::{Cpu, MonoNs, Seq, Task};

const ORDER: ByteOrder = ByteOrder::NATIVE;
const EVENTS: usize = 1 << 16;

/// Processes of a build: shells that start compilers, which name threads of their own, on four CPUs; times with
/// the spread that a real clock has.
fn events() -> Vec<Event> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let (mut seqs, mut time, mut pid) = ([0_u32; 4], 1_u64 << 40, 1000_u32);
    let shell = Task::new(900, 900);
    let mut events = Vec::new();
    while events.len() < EVENTS {
        pid += 2;
        let (process, thread) = (Task::new(pid, pid), Task::new(pid + 1, pid));
        let leader = Some(shell);
        let exit = |task, signal, parent| Body::Exit { task, code: 0, signal, parent };
        for body in [
            Body::Fork { parent: shell, child: process },
            Body::Exec { task: process },
            Body::Fork { parent: shell, child: thread },
            Body::Comm { task: thread, comm: Comm(*b"worker-thread\0\0\0") },
            exit(thread, u32::MAX, Some(Task::default())),
            exit(process, 17, leader),
        ] {
            let cpu = next(4) as usize;
            seqs[cpu] += 1;
            time += 2_000 + next(300_000);
            events.push(Event { time: MonoNs(time), seq: Seq(seqs[cpu]), cpu: Cpu(cpu as u32), body });
        }
    }
    events.truncate(EVENTS);
    events
}

fn frames() -> Vec<[u8; EVENT_FRAME]> {
    events().iter().filter_map(|event| event.encode(ORDER)).collect()
}

fn header() -> Header {
    Header { uuid: [7; 16], frame_order: ORDER, meta: Meta::default() }
}

fn capture() -> Vec<u8> {
    let mut encoder = Encoder::new(&header()).unwrap();
    let mut out = encoder.header().to_vec();
    for event in events() {
        encoder.push(&Record::Event(Frame::Event(event), None)).unwrap();
    }
    out.extend_from_slice(encoder.seal());
    out.extend_from_slice(encoder.finish());
    out
}

fn wire(c: &mut Criterion) {
    let frames = frames();
    let mut batch = Batch::with_capacity(EVENTS);
    frames.iter().for_each(|frame| assert!(batch.push(frame, 0)));
    let events = events();
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("decode", |b| {
        b.iter(|| {
            for frame in batch.frames() {
                black_box(Event::decode(black_box(frame.bytes), ORDER).unwrap());
            }
        });
    });
    group.bench_function("encode", |b| {
        b.iter(|| {
            for event in &events {
                black_box(black_box(event).encode(ORDER));
            }
        });
    });
    group.finish();
}

fn captures(c: &mut Criterion) {
    let frames = frames();
    let bytes = capture();
    let mut group = c.benchmark_group("capture");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("write", |b| {
        let mut encoder = Encoder::new(&header()).unwrap();
        b.iter(|| {
            for frame in &frames {
                encoder.push_frame(black_box(frame)).unwrap();
            }
            black_box(encoder.seal().len())
        });
    });
    group.bench_function("read", |b| {
        b.iter(|| {
            let mut reader = Reader::open(black_box(bytes.as_slice())).unwrap();
            let mut events = 0;
            while let Some(Item::Block(block)) = reader.next_item().unwrap() {
                for record in block.records() {
                    if let Record::Event(Frame::Event(event), _) = &record {
                        black_box(event);
                        events += 1;
                    }
                }
            }
            assert_eq!(events, EVENTS);
        });
    });
    group.finish();
}

criterion_group!(benches, wire, captures);
criterion_main!(benches);
