//! Tests the search for intact blocks: it finds each of them, and its work is proportional to the
//! length of the file for any content.

use std::io::{self, Cursor, Read as _, Seek as _, SeekFrom};

use pmon_core::MonoNs;
use pmon_core::capture::{DamageKind, Encoder, Item, Reader, Record, ScopeInfo};

use crate::hostile::{block_of_kind, forged, packed};
use crate::shared::reading::{drain, read};
use crate::shared::records::{Owned, capture, header, sample_records};

const MARKER: &[u8] = b"\xb1pmb\r\n\x1a\xe5";
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Returns a block header with a valid checksum, without its payload.
fn claim(payload: u32) -> Vec<u8> {
    let mut block = forged(&[1; 8], 1, 1, 0);
    block.truncate(60);
    block[16..20].copy_from_slice(&payload.to_le_bytes());
    block.extend(crc32c::crc32c(&block).to_le_bytes());
    block
}

/// Returns overlapping headers with valid checksums, one every `distance` bytes.
fn nested_claims(distance: usize, len: usize) -> Vec<u8> {
    let fields = claim(300 << 10);
    let mut bytes = Vec::new();
    for at in (0..len).step_by(distance) {
        bytes.resize(bytes.len().max(at + 64), 0);
        bytes[at..at + 20].copy_from_slice(&fields[..20]);
    }
    for at in (0..len).step_by(distance) {
        let crc = crc32c::crc32c(&bytes[at..at + 60]);
        bytes[at + 60..at + 64].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// Returns pseudorandom bytes.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

fn repeated(pattern: &[u8], len: usize) -> Vec<u8> {
    pattern.iter().copied().cycle().take(len).collect()
}

/// Returns contents that are expensive to search, each with a name.
fn hard_to_search(len: usize) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![
        ("zeros".into(), vec![0; len]),
        ("noise".into(), noise(len)),
        ("first bytes of markers".into(), repeated(&MARKER[..1], len)),
        ("large claims".into(), repeated(&claim(300 << 10), len)),
        ("claims of as much as there is".into(), {
            let each = |at: usize| claim((len - 64 * (at + 1)) as u32);
            (0..len / 64).flat_map(each).collect()
        }),
        ("claims in claims".into(), nested_claims(84, len)),
    ];
    for part in 2..=MARKER.len() {
        all.push((format!("{part} bytes of markers"), repeated(&MARKER[..part], len)));
    }
    for distance in [9, 12, 20, 28, 64] {
        let mut pattern = MARKER.to_vec();
        pattern.extend(&header().uuid[..4]);
        pattern.resize(distance.max(12), 0);
        pattern.truncate(distance);
        all.push((format!("a marker each {distance} bytes"), repeated(&pattern, len)));
    }
    all
}

#[test]
fn the_work_is_proportional_to_the_length_for_any_content() {
    let len = 384 * KIB;
    for (name, bytes) in hard_to_search(len) {
        for header in [Encoder::new(&header()).unwrap().header(), &[]] {
            let file = [header, &bytes].concat();
            let Ok(mut reader) = Reader::open(file.as_slice()) else { continue };
            let read = drain(&mut reader).unwrap();
            assert_eq!(read.records, [], "{name}");
            let most = 16 * len + 32 * MIB;
            assert!(reader.effort() <= most as u64, "{name}: {} bytes", reader.effort());
        }
    }
}

#[test]
fn an_intact_block_is_found_after_any_content() {
    let sample_records = sample_records();
    let bytes = capture(&sample_records, usize::MAX);
    let mut reader = Reader::open(bytes.as_slice()).unwrap();
    let begin = reader.offset() as usize;
    reader.next_item().unwrap();
    let block = &bytes[begin..reader.offset() as usize];
    for (name, before) in hard_to_search(64 * KIB) {
        for header in [&bytes[..begin], &[]] {
            let padding = vec![7; 300 * KIB];
            let file = [header, &before, block, &padding].concat();
            let read = read(&file).unwrap();
            assert_eq!(read.records, sample_records, "{name}");
        }
    }
}

/// In this capture, forged headers before each block claim the bytes after them.
#[test]
fn every_block_is_found_between_forged_headers() {
    let sample_records = sample_records();
    let bytes = capture(&sample_records, 3);
    let mut reader = Reader::open(bytes.as_slice()).unwrap();
    let mut at = reader.offset() as usize;
    let mut file = bytes[..at].to_vec();
    while let Some(item) = reader.next_item().unwrap() {
        assert!(matches!(item, Item::Block(_)));
        let end = reader.offset() as usize;
        for len in [1 << 10, 100 << 10, 300 << 10] {
            file.extend(repeated(&claim(len), 4 << 10));
        }
        file.extend(&bytes[at..end]);
        at = end;
    }
    file.extend(vec![1; 320 * KIB]);
    let read = read(&file).unwrap();
    assert_eq!(read.records, sample_records);
}

/// A sparse file with `parts` at their offsets and zeros between them.
struct Sparse {
    parts: Vec<(u64, Vec<u8>)>,
    len: u64,
    at: u64,
    read: u64,
}

impl io::Read for Sparse {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min((self.len - self.at) as usize);
        into[..len].fill(0);
        for (from, bytes) in &self.parts {
            let (first, last) = (self.at.max(*from), (self.at + len as u64).min(from + bytes.len() as u64));
            if first < last {
                let part = &bytes[(first - from) as usize..(last - from) as usize];
                into[(first - self.at) as usize..][..part.len()].copy_from_slice(part);
            }
        }
        self.at += len as u64;
        self.read += len as u64;
        Ok(len)
    }
}

