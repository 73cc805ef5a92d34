//! Any file: no panic, no loop. The fuzzer cannot guess checksums, so that the first byte says whether the rest is
//! a file as it is, or datagrams to record and read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pmon_core::capture::{Encoder, Header, Item, Meta, Reader, Record};
use pmon_core::wire::ByteOrder;

const ORDER: ByteOrder = ByteOrder::Little;

fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let Ok(mut reader) = Reader::open(bytes) else { return frames };
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { continue };
        for record in block.records() {
            if let Record::Event(frame) = record {
                frames.push(frame.with_bytes(ORDER, <[u8]>::to_vec));
            }
        }
    }
    frames
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    if first & 1 == 0 {
        read(rest);
        return;
    }
    let frames: Vec<_> = rest.chunks(usize::from(first).max(2)).collect();
    let header = Header { uuid: [3; 16], frame_order: ORDER, meta: Meta::default() };
    let mut encoder = Encoder::new(&header).unwrap();
    frames.iter().for_each(|frame| encoder.push_frame(frame).unwrap());
    let file = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
    assert_eq!(read(&file), frames);
});
