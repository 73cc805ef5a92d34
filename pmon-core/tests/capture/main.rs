//! Tests that captures return the records that were written, and that damage is detected.

mod copy;
mod dense;
mod hostile;
mod search;
#[path = "../shared"]
mod shared {
    pub(super) mod events;
    pub(super) mod reading;
    pub(super) mod records;
}

use std::io::Cursor;

use pmon_core::capture::{
    DamageKind, Details, DetailsSubject, EncodeError, Encoder, FatalSignal, Item, MINOR, MissReason,
    OpenError, Reader, Record, RecordedDatagram, Usage, Witness,
};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use proptest::prelude::*;
use shared::reading::{Read, drain, read};
use shared::records::{
    CAPTURE_1_0, ORDER, Owned, any_record, capture, event, header, sample_records, sample_records_1_0,
};

#[test]
fn records_are_returned_in_order_for_any_block_size() {
    let sample_records = sample_records();
    for every in 1..=sample_records.len() {
        let bytes = capture(&sample_records, every);
        let read = read(&bytes).unwrap();
        assert_eq!(
            read,
            Read { records: sample_records.clone(), damage: vec![], clean: true },
            "{every} a block"
        );
        let reader = Reader::open(bytes.as_slice()).unwrap();
        assert_eq!(reader.header(), Some(&header()));
    }
}

#[test]
fn a_truncated_capture_returns_its_intact_blocks_and_reports_the_truncation() {
    let sample_records = sample_records();
    let bytes = capture(&sample_records, 3);
    // End offset of each block, and number of records up to there.
    let mut ends = Vec::new();
    let mut reader = Reader::open(bytes.as_slice()).unwrap();
    let mut records = 0;
    let first = reader.offset() as usize;
    while let Some(Item::Block(block)) = reader.next_item().unwrap() {
        records += block.records().count();
        ends.push((reader.offset() as usize, records));
    }
    assert_eq!(records, sample_records.len());
    for cut in 0..bytes.len() {
        let read = match read(&bytes[..cut]) {
            Ok(read) => read,
            Err(error) => {
                assert!(cut < first, "cut at {cut}: {error}");
                continue;
            }
        };
        let whole = ends.iter().rev().find(|(end, _)| *end <= cut).map_or(0, |(_, records)| *records);
        assert_eq!(read.records, sample_records[..whole], "cut at {cut}");
        let at_boundary = cut == first || ends.iter().any(|(end, _)| *end == cut) || cut == bytes.len() - 24;
        let expected = if at_boundary { vec![] } else { vec![DamageKind::Torn] };
        let expected = if cut < first { vec![DamageKind::Header] } else { expected };
        assert_eq!(read.damage, expected, "cut at {cut}");
        assert!(!read.clean, "cut at {cut}");
    }
}

#[test]
fn a_changed_byte_is_detected_and_costs_only_its_block() {
    let sample_records = sample_records();
    let bytes = capture(&sample_records, 3);
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let read = match read(&bytes) {
                Ok(read) => read,
                // A changed version number looks like a newer format unless the checksum fails too.
                Err(error) => panic!("byte {at}: {error}"),
            };
            assert!(!read.damage.is_empty(), "byte {at} ^ {flip:#x} was not detected");
            assert!(
                read.records.len() + 3 >= sample_records.len(),
                "byte {at}: only {} records",
                read.records.len()
            );
            let mut rest = sample_records.iter();
            assert!(read.records.iter().all(|record| rest.any(|original| original == record)), "byte {at}");
        }
    }
}

#[test]
fn inserted_bytes_do_not_hide_intact_blocks() {
    let sample_records = sample_records();
    let bytes = capture(&sample_records, 5);
    let mut ends = vec![];
    let mut reader = Reader::open(bytes.as_slice()).unwrap();
    ends.push(reader.offset() as usize);
    while reader.next_item().unwrap().is_some() {
        ends.push(reader.offset() as usize);
    }
    let (head, tail) = bytes.split_at(ends[1]);
    let mut other = header();
    other.uuid = [9; 16];
    let mut foreign = Encoder::new(&other).unwrap();
    foreign.push(&sample_records[1].record()).unwrap();
    let foreign = foreign.seal().to_vec();
    for junk in [&b"junk"[..], &[0; 100], &[0xb1; 1000], &head[head.len() - 70..head.len() - 3], &foreign] {
        let read = read(&[head, junk, tail].concat()).unwrap();
        assert_eq!(read.records, sample_records);
        assert!(read.clean);
        assert_eq!(read.damage.is_empty(), junk.iter().all(|&byte| byte == 0));
    }
    // If a block was removed, the record numbers show how many records are missing.
    let (_, second_half) = bytes.split_at(ends[2]);
    let read = read(&[head, second_half].concat()).unwrap();
    assert_eq!(read.damage, [DamageKind::Missing { records: 5 }]);
    assert_eq!(read.records, [&sample_records[..5], &sample_records[10..]].concat());
}

