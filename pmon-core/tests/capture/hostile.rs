//! Tests forged files with valid checksums: the reader does not panic or loop, and keeps its memory
//! limits.

use std::collections::BTreeMap;
use std::io::Cursor;

use pmon_core::MonoNs;
use pmon_core::capture::{DamageKind, Encoder, Item, Reader, Record};
use proptest::prelude::*;

use crate::shared::reading::{Read, read};
use crate::shared::records::{ORDER, Owned, capture, header, sample_records};

/// Returns a block of records with valid checksums around any payload.
pub(crate) fn forged(payload: &[u8], records: u32, events: u32, first_record: u64) -> Vec<u8> {
    block_with_header(1, payload, records, events, first_record)
}

/// Returns a block of the given kind without records.
pub(crate) fn block_of_kind(kind: u8, payload: &[u8]) -> Vec<u8> {
    block_with_header(kind, payload, 0, 0, 0)
}

fn block_with_header(kind: u8, payload: &[u8], records: u32, events: u32, first_record: u64) -> Vec<u8> {
    let mut block = b"\xb1pmb\r\n\x1a\xe5".to_vec();
    block.extend(&header().uuid[..4]);
    block.extend([kind, 0, 0, 0]);
    block.extend((payload.len() as u32).to_le_bytes());
    block.extend(records.to_le_bytes());
    block.extend(first_record.to_le_bytes());
    block.extend(events.to_le_bytes());
    block.extend(crc32c::crc32c(payload).to_le_bytes());
    block.extend([0; 20]);
    block.extend(crc32c::crc32c(&block).to_le_bytes());
    block.extend(payload);
    block
}

/// Numbers of strings and profiles far above the existing ones must not cause allocations.
#[test]
fn references_to_missing_strings_and_profiles_are_read_as_none() {
    let section =
        |column: u8, plane: u8, byte: u8| [&[column, plane, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, byte][..]].concat();
    let large = |column| (0..4).flat_map(|plane| section(column, plane, 0xfe)).collect::<Vec<_>>();
    let (profile, args, exe, word, snapshot) = (29, 31, 34, 37, section(24, 0, 1));
    let new = [section(profile, 0, 1), section(args, 0, 1)].concat();
    for sections in [[&new[..], &large(exe)], [&new, &large(word)], [&large(profile), &[]]] {
        let payload = [&[1, 0, 0, 0, 0, 0, 0, 0], &snapshot[..], sections[0], sections[1]].concat();
        let block = forged(&payload, 1, 0, 0);
        let read = read(&[Encoder::new(&header()).unwrap().header(), &block].concat()).unwrap();
        let [Owned::Other(Record::Details(details))] = &read.records[..] else { panic!("{read:?}") };
        assert_eq!((details.exe.as_ref(), details.args.as_deref().unwrap_or_default()), (None, &[][..]));
    }
}

/// Generates a section of any column, stored or compressed.
fn any_section() -> impl Strategy<Value = Vec<u8>> {
    let data = prop::collection::vec(any::<u8>(), 0..80);
    (0..63_u8, 0..9_u8, 0..3_u8, data, any::<bool>(), any::<u32>()).prop_map(
        |(column, plane, codec, data, honest, len)| {
            let packed =
                if codec == 1 && honest { zstd::bulk::compress(&data, 1).unwrap() } else { data.clone() };
            let raw_len = if honest { data.len() as u32 } else { len };
            let mut section = vec![column, plane, codec, 0];
            section.extend(raw_len.to_le_bytes());
            section.extend((packed.len() as u32).to_le_bytes());
            section.extend(packed);
            section
        },
    )
}

/// Returns a compressed section of `len` equal bytes.
fn repeated(column: u8, byte: u8, len: usize) -> Vec<u8> {
    packed(column, &vec![byte; len])
}

/// Returns a compressed section.
pub(crate) fn packed(column: u8, data: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(data, 1).unwrap();
    let lens = [(data.len() as u32).to_le_bytes(), (packed.len() as u32).to_le_bytes()].concat();
    [&[column, 0, 1, 0], &lens[..], &packed].concat()
}

