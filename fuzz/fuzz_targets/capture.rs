//! Any file: no panic, no loop. The fuzzer cannot guess checksums, so that the first byte says
//! whether the rest is a file as it is, or datagrams to record and read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pmon_core::capture::{Encoder, RecordedDatagram, Header, Item, Meta, Reader, Record, Usage};
use pmon_core::wire::{EventBody, ByteOrder};

const ORDER: ByteOrder = ByteOrder::Little;

type Datagram = (Vec<u8>, Option<Usage>);

fn read(bytes: &[u8]) -> Vec<Datagram> {
    let mut frames = Vec::new();
    let Ok(mut reader) = Reader::open(bytes) else { return frames };
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { continue };
        for record in block.records() {
            if let Record::Event(frame, usage) = record {
                frames.push((frame.with_bytes(ORDER, <[u8]>::to_vec), usage.map(|usage| *usage)));
            }
        }
    }
    assert!(reader.effort() <= 16 * bytes.len() as u64 + (32 << 20));
    frames
}

/// Of every second exit, one that is made of its numbers.
fn usage(frame: &RecordedDatagram<'_>) -> Option<Usage> {
    let RecordedDatagram::Event(event) = frame else { return None };
    let EventBody::Exit { code, signal, .. } = event.body else { return None };
    let usage = Usage { start_ticks: code.into(), cpu_us: event.time.0, threads: signal, ..Usage::default() };
    (code & 1 == 0).then_some(usage)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    if first & 1 == 0 {
        read(rest);
        return;
    }
    let frames = rest.chunks(usize::from(first).max(2)).map(|bytes| RecordedDatagram::new(bytes, ORDER));
    let frames: Vec<_> = frames.map(|frame| (frame, usage(&frame))).collect();
    let header = Header { uuid: [3; 16], byte_order: ORDER, meta: Meta::default() };
    let mut encoder = Encoder::new(&header).unwrap();
    for (frame, usage) in &frames {
        encoder.push(&Record::Event(*frame, usage.map(Box::new))).unwrap();
    }
    let file = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
    let given: Vec<Datagram> =
        frames.iter().map(|(frame, usage)| (frame.with_bytes(ORDER, <[u8]>::to_vec), *usage)).collect();
    assert_eq!(read(&file), given);
});
