//! Fuzzes blocks with arbitrary content and valid checksums, an index and a trailer. The reader
//! must not panic, loop, exceed the memory limits, or do more work than is proportional to the
//! input.
//!
//! Input: per block, six bytes of numbers, then sections (column, plane, length, data) up to a byte
//! 255. A header can claim a length that differs from its payload's.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use pmon_core::MonoNs;
use pmon_core::capture::{Encoder, ForkReading, Header, Item, Meta, Reader, Record, RecordedDatagram};
use pmon_core::wire::{ByteOrder, EventBody};

const ORDER: ByteOrder = ByteOrder::Little;
const TAG: [u8; 4] = [3; 4];
/// Maximum length of a stored section. A longer one is a repeated byte, compressed.
const STORED: usize = 200;

fuzz_target!(|bytes: &[u8]| {
    let header = Header { uuid: [3; 16], byte_order: ORDER, meta: Meta::default() };
    let mut file = Encoder::new(&header).unwrap().header().to_vec();
    let mut input = bytes;
    let mut last_index = 0;
    for _ in 0..4 {
        let Some(numbers) = take(&mut input, 6) else { break };
        let [events, details, notes] = [numbers[1], numbers[2], numbers[3]].map(u32::from);
        let first = match numbers[4] {
            255 => u64::MAX - u64::from(numbers[5]),
            254 => u64::from(numbers[5]) << 56,
            n => n.into(),
        };
        let at = file.len() as u64;
        if numbers[0] & 1 == 0 {
            let fixed = [details.to_le_bytes(), notes.to_le_bytes()].concat();
            let payload = [fixed, sections(&mut input)].concat();
            file.extend(block(1, &payload, first, events + details + notes, events));
            if numbers[0] & 2 != 0 {
                claim(&mut file[at as usize..at as usize + 64], u32::from(numbers[5]) << (numbers[0] % 17));
            }
        } else {
            let before = if numbers[5] & 1 == 0 { 0 } else { last_index };
            let fixed = [&events.to_le_bytes()[..], &u64::to_le_bytes(before), &first.to_le_bytes()].concat();
            let payload = [fixed, sections(&mut input)].concat();
            file.extend(block(2, &payload, first, 0, 0));
            last_index = at;
        }
    }
    let trailer = [&last_index.to_le_bytes()[..], &TAG].concat();
    file.extend([&trailer[..], &crc32c::crc32c(&trailer).to_le_bytes(), b"pmon-end"].concat());

    for time in [None, Some(5), Some(u64::MAX)] {
        let mut reader = Reader::open(Cursor::new(&file)).unwrap();
        if let Some(time) = time {
            reader.seek(MonoNs(time)).unwrap();
        }
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Damage(damage) => assert!(!damage.to_string().is_empty()),
                Item::Block(block) => block.records().for_each(|record| check(&record)),
            }
        }
        assert!(reader.effort() <= 16 * file.len() as u64 + (32 << 20));
        assert!(reader.memory() <= 64 << 20);
    }
});

/// Changes the length in a block header to `len` and updates the header's checksum.
fn claim(header: &mut [u8], len: u32) {
    header[16..20].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
}

fn check(record: &Record<'_>) {
    match record {
        Record::Event(datagram, usage) => {
            datagram.with_bytes(ORDER, |bytes| assert!(bytes.len() <= 256 << 10));
            let exit =
                datagram.event(ORDER).is_some_and(|event| matches!(event.body, EventBody::Exit { .. }));
            assert!(usage.is_none() || matches!(datagram, RecordedDatagram::Event(_)) && exit);
        }
        Record::Details(details) => {
            assert!(details.argv().count() <= 1 << 20);
            // A command line ends with the string that exceeds the limit, so it can be longer.
            assert!(details.strings().into_iter().flatten().all(|string| string.len() <= 513 << 10));
            assert_ne!(details.args_len, Some(0));
        }
        Record::Loss(loss) => assert!(loss.count() > 0),
        Record::Fence(fence) => assert!(fence.unreached.len() <= 256 << 10),
        Record::Ring(counts) => assert!(counts.cpus.len() <= 256 << 10),
        Record::Scope(scope) => assert!(scope.text.len() <= 256 << 10),
        Record::Forks(ForkReading::Absent { why }) => assert!(why.len() <= 256 << 10),
        _ => {}
    }
}

fn take<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(taken)
}

fn sections(input: &mut &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while input.first().is_some_and(|&byte| byte != 255) {
        let Some(section) = take(input, 3) else { break };
        let len = usize::from(section[2]);
        let (codec, len, data) = if len <= STORED {
            let data = take(input, len.min(input.len())).unwrap_or_default();
            (0, data.len(), data.to_vec())
        } else {
            let len = 1 << (len % 24);
            (1, len, zstd::bulk::compress(&vec![section[1]; len], 1).unwrap())
        };
        out.extend([section[0] % 63, section[1] % 9, codec, 0]);
        out.extend((len as u32).to_le_bytes());
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data);
    }
    take(input, 1);
    out
}

fn block(kind: u8, payload: &[u8], first: u64, records: u32, events: u32) -> Vec<u8> {
    let mut block = b"\xb1pmb\r\n\x1a\xe5".to_vec();
    block.extend(TAG);
    block.extend([kind, 0, 0, 0]);
    block.extend((payload.len() as u32).to_le_bytes());
    block.extend(records.to_le_bytes());
    block.extend(first.to_le_bytes());
    block.extend(events.to_le_bytes());
    block.extend(crc32c::crc32c(payload).to_le_bytes());
    block.extend([0; 20]);
    block.extend(crc32c::crc32c(&block).to_le_bytes());
    block.extend(payload);
    block
}
