//! Measures the replay of captures.
//!
//! `cargo bench --profile dist --bench replay`

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pmon_core::accounting::LossCause;
use pmon_core::batch::Batch;
use pmon_core::capture::{Encoder, Header, Item, Loss, Meta, Reader, Record, RecordedDatagram};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event};
use pmon_fake::{FdSource, Kernel, RecvFlags};
use pmon_interpose::{NextEvent, ReplayWorld as _};
use pmon_replay::synth::{Synth, SynthOptions};
use pmon_replay::{CaptureWorld, Replay, Speed};
use pmon_testkit::workload;

const EVENTS: usize = 1 << 20;
const BATCH: usize = 2048;

/// Returns a capture in which one event in `one_in` is lost.
fn capture(one_in: Option<usize>) -> Vec<u8> {
    let header = Header { uuid: [7; 16], byte_order: ByteOrder::NATIVE, meta: Meta::default() };
    let mut encoder = Encoder::new(&header).unwrap();
    let mut out = encoder.header().to_vec();
    for (n, event) in workload::build(EVENTS).into_iter().enumerate() {
        let Event { time, seq, cpu, .. } = event;
        let loss = Loss { cpu, first: seq, last: seq, after: time, before: time, cause: LossCause::Socket };
        match one_in {
            Some(one_in) if n % one_in == 1 => encoder.push(&Record::Loss(loss)).unwrap(),
            _ => encoder.push(&Record::Event(RecordedDatagram::Event(event), None)).unwrap(),
        }
        if encoder.pending() == 16_384 {
            out.extend_from_slice(encoder.seal());
        }
    }
    out.extend_from_slice(encoder.seal());
    out.extend_from_slice(encoder.finish());
    out
}

/// Receives until the source is empty. Returns the numbers of datagrams and overruns.
fn drain(source: &mut impl Source, batch: &mut Batch) -> (usize, usize) {
    let (mut frames, mut overruns) = (0, 0);
    loop {
        match source.receive(batch).unwrap() {
            Received::Datagrams(some) => frames += some,
            Received::Overrun => overruns += 1,
            Received::Empty | Received::Closed => return (frames, overruns),
        }
        black_box(batch.datagrams().len());
        batch.clear();
    }
}

fn replay(c: &mut Criterion) {
    let mut batch = Batch::with_capacity(BATCH);
    let mut group = c.benchmark_group("replay");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20);
    let bytes = capture(None);
    group.bench_function("read only", |b| {
        b.iter(|| {
            let mut reader = Reader::open(black_box(bytes.as_slice())).unwrap();
            while let Some(Item::Block(block)) = reader.next_item().unwrap() {
                block.records().for_each(|record| drop(black_box(record)));
            }
        });
    });
    for (name, one_in) in [("no loss", None), ("1 % lost", Some(100)), ("50 % lost", Some(2))] {
        let bytes = capture(one_in);
        let lost = one_in.map_or(0, |one_in| (0..EVENTS).filter(|n| n % one_in == 1).count());
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut replay = Replay::new(Reader::open(black_box(bytes.as_slice())).unwrap());
                assert_eq!(drain(&mut replay, &mut batch), (EVENTS - lost, lost));
            });
        });
    }
    group.finish();
}

/// Measures the part of a replay into a program that is independent of the program: each event
/// happens, and is received, alone. The processes are looked at after each event (`looking`), or
/// never (`not looking`).
fn world(c: &mut Criterion) {
    const EVENTS: u64 = 1 << 18;
    let synth = Synth::new(SynthOptions { events: EVENTS, ..SynthOptions::default() }).unwrap();
    let mut encoder = Encoder::new(&synth.header()).unwrap();
    let mut bytes = encoder.header().to_vec();
    synth
        .generate(|record| {
            encoder.push(record).unwrap();
            if encoder.pending() == 16_384 {
                bytes.extend_from_slice(encoder.seal());
            }
            Ok::<_, Infallible>(())
        })
        .unwrap();
    bytes.extend_from_slice(encoder.seal());
    bytes.extend_from_slice(encoder.finish());
    let mut group = c.benchmark_group("world");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10);
    for (name, is_looking) in [("not looking", false), ("looking", true)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let replay = Replay::new(Reader::open(black_box(bytes.as_slice())).unwrap());
                let mut world = CaptureWorld::new(replay, Speed::Instant);
                let mut socket = world.kernel().socket();
                socket.listen().unwrap();
                while world.next_event().unwrap() == NextEvent::OnDemand {
                    world.step().unwrap();
                    while socket.recv(&mut [0; 128], RecvFlags::empty()).is_ok() {}
                    world.mark_received(world.position());
                    if is_looking {
                        black_box(world.processes().task(1));
                    }
                }
            });
        });
    }
    group.finish();
}

/// Measures the fake kernel: events in memory, to one socket and to two.
fn kernel(c: &mut Criterion) {
    const AT_ONCE: usize = 512;
    let events = workload::build(1 << 16);
    let mut batch = Batch::with_capacity(BATCH);
    let mut group = c.benchmark_group("fake kernel");
    group.throughput(Throughput::Elements(events.len() as u64));
    for sockets in [1, 2] {
        let mut kernel = Kernel::new(4);
        let mut sockets: Vec<_> = (0..sockets).map(|_| kernel.socket()).collect();
        for socket in &mut sockets {
            socket.force_rcvbuf(8 << 20).unwrap();
            socket.listen().unwrap();
        }
        group.bench_function(format!("{} sockets", sockets.len()), |b| {
            b.iter(|| {
                for some in events.chunks(AT_ONCE) {
                    let mut feed = kernel.feed();
                    some.iter().for_each(|event| {
                        feed.emit(event);
                    });
                    drop(feed);
                    for socket in &mut sockets {
                        drain(socket, &mut batch);
                    }
                }
            });
        });
    }
    group.finish();
}

/// Measures the file descriptor: one thread moves events to it and reads them, in turns.
fn descriptor(c: &mut Criterion) {
    let events = workload::build(1 << 14);
    let mut batch = Batch::with_capacity(BATCH);
    let mut group = c.benchmark_group("descriptor");
    group.throughput(Throughput::Elements(events.len() as u64)).sample_size(20);
    let mut kernel = Kernel::new(4);
    kernel.set_listeners(1);
    let mut wire = kernel.nonblocking_fd_socket().unwrap();
    let mut consumer = FdSource::new(wire.consumer().unwrap());
    group.bench_function("pumped", |b| {
        b.iter(|| {
            for some in events.chunks(128) {
                let mut feed = kernel.feed();
                some.iter().for_each(|event| {
                    feed.emit(event);
                });
                drop(feed);
                let mut read = 0;
                while read < some.len() {
                    wire.pump().unwrap();
                    read += drain(&mut consumer, &mut batch).0;
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, replay, world, kernel, descriptor);
criterion_main!(benches);
