//! Fuzzes the reader with any file: it must not panic or loop, or do more work than is proportional
//! to the input.
//!
//! A fuzzer cannot guess checksums. Therefore the first byte of the input selects whether the rest
//! is the file itself, or datagrams that are written to a capture and read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pmon_core::capture::{
    Encoder, FatalSignal, Header, Item, Meta, Reader, Record, RecordedDatagram, SignalOrigin, SignalSender,
    Usage,
};
use pmon_core::wire::{ByteOrder, EventBody};

const ORDER: ByteOrder = ByteOrder::Little;

/// Bytes of a datagram, with the usage of an exit.
type DatagramWithUsage = (Vec<u8>, Option<Usage>);

fn read(bytes: &[u8]) -> Vec<DatagramWithUsage> {
    let mut datagrams = Vec::new();
    let Ok(mut reader) = Reader::open(bytes) else { return datagrams };
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { continue };
        for record in block.records() {
            if let Record::Event(datagram, usage) = record {
                datagrams.push((datagram.with_bytes(ORDER, <[u8]>::to_vec), usage.map(|usage| *usage)));
            }
        }
    }
    assert!(reader.effort() <= 16 * bytes.len() as u64 + (32 << 20));
    datagrams
}

/// Derives a usage from the numbers of every second exit.
fn usage(datagram: &RecordedDatagram<'_>) -> Option<Usage> {
    let RecordedDatagram::Event(event) = datagram else { return None };
    let EventBody::Exit { code, signal, .. } = event.body else { return None };
    let sender = SignalSender { pid: signal, uid: code, ..SignalSender::default() };
    let fatal_signal = match code % 3 {
        0 => FatalSignal::default(),
        1 => FatalSignal { oom_victim: Some(true), origin: SignalOrigin::Kernel { code: signal as i32 } },
        _ => FatalSignal { oom_victim: None, origin: SignalOrigin::Process { code: signal as i32, sender } },
    };
    let usage = Usage {
        start_ticks: code.into(),
        cpu_us: event.time.0,
        threads: signal,
        fatal_signal,
        ..Usage::default()
    };
    (code & 1 == 0).then_some(usage)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    if first & 1 == 0 {
        read(rest);
        return;
    }
    let datagrams = rest.chunks(usize::from(first).max(2)).map(|bytes| RecordedDatagram::new(bytes, ORDER));
    let datagrams: Vec<_> = datagrams.map(|datagram| (datagram, usage(&datagram))).collect();
    let header = Header { uuid: [3; 16], byte_order: ORDER, meta: Meta::default() };
    let mut encoder = Encoder::new(&header).unwrap();
    for (datagram, usage) in &datagrams {
        encoder.push(&Record::Event(*datagram, usage.map(Box::new))).unwrap();
    }
    let file = [encoder.header().to_vec(), encoder.seal().to_vec(), encoder.finish().to_vec()].concat();
    let written: Vec<DatagramWithUsage> = datagrams
        .iter()
        .map(|(datagram, usage)| (datagram.with_bytes(ORDER, <[u8]>::to_vec), *usage))
        .collect();
    assert_eq!(read(&file), written);
});
