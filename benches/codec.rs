//! Measures the hot paths of `pmon-core` on events like those of a real machine.
//!
//! `cargo bench --profile dist --bench codec`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pmon_core::batch::Batch;
use pmon_core::capture::{Encoder, Header, Item, Meta, Reader, Record, RecordedDatagram};
use pmon_core::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event};

use pmon_testkit::workload;

const ORDER: ByteOrder = ByteOrder::NATIVE;
const EVENTS: usize = 1 << 16;

fn datagrams() -> Vec<[u8; EVENT_DATAGRAM_LEN]> {
    workload::build(EVENTS).iter().filter_map(|event| event.encode(ORDER)).collect()
}

fn header() -> Header {
    Header { uuid: [7; 16], byte_order: ORDER, meta: Meta::default() }
}

fn capture() -> Vec<u8> {
    let mut encoder = Encoder::new(&header()).unwrap();
    let mut out = encoder.header().to_vec();
    for event in workload::build(EVENTS) {
        encoder.push(&Record::Event(RecordedDatagram::Event(event), None)).unwrap();
    }
    out.extend_from_slice(encoder.seal());
    out.extend_from_slice(encoder.finish());
    out
}

fn wire(c: &mut Criterion) {
    let datagrams = datagrams();
    let mut batch = Batch::with_capacity(EVENTS);
    datagrams.iter().for_each(|datagram| assert!(batch.push(datagram, 0)));
    let events = workload::build(EVENTS);
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("decode", |b| {
        b.iter(|| {
            for datagram in batch.datagrams() {
                black_box(Event::decode(black_box(datagram.bytes), ORDER).unwrap());
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
    let datagrams = datagrams();
    let bytes = capture();
    let mut group = c.benchmark_group("capture");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("write", |b| {
        let mut encoder = Encoder::new(&header()).unwrap();
        b.iter(|| {
            for datagram in &datagrams {
                encoder.push_datagram(black_box(datagram)).unwrap();
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
                    if let Record::Event(RecordedDatagram::Event(event), _) = &record {
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