fn skip_hole(file: &mut Sparse) -> io::Result<u64> {
    let end = file.parts.iter().map(|(from, _)| *from).find(|&from| from >= file.at).unwrap_or(file.len);
    let is_data =
        file.parts.iter().any(|(from, bytes)| (*from..from + bytes.len() as u64).contains(&file.at));
    let skipped = end.saturating_sub(24).saturating_sub(file.at);
    let skipped = if is_data { 0 } else { skipped };
    file.at += skipped;
    Ok(skipped)
}

#[test]
fn a_hole_of_a_tebibyte_is_not_read() {
    let bytes = capture(&sample_records(), 3);
    for cut in [bytes.len() - 24, bytes.len() - 20, bytes.len() / 2] {
        for tail in [0, 20_000] {
            let (sealed, journal) = bytes.split_at(cut);
            let at = (1 << 40) + 5;
            let parts = vec![(0, sealed.to_vec()), (at, journal.to_vec())];
            let len = at + journal.len() as u64 + tail;
            let file = Sparse { parts, len, at: 0, read: 0 };
            let mut reader = Reader::open_sparse(file, skip_hole).unwrap();
            let found = drain(&mut reader).unwrap();
            let mut near = sealed.to_vec();
            near.resize(sealed.len() + 10_000, 0);
            near.extend(journal);
            near.resize(near.len() + tail as usize, 0);
            let expected = read(&near).unwrap();
            assert_eq!(found.records, expected.records, "cut at {cut}, {tail} after");
            assert_eq!(found.clean, expected.clean, "cut at {cut}, {tail} after");
            assert_eq!(reader.offset(), len);
        }
    }
}