/// Returns an uncompressed section.
pub(crate) fn stored(column: u8, plane: u8, data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u32).to_le_bytes();
    [&[column, plane, 0, 0], &len[..], &len, data].concat()
}

/// Reads a block with these sections that claims `events` events and `details` details.
fn read_forged(sections: &[u8], events: u32, details: u32) -> Read {
    let payload = [&details.to_le_bytes()[..], &[0; 4], sections].concat();
    let block = forged(&payload, events + details, events, 0);
    let file = [Encoder::new(&header()).unwrap().header(), &block].concat();
    read(&file).unwrap()
}

#[test]
fn a_repeated_section_is_malformed() {
    for column in [17, 22, 37, 1, 44, 51, 60] {
        let twice = [repeated(column, 0, 1000), repeated(column, 0, 1000)].concat();
        let read = read_forged(&twice, 1, 0);
        assert_eq!(read.damage, [DamageKind::Malformed("a section comes twice")]);
    }
}

/// Returns a column of lengths with a single value.
fn one_len(column: u8, len: u32) -> Vec<u8> {
    (0..4).flat_map(|plane| stored(column, plane, &[(len >> (8 * plane)) as u8])).collect()
}

#[test]
fn a_string_or_name_over_the_limit_is_malformed() {
    let len = (256 << 10) + 1;
    for [lens, bytes] in [[16, 17], [43, 44]] {
        let sections = [one_len(lens, len), repeated(bytes, b'x', len as usize)].concat();
        let read = read_forged(&sections, 1, 0);
        assert!(matches!(read.damage[..], [DamageKind::Malformed(_)]), "{:?}", read.damage);
    }
}

#[test]
fn missing_bytes_of_a_short_context_are_read_as_zeros() {
    for len in [0, 3, 4, 19, 20, 21, 1000] {
        let sections = [
            stored(24, 0, &[1]),
            stored(29, 0, &[1]),
            stored(46, 0, &[1]),
            one_len(43, len),
            stored(44, 0, &vec![1; len as usize]),
        ];
        let read = read_forged(&sections.concat(), 0, 1);
        let [Owned::Other(Record::Details(details))] = &read.records[..] else { panic!("{read:?}") };
        let context = details.context.unwrap();
        assert_eq!(context.login_uid, if len < 4 { 0 } else { 0x0101_0101 }, "{len} bytes");
        assert_eq!(context.pid_namespace, if len < 20 { 0 } else { 0x0101_0101 }, "{len} bytes");
    }
}

/// Returns a section that every reader skips.
pub(crate) fn filler(len: usize) -> Vec<u8> {
    stored(200, 0, &vec![0; len])
}

/// Many details can refer to one string or name, which must not be copied without limit.
#[test]
fn the_details_of_a_block_receive_at_most_8_mib_of_strings() {
    const RECORDS: u32 = 5000;
    let len: u32 = 200 << 10;
    // All details refer to the same cgroup or file name.
    let mut codes = vec![2; RECORDS as usize];
    codes[0] = 1;
    for [lens, bytes, column] in [[16, 17, 36], [43, 44, 45]] {
        let sections = [
            one_len(lens, len),
            repeated(bytes, b'x', len as usize),
            // Each record has a new profile.
            repeated(24, 1, RECORDS as usize),
            repeated(29, 1, RECORDS as usize),
            packed(column, &codes),
            // The padding gives the block enough bytes for its records.
            filler(8192),
        ];
        let read = read_forged(&sections.concat(), 0, RECORDS);
        let lengths = read.records.iter().map(|record| match record {
            Owned::Other(Record::Details(details)) => {
                details.strings().into_iter().flatten().map(Vec::len).sum()
            }
            other => panic!("{other:?}"),
        });
        let lengths = lengths.collect::<Vec<usize>>();
        assert_eq!(lengths.len(), RECORDS as usize);
        let sum = lengths.iter().sum::<usize>();
        assert!((7 << 20..9 << 20).contains(&sum), "{sum} bytes: {:?}", &lengths[..5]);
    }
}