#[test]
fn blocks_are_readable_without_the_file_header() {
    let bytes = capture(&sample_records(), 5);
    for len in [1, 8, 40] {
        let mut bytes = bytes.clone();
        bytes[..len].fill(0x55);
        let read = read(&bytes).unwrap();
        assert_eq!((read.records, read.damage), (sample_records(), vec![DamageKind::Header]));
    }
    let blocks = &bytes[Reader::open(bytes.as_slice()).unwrap().offset() as usize..];
    assert!(matches!(Reader::open(&blocks[..60]), Err(OpenError::NotACapture)));
}

#[test]
fn other_files_and_later_formats_are_refused() {
    assert!(matches!(read(b""), Err(OpenError::Empty)));
    assert!(matches!(read(&[0; 5000]), Err(OpenError::Empty)));
    assert!(matches!(read(b"#!/bin/sh\n"), Err(OpenError::NotACapture)));
    assert!(matches!(read(&[0xb1; 5000]), Err(OpenError::NotACapture)));
    let mut bytes = Encoder::new(&header()).unwrap().header().to_vec();
    bytes[8] = 2;
    let at = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..at]);
    bytes[at..].copy_from_slice(&crc.to_le_bytes());
    let error = read(&bytes).unwrap_err();
    assert!(error.to_string().starts_with(&format!("capture format 2.{MINOR} is newer")), "{error}");
}

/// A killed recorder leaves sealed blocks, a hole and provisional blocks.
#[test]
fn a_journal_after_a_hole_is_read_once_and_is_no_damage() {
    let sample_records = sample_records();
    let mut encoder = Encoder::new(&header()).unwrap();
    let mut sealed = encoder.header().to_vec();
    let mut journal = Vec::new();
    for (at, owned) in sample_records.iter().enumerate() {
        encoder.push(&owned.record()).unwrap();
        if at == 4 {
            sealed.extend_from_slice(encoder.seal());
        } else if at > 4 {
            journal.extend_from_slice(encoder.provisional());
            assert_eq!(encoder.pending(), 0);
        }
    }
    let hole = vec![0; 10_000];
    let expected = Read { records: sample_records.clone(), damage: vec![], clean: false };
    assert_eq!(read(&[&sealed[..], &hole, &journal].concat()).unwrap(), expected);

    // The recorder was killed after writing the sealed block and before removing the journal.
    let last = encoder.seal().to_vec();
    assert_eq!(read(&[&sealed[..], &last, &hole, &journal].concat()).unwrap(), expected);
    // The recorder was killed while it wrote the sealed block.
    let torn = &last[..last.len() / 2];
    let read = read(&[&sealed[..], torn, &hole, &journal].concat()).unwrap();
    assert_eq!((read.records, read.damage.len()), (sample_records, 1));
}

#[test]
fn seeking_skips_no_event_and_stops_close_to_the_time() {
    let records: Vec<_> =
        (0..10_000).map(|seq| event(0, seq, EventBody::Exec { task: Task::new(seq, seq) })).collect();
    let bytes = capture(&records, 7);
    for seq in [0_u32, 1, 6, 7, 5000, 9999] {
        let mut reader = Reader::open(Cursor::new(&bytes)).unwrap();
        assert!(reader.seek(MonoNs(1_000_000 + u64::from(seq) * 1000)).unwrap());
        let read = drain(&mut reader).unwrap();
        let start = seq as usize / 7 * 7;
        assert!(read.damage.is_empty());
        assert_eq!(read.records, records[start..], "seek to {seq}");
    }
    let mut reader = Reader::open(Cursor::new(&bytes)).unwrap();
    assert!(reader.seek(MonoNs(u64::MAX)).unwrap());
    assert_eq!(drain(&mut reader).unwrap().records, records[9996..]);
    // The capture has more blocks than one index holds.
    let bytes = capture(&records, 1);
    let mut reader = Reader::open(Cursor::new(&bytes)).unwrap();
    assert!(reader.seek(MonoNs(1_000_000 + 1234 * 1000)).unwrap());
    assert_eq!(drain(&mut reader).unwrap().records, records[1234..]);
    // Without an index, the position stays the same.
    let mut reader = Reader::open(Cursor::new(&bytes[..bytes.len() - 1])).unwrap();
    assert!(!reader.seek(MonoNs(2_000_000)).unwrap());
    assert_eq!(drain(&mut reader).unwrap().records, records);
}