/// In this file, nested index blocks form a chain and all refer to an intact block.
#[test]
fn nested_index_blocks_are_not_used() {
    let mut encoder = Encoder::new(&header()).unwrap();
    let start = encoder.header().to_vec();
    encoder.push(&Record::Scope(ScopeInfo { text: "scope".into() })).unwrap();
    let records = encoder.seal().to_vec();
    let section = |column: u8, plane: u8, data: &[u8]| {
        let len = (data.len() as u32).to_le_bytes();
        [&[column, plane, 0, 0][..], &len, &len, data].concat()
    };
    let place = (2 * start.len() as u64).to_le_bytes();
    // The payload of an index block: number of entries, previous index, first record, and the
    // offset of the block.
    let entries = |before: u64| {
        let head = [&1_u32.to_le_bytes()[..], &before.to_le_bytes(), &[0; 8]].concat();
        [&head[..], &section(38, 0, &place[..1]), &section(38, 1, &place[1..2])].concat()
    };
    let seek = |blocks: u64| {
        let first = (start.len() + records.len()) as u64;
        // A block header, the entries, and the header of the section that holds the inner block.
        let step = 64 + entries(0).len() as u64 + 12;
        let mut inner = Vec::new();
        for depth in (0..blocks).rev() {
            let before = depth.checked_sub(1).map_or(0, |outer| first + outer * step);
            inner = block_of_kind(2, &[&entries(before)[..], &section(200, 0, &inner)].concat());
        }
        let innermost = first + (blocks - 1) * step;
        let trailer = [&innermost.to_le_bytes()[..], &header().uuid[..4]].concat();
        let sum = crc32c::crc32c(&trailer).to_le_bytes();
        let file = [&start[..], &records, &inner, &trailer, &sum, b"pmon-end"].concat();
        let mut reader = Reader::open(Cursor::new(file)).unwrap();
        reader.seek(MonoNs(1)).unwrap()
    };
    assert!(seek(1), "a single index block is usable");
    assert!(!seek(2) && !seek(10));
}

#[test]
fn memory_is_bounded_for_any_block() {
    let start = Encoder::new(&header()).unwrap().header().to_vec();
    let (mut file, mut number) = (start.clone(), 0);
    // Each column in turn has the maximum length.
    for columns in [0..20_u8, 20..40, 40..61] {
        for column in columns {
            let bytes = [15, 17, 22, 44].contains(&column);
            let len = if bytes { 8 << 20 } else { 128 << 10 };
            let sections = [packed(column, &vec![0; len]), crate::hostile::filler(8192)].concat();
            let payload = [&[0; 8][..], &sections].concat();
            file.extend(forged(&payload, 1, 1, number));
            number += 1;
        }
    }
    // This header claims the maximum length of a block, and as many bytes follow.
    file.extend(claim(16_777_000));
    file.resize(file.len() + (16 << 20), 0);
    let mut reader = Reader::open(file.as_slice()).unwrap();
    let mut most = 0;
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Block(block) = item {
            assert_eq!(block.records().count(), 1);
        }
        most = most.max(reader.memory());
    }
    assert!(most <= 64 * MIB, "{most} bytes");
    assert!(most >= 40 * MIB, "{most} bytes");
}

#[test]
fn a_corrupt_block_is_reported_with_its_offset_and_its_missing_records() {
    let sample_records = sample_records();
    let bytes = capture(&sample_records, 3);
    let mut reader = Reader::open(bytes.as_slice()).unwrap();
    let at = reader.offset() as usize;
    reader.next_item().unwrap();
    let second = reader.offset() as usize;
    let mut file = bytes.clone();
    file[at + 70] ^= 1;
    let damaged = read(&file).unwrap();
    assert_eq!(damaged.damage[0], DamageKind::Corrupt);
    assert_eq!(damaged.damage[1], DamageKind::Missing { records: 3 });
    let mut reader = Reader::open(Cursor::new(file)).unwrap();
    match reader.next_item().unwrap() {
        Some(Item::Damage(damage)) => {
            assert_eq!((damage.offset, damage.bytes), (at as u64, (second - at) as u64));
        }
        _ => panic!("no damage"),
    }
    let records: Vec<Owned> = damaged.records;
    assert_eq!(records, sample_records[3..]);
    // A seekable input yields the same records.
    let mut cursor = Cursor::new(bytes);
    cursor.seek(SeekFrom::Start(0)).unwrap();
    let mut all = Vec::new();
    cursor.read_to_end(&mut all).unwrap();
    assert_eq!(read(&all).unwrap().records, sample_records);
}