/// A capture with an unusable index is read as if it had none.
#[test]
fn an_unusable_index_is_ignored() {
    let bytes = capture(&sample_records(), 3);
    let trailer = bytes.len() - 24;
    for offset in [0, 1, trailer as u64, u64::MAX, 1 << 63] {
        let mut bytes = bytes.clone();
        bytes[trailer..trailer + 8].copy_from_slice(&offset.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[trailer..trailer + 12]);
        bytes[trailer + 12..trailer + 16].copy_from_slice(&crc.to_le_bytes());
        let mut reader = Reader::open(Cursor::new(bytes)).unwrap();
        assert!(!reader.seek(MonoNs(1)).unwrap());
        assert!(reader.next_item().unwrap().is_some());
    }
}

/// Generates planes of arbitrary, mostly small bytes, so that many codes are valid, and strings and
/// names with consistent lengths.
fn any_columns() -> impl Strategy<Value = Vec<u8>> {
    // These are the columns of bytes and of lengths.
    let others = [14, 15, 16, 17, 21, 22, 43, 44];
    let numbers =
        prop::sample::select((0..61).filter(|column| !others.contains(column)).collect::<Vec<u8>>());
    let plane = prop_oneof![8 => Just(0), 1 => 1..8_u8];
    let byte = prop_oneof![6 => 0..4_u8, 2 => 0..40_u8, 1 => any::<u8>()];
    let planes = prop::collection::btree_map((numbers, plane), prop::collection::vec(byte, 0..100), 0..80);
    let lens = || prop::collection::vec(0..30_u8, 0..40);
    (planes, lens(), lens()).prop_map(|(planes, strings, names): (BTreeMap<_, _>, _, _)| {
        let mut out: Vec<u8> =
            planes.into_iter().flat_map(|((column, plane), data)| stored(column, plane, &data)).collect();
        for (column, lens) in [(16, strings), (43, names)] {
            let all = lens.iter().map(|&len| usize::from(len)).sum();
            out.extend([stored(column, 0, &lens), stored(column + 1, 0, &vec![b'x'; all])].concat());
        }
        out
    })
}

proptest! {
    /// Columns of any content yield as many records as the block claims.
    #[test]
    fn any_columns_are_read_as_records(sections in any_columns(), events in 0..100_u32, details in 0..30_u32) {
        let read = read_forged(&sections, events, details);
        prop_assert_eq!(read.damage, []);
        prop_assert_eq!(read.records.len() as u32, events + details);
        for record in &read.records {
            match record {
                Owned::Datagram(bytes) => prop_assert!(bytes.len() <= 76),
                Owned::Exit(bytes, _) => prop_assert_eq!(&bytes[36..40], 0x8000_0000_u32.to_le_bytes()),
                Owned::Other(Record::Details(details)) => {
                    // Predicted words can repeat endlessly, so only the limit ends the arguments.
                    let strings = details.strings().into_iter().flatten();
                    prop_assert!(strings.map(Vec::len).sum::<usize>() <= (256 << 10) + 6 * 30);
                }
                Owned::Other(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }

    /// A block with valid checksums yields records or is reported as malformed. The reader neither
    /// panics nor exceeds its memory limits.
    #[test]
    fn a_forged_block_is_read_or_reported(
        sections in prop::collection::vec(any_section(), 0..12),
        counts in (0..70_u32, 0..5_u32, 0..5_u32),
        lie in 0..3_u32,
        first_record in prop_oneof![Just(0), any::<u64>()],
    ) {
        let (events, details, notes) = counts;
        let mut payload = details.to_le_bytes().to_vec();
        payload.extend(notes.to_le_bytes());
        payload.extend(sections.concat());
        let mut bytes = Encoder::new(&header()).unwrap().header().to_vec();
        bytes.extend(forged(&payload, events + details + notes + lie / 2, events, first_record));
        let mut reader = Reader::open(bytes.as_slice()).unwrap();
        while let Some(item) = reader.next_item().unwrap() {
            if let Item::Block(block) = item {
                let records = block.records().inspect(|record| {
                    if let Record::Event(datagram, _) = record {
                        datagram.with_bytes(ORDER, |bytes| assert!(bytes.len() <= 80));
                    }
                });
                prop_assert_eq!(records.count() as u32, events + details + notes);
            }
        }
    }
}