#[test]
fn records_over_the_limits_are_refused_without_effect() {
    let mut encoder = Encoder::new(&header()).unwrap();
    assert!(encoder.push_datagram(&vec![1; 300 << 10]).is_err());
    let unknown = EventBody::Unknown { what: 99 };
    let event = Event { time: MonoNs(1), seq: Seq(1), cpu: Cpu(0), body: unknown };
    assert!(encoder.push(&Record::Event(RecordedDatagram::Event(event), None)).is_err());
    assert!(encoder.push(&Record::Unknown { kind: 77 }).is_err());
    assert_eq!(encoder.unsealed(), 0);
    let mut long = header();
    long.meta.command = vec![vec![b'x'; 2 << 20]];
    assert!(Encoder::new(&long).is_err());
    // No record is lost if the caller never seals.
    let big = vec![7; 200 << 10];
    let mut out = encoder.header().to_vec();
    (0..60).for_each(|_| encoder.push_datagram(&big).unwrap());
    out.extend_from_slice(encoder.seal());
    let read = read(&out).unwrap();
    assert_eq!((read.records.len(), read.damage.len()), (60, 0));
    assert!(read.records.iter().all(|record| *record == Owned::Datagram(big.clone())));
}

#[test]
fn the_usage_of_other_kinds_than_exit_is_refused_without_effect() {
    let usage = |cpu_us| Usage { cpu_us, ..Usage::default() };
    let mut encoder = Encoder::new(&header()).unwrap();
    let (task, parent) = (Task::new(5, 5), Some(Task::new(1, 1)));
    let Owned::Datagram(exit) = event(0, 1, EventBody::Exit { task, code: 0, signal: 17, parent }) else {
        panic!()
    };
    encoder.push(&Owned::Exit(exit.clone(), usage(1)).record()).unwrap();
    let Owned::Datagram(exec) = event(0, 2, EventBody::Exec { task }) else { panic!() };
    let no_exit = Record::Event(RecordedDatagram::new(&exec, ORDER), Some(Box::new(usage(2))));
    assert!(matches!(encoder.push(&no_exit), Err(EncodeError::NoExit)));
    assert!(encoder.push(&Record::Event(RecordedDatagram::Raw(b"raw"), Some(Box::new(usage(3))))).is_err());
    assert_eq!((encoder.unsealed(), encoder.pending()), (1, 1));
    encoder.push_datagram(&exit).unwrap();
    let bytes = [encoder.header().to_vec(), encoder.seal().to_vec()].concat();
    assert_eq!(read(&bytes).unwrap().records, [Owned::Exit(exit.clone(), usage(1)), Owned::Datagram(exit)]);
}

#[test]
fn a_capture_of_version_1_0_is_read() {
    assert_eq!(CAPTURE_1_0[8..12], [1, 0, 0, 0]);
    let expected = Read { records: sample_records_1_0(), damage: vec![], clean: true };
    assert_eq!(read(CAPTURE_1_0).unwrap(), expected);
}

/// Splits a capture into its header and its blocks; the trailer stays with the last block.
fn blocks(capture: &[u8]) -> Vec<&[u8]> {
    let length = |at: usize| u32::from_le_bytes(capture[at..at + 4].try_into().unwrap()) as usize;
    let mut ends = vec![length(12)];
    while capture.len() - ends.last().unwrap() > 64 {
        let start = *ends.last().unwrap();
        ends.push(start + 64 + length(start + 16));
    }
    *ends.last_mut().unwrap() = capture.len();
    std::iter::once(&0).chain(&ends).zip(&ends).map(|(&start, &end)| &capture[start..end]).collect()
}

/// Returns the sections of a block of records, with their headers, by column.
fn sections(block: &[u8]) -> Vec<(u8, &[u8])> {
    let mut rest = &block[64 + 8..];
    std::iter::from_fn(|| {
        let stored = u32::from_le_bytes(*rest.get(8..)?.first_chunk()?) as usize;
        let (section, after) = rest.split_at(12 + stored);
        rest = after;
        Some((section[0], section))
    })
    .collect()
}

/// A reader of version 1.3 skips the columns of later versions, so the others must be what they
/// were.
#[test]
fn origins_of_signals_and_names_of_containers_change_no_column_of_an_earlier_version() {
    let without = |owned| match owned {
        Owned::Exit(bytes, usage) => {
            Owned::Exit(bytes, Usage { fatal_signal: FatalSignal::default(), ..usage })
        }
        Owned::Other(Record::Details(details)) => {
            Owned::Other(Record::Details(Box::new(Details { container: None, ..*details })))
        }
        owned => owned,
    };
    let records = sample_records();
    let earlier = capture(&records.iter().cloned().map(without).collect::<Vec<_>>(), 5);
    let (mut new, later) = (0, capture(&records, 5));
    assert_eq!(blocks(&earlier).len(), blocks(&later).len());
    // The last block is the index.
    for (earlier, later) in blocks(&earlier).iter().zip(blocks(&later)).skip(1).rev().skip(1) {
        let mut later = sections(later);
        let columns = later.len();
        later.retain(|(column, _)| *column < 65);
        new += columns - later.len();
        assert_eq!(sections(earlier), later);
    }
    assert!(new > 8);
}

/// Returns the bodies of a block's notes, one after the other.
fn notes(block: &[u8]) -> Vec<u8> {
    let sections = sections(block);
    let Some((_, section)) = sections.iter().find(|(column, _)| *column == 22) else { return vec![] };
    let (length, data) = (&section[4..8], &section[12..]);
    match section[2] {
        0 => data.to_vec(),
        _ => {
            let length = u32::from_le_bytes(length.try_into().unwrap());
            zstd::bulk::decompress(data, length as usize).unwrap()
        }
    }
}

/// The writer encodes the records of a 1.0 capture as the same bytes, except for END, the last
/// record: its counts of the two causes since 1.3 are zeros at its end. The writer cannot write a
/// note of the reserved kind, so the test replaces it with another note.
#[test]
fn records_of_version_1_0_are_encoded_as_version_1_0_did() {
    let mut records = sample_records_1_0();
    let is_reserved = |owned: &Owned| matches!(owned, Owned::Other(Record::Unknown { .. }));
    let reserved = records.iter().position(is_reserved).unwrap();
    records[reserved] = Owned::Other(Record::Witness(Witness::default()));
    let bytes = capture(&records, 5);
    let (written, golden) = (blocks(&bytes), blocks(CAPTURE_1_0));
    assert_eq!(written.len(), golden.len());
    // Only the version and the checksum differ in the file header.
    let index = golden.len() - 1;
    for block in 1..index {
        let has_end = block == index - 1;
        if block != 1 + reserved / 5 && !has_end {
            assert_eq!(written[block], golden[block], "block {block}");
            continue;
        }
        if has_end {
            let end = [notes(golden[block]), vec![0; 2]].concat();
            let end = &end[end.len() - 20..];
            assert!(notes(written[block]).ends_with(end), "block {block}");
        }
        let [written, golden] = [written[block], golden[block]].map(|block| {
            let mut sections = sections(block);
            // The columns NOTE_KIND, NOTE_LEN and NOTE_BYTES hold the other note, and END.
            sections.retain(|(column, _)| !(20..=22).contains(column));
            sections
        });
        assert_eq!(written, golden, "block {block}");
        assert!(has_end || golden.len() > 10);
    }
}

/// These command lines have more words, and more distinct words, than a block has records.
#[test]
fn long_command_lines_are_returned_unchanged() {
    let args = |run: u32| {
        let words = (0..37_000_u32).map(|n| (n + run * 30_000).to_string() + "\0");
        words.collect::<String>().into_bytes()
    };
    let details = |args| Details {
        args: Some(args),
        ..Details::missed(DetailsSubject::Snapshot { tgid: Tgid(1) }, MissReason::Gone)
    };
    let lines = (0..30).map(args).chain([vec![0; 256 << 10], vec![], vec![0], b"no end".to_vec()]);
    let records: Vec<_> = lines.map(|args| Owned::Other(Record::Details(Box::new(details(args))))).collect();
    let read = read(&capture(&records, 1000)).unwrap();
    assert!(read.records == records && read.damage.is_empty());
}

proptest! {
    #[test]
    fn any_records_are_returned_unchanged(records in prop::collection::vec(any_record(), 0..200), every in 1..100_usize) {
        let read = read(&capture(&records, every)).unwrap();
        prop_assert_eq!(read.records, records);
        prop_assert!(read.damage.is_empty());
    }

    #[test]
    fn provisional_blocks_hold_the_same_records(records in prop::collection::vec(any_record(), 0..100), every in 1..20_usize) {
        let mut encoder = Encoder::new(&header()).unwrap();
        let mut out = encoder.header().to_vec();
        for chunk in records.chunks(every) {
            chunk.iter().for_each(|owned| encoder.push(&owned.record()).unwrap());
            out.extend_from_slice(encoder.provisional());
        }
        prop_assert_eq!(read(&out).unwrap().records, records);
    }

    #[test]
    fn damaged_captures_return_only_recorded_records(
        records in prop::collection::vec(any_record(), 1..60),
        every in 1..30_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = capture(&records, every);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()));
        if let Ok(read) = read(&bytes) {
            let mut rest = records.iter();
            prop_assert!(read.records.iter().all(|record| rest.any(|original| original == record)));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read(&bytes);
        let mut file = Encoder::new(&header()).unwrap().header().to_vec();
        file.extend(bytes);
        prop_assert!(read(&file).unwrap().records.is_empty());
    }
}
