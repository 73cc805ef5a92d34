//! The sections "Header" to "Blocks of records", "Notes", and "Index and trailer".

use super::bytes::{Fields, crc32c, int};
use super::details::DetailsSections;
use super::events::{Effect, Events};
use super::{ReadHeader, ReadRecord};

const MAGIC: &[u8] = b"\x89PMON\r\n\x1a";
const MARKER: &[u8] = &[0xB1, 0x70, 0x6D, 0x62, 0x0D, 0x0A, 0x1A, 0xE5];

/// Reads a finished capture without damage. Returns its header, its records, and the number of
/// blocks of records.
pub(crate) fn read(file: &[u8]) -> (ReadHeader, Vec<ReadRecord>, usize) {
    assert_eq!(&file[..8], MAGIC);
    assert_eq!(int(file, 8, 2), 1);
    assert!(int(file, 10, 2) <= 5);
    let len = int(file, 12, 4) as usize;
    assert_eq!(int(file, len - 4, 4), crc32c(&file[..len - 4]).into());
    let big_endian = file[32] == 2;
    assert_eq!(file[33..36], [0; 3]);
    let meta = &file[40..40 + int(file, 36, 4) as usize];
    let header = ReadHeader { uuid: file[16..32].to_vec(), big_endian, ..metadata(&mut Fields(meta)) };
    let (tag, trailer) = (&file[16..20], &file[file.len() - 24..]);
    assert_eq!(&trailer[16..], b"pmon-end");
    assert_eq!(&trailer[8..12], tag);
    assert_eq!(int(trailer, 12, 4), crc32c(&trailer[..12]).into());

    let (mut at, mut records, mut blocks, mut last_index) = (len, Vec::new(), Vec::new(), 0);
    while at < file.len() - 24 {
        let head = &file[at..at + 64];
        assert_eq!(&head[..8], MARKER);
        assert_eq!(&head[8..12], tag);
        assert_eq!(int(head, 60, 4), crc32c(&head[..60]).into());
        let payload = &file[at + 64..at + 64 + int(head, 16, 4) as usize];
        assert_eq!(int(head, 36, 4), crc32c(payload).into());
        let (count, first, events) = (int(head, 20, 4), int(head, 24, 8), int(head, 32, 4));
        assert_eq!(first, records.len() as u64);
        let times = (int(head, 40, 8), int(head, 48, 8));
        match head[12] {
            1 => {
                let in_block = block(payload, events as usize, big_endian);
                assert_eq!(in_block.len() as u64, count);
                records.extend(in_block);
                blocks.push((at as u64, count, events, times));
            }
            2 => {
                index(payload, &blocks, last_index, records.len() as u64);
                last_index = at as u64;
            }
            kind => panic!("block of kind {kind}"),
        }
        at += 64 + payload.len();
    }
    assert_eq!((at, int(trailer, 0, 8)), (file.len() - 24, last_index));
    (header, records, blocks.len())
}

fn metadata(fields: &mut Fields<'_>) -> ReadHeader {
    let mut header = ReadHeader::default();
    for _ in 0..5 {
        header.texts.push(fields.text());
    }
    for _ in 0..6 {
        header.numbers.push(fields.unsigned());
    }
    header.command = (0..fields.unsigned()).map(|_| fields.list()).collect();
    header.texts.push(fields.text());
    header.texts.push(fields.text());
    header.numbers.push(fields.unsigned());
    header.start = (fields.unsigned(), fields.unsigned(), fields.signed());
    header.previous = (fields.u8() == 1).then(|| fields.bytes(16));
    header.texts.push(fields.text());
    header.segment = (fields.u8() == 1).then(|| (fields.unsigned(), positions(fields)));
    let tracing = fields.unsigned();
    header.signals = (tracing, if tracing == 2 { fields.text() } else { String::new() });
    header
}

fn positions(fields: &mut Fields<'_>) -> Vec<[u64; 3]> {
    (0..fields.unsigned()).map(|_| [(); 3].map(|()| fields.unsigned())).collect()
}

/// Checks an index against the blocks that it covers.
fn index(payload: &[u8], blocks: &[(u64, u64, u64, (u64, u64))], before: u64, records: u64) {
    let entries = int(payload, 0, 4) as usize;
    let blocks = &blocks[blocks.len() - entries..];
    assert_eq!(int(payload, 4, 8), before);
    assert_eq!(int(payload, 12, 8) + blocks.iter().map(|block| block.1).sum::<u64>(), records);
    let mut columns = Columns::new(&payload[20..]);
    let (mut offset, mut first, mut last) = (0, 0, 0);
    for &block in blocks {
        offset = columns.delta("INDEX_OFFSET", offset);
        first = columns.delta("INDEX_FIRST_TIME", first);
        last = columns.delta("INDEX_LAST_TIME", last);
        let counts = (columns.take("INDEX_RECORDS"), columns.take("INDEX_EVENTS"));
        assert_eq!((offset, counts.0, counts.1, (first, last)), block);
    }
}

/// Names of the columns, in the order of their numbers.
const NAMES: [&str; 74] = [
    "TAG",
    "TIME",
    "SEQ",
    "ACTOR",
    "FORKER",
    "EXITER",
    "TGID",
    "CHILD",
    "CHILD_TGID",
    "PARENT",
    "PARENT_TGID",
    "FIRST",
    "SECOND",
    "COMM",
    "RAW_LEN",
    "RAW_BYTES",
    "STRING_LEN",
    "STRING_BYTES",
    "NOTE_AT",
    "NOTE_AT_DETAILS",
    "NOTE_KIND",
    "NOTE_LEN",
    "NOTE_BYTES",
    "DETAILS_AT",
    "DETAILS_SUBJECT",
    "DETAILS_TGID",
    "DETAILS_TIME",
    "DETAILS_PPID",
    "DETAILS_START",
    "DETAILS_PROFILE",
    "DETAILS_MISS",
    "DETAILS_ARGS",
    "DETAILS_IDS",
    "DETAILS_COMM",
    "DETAILS_EXE",
    "DETAILS_CWD",
    "DETAILS_CGROUP",
    "WORD",
    "INDEX_OFFSET",
    "INDEX_RECORDS",
    "INDEX_EVENTS",
    "INDEX_FIRST_TIME",
    "INDEX_LAST_TIME",
    "NAME_LEN",
    "NAME_BYTES",
    "DETAILS_FILENAME",
    "DETAILS_CONTEXT",
    "DETAILS_GROUP",
    "DETAILS_NS_PID",
    "DETAILS_PARENT_START",
    "DETAILS_ARGS_LEN",
    "USAGE_START",
    "USAGE_CPU",
    "USAGE_USER",
    "USAGE_SYSTEM",
    "USAGE_RSS",
    "USAGE_MINOR",
    "USAGE_MAJOR",
    "USAGE_READ",
    "USAGE_WRITE",
    "USAGE_THREADS",
    "USAGE_PROCESS",
    "USAGE_PROCESS_CPU",
    "DETAILS_THREADS",
    "DETAILS_FORK",
    "SIGNAL_ORIGIN",
    "SIGNAL_CODE",
    "SENDER_PID",
    "SENDER_START",
    "SENDER_UID",
    "SENDER_COMM_LOW",
    "SENDER_COMM_HIGH",
    "DETAILS_CONTAINER",
    "CONTAINER_BYTE",
];

/// The columns of a payload, and the number of values taken from each.
pub(crate) struct Columns {
    planes: Vec<[Vec<u8>; 8]>,
    taken: Vec<usize>,
}

impl Columns {
    fn new(mut sections: &[u8]) -> Self {
        let mut planes = vec![<[Vec<u8>; 8]>::default(); NAMES.len()];
        while !sections.is_empty() {
            if usize::from(sections[0]) >= NAMES.len() {
                sections = &sections[12 + int(sections, 8, 4) as usize..];
                continue;
            }
            let (len, stored) = (int(sections, 4, 4) as usize, int(sections, 8, 4) as usize);
            let data = &sections[12..12 + stored];
            let data = match sections[2] {
                0 => data.to_vec(),
                1 => zstd::bulk::decompress(data, len).unwrap(),
                codec => panic!("codec {codec}"),
            };
            assert_eq!((data.len(), sections[3]), (len, 0));
            let of = &mut planes[usize::from(sections[0])][usize::from(sections[1])];
            assert!(of.is_empty(), "a section is repeated");
            *of = data;
            sections = &sections[12 + stored..];
        }
        Self { planes, taken: vec![0; NAMES.len()] }
    }

    fn number(name: &str) -> usize {
        NAMES.iter().position(|other| *other == name).unwrap()
    }

    /// Returns the next value of a column of numbers.
    pub(crate) fn take(&mut self, name: &str) -> u64 {
        let column = Self::number(name);
        let at = self.taken[column];
        self.taken[column] += 1;
        let byte = |plane: &Vec<u8>| u64::from(plane.get(at).copied().unwrap_or(0));
        self.planes[column].iter().rev().fold(0, |value, plane| value << 8 | byte(plane))
    }

    pub(crate) fn delta(&mut self, name: &str, from: u64) -> u64 {
        super::bytes::apply(self.take(name), from)
    }

    pub(crate) fn delta32(&mut self, name: &str, from: u32) -> u32 {
        super::bytes::apply32(self.take(name), from)
    }

    /// Returns the next bytes of a column of bytes.
    pub(crate) fn bytes(&mut self, name: &str, len: u64) -> Vec<u8> {
        let column = Self::number(name);
        let at = self.taken[column];
        self.taken[column] += len as usize;
        self.planes[column][0][at..self.taken[column]].to_vec()
    }

    /// Returns the number of stored values.
    fn stored(&self, name: &str) -> usize {
        self.planes[Self::number(name)].iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Checks that all stored values and all bytes of the columns were taken.
    fn check_used(&self) {
        for (name, &taken) in NAMES.iter().zip(&self.taken) {
            assert!(self.stored(name) <= taken, "{name}: {} stored, {taken} read", self.stored(name));
        }
    }
}

/// The strings or the names of a block, and the number of those used so far.
pub(crate) struct Strings {
    strings: Vec<Vec<u8>>,
    pub(crate) used: u64,
}

impl Strings {
    fn new([lens, bytes]: [&str; 2], columns: &mut Columns) -> Self {
        let mut strings = Vec::new();
        let all = columns.stored(bytes);
        let count = columns.stored(lens);
        // The zero lengths of empty strings at the end need not be stored.
        for _ in 0..count {
            let len = columns.take(lens);
            strings.push(columns.bytes(bytes, len));
        }
        assert_eq!(strings.iter().map(Vec::len).sum::<usize>(), all);
        Self { strings, used: 0 }
    }

    /// Returns the number of the string of a code; `None` for code 0.
    pub(crate) fn number(&mut self, code: u64) -> Option<u64> {
        match code {
            0 => None,
            1 => {
                self.used += 1;
                Some(self.used - 1)
            }
            code => Some(code - 2),
        }
    }

    pub(crate) fn at(&self, number: u64) -> Vec<u8> {
        assert!(number < self.used);
        self.strings.get(number as usize).cloned().unwrap_or_default()
    }
}

fn block(payload: &[u8], events: usize, big_endian: bool) -> Vec<ReadRecord> {
    let (details, notes) = (int(payload, 0, 4) as usize, int(payload, 4, 4) as usize);
    let mut columns = Columns::new(&payload[8..]);
    let held = columns.planes.iter().flatten().map(Vec::len).sum::<usize>();
    assert!(32 * events + 128 * (details + notes) + held <= 2048 * (64 + payload.len()));
    let mut strings = Strings::new(["STRING_LEN", "STRING_BYTES"], &mut columns);
    let mut names = Strings::new(["NAME_LEN", "NAME_BYTES"], &mut columns);
    let mut state = Events::new(big_endian);
    let mut context = DetailsSections::default();
    // Numbers of events, and for notes also of details, before each record.
    let mut at = 0;
    let details: Vec<u64> = (0..details)
        .map(|_| {
            at += columns.take("DETAILS_AT");
            at
        })
        .collect();
    let (mut at, mut after) = (0, 0);
    let notes: Vec<(u64, u64)> = (0..notes)
        .map(|_| {
            at += columns.take("NOTE_AT");
            after += columns.take("NOTE_AT_DETAILS");
            (at, after)
        })
        .collect();
    let (mut details, mut notes) = (details.into_iter().peekable(), notes.into_iter().peekable());
    let (mut records, mut details_read) = (Vec::new(), 0);
    for event in 0..=events as u64 {
        loop {
            if notes.next_if(|&(at, after)| at <= event && after <= details_read).is_some() {
                records.push(note(&mut columns));
            } else if details.next_if(|&at| at <= event).is_some() {
                details_read += 1;
                records.push(context.read(&state, &mut columns, &mut strings, &mut names));
            } else {
                break;
            }
        }
        if event < events as u64 {
            let (datagram, then) = state.read(&mut columns, &mut strings);
            let usage = match then {
                Effect::Exit(tid, tgid) => context.usage((tid, tgid), &state, &mut columns),
                Effect::Exec(tgid, time) => {
                    context.execs.push((tgid, time));
                    None
                }
                Effect::Nothing => None,
            };
            records.push(ReadRecord::Event(datagram, usage));
        }
    }
    columns.check_used();
    records
}

fn note(columns: &mut Columns) -> ReadRecord {
    let kind = columns.take("NOTE_KIND");
    let len = columns.take("NOTE_LEN");
    let body = columns.bytes("NOTE_BYTES", len);
    let fields = &mut Fields(&body);
    match kind {
        1 => ReadRecord::Loss {
            cpu_first_last: [fields.unsigned(), fields.unsigned(), fields.unsigned()],
            after_before: [fields.unsigned(), fields.unsigned()],
            cause: fields.unsigned(),
        },
        2 => ReadRecord::Clock(fields.unsigned(), fields.unsigned(), fields.signed()),
        3 => ReadRecord::Snapshot {
            started_ended: [fields.unsigned(), fields.unsigned()],
            processes: fields.unsigned(),
            reason: fields.unsigned(),
            atomic: fields.u8() == 1,
        },
        4 => ReadRecord::Unknown(kind),
        5 => ReadRecord::End {
            numbers: [(); 5].map(|()| fields.unsigned()),
            drops: (fields.u8() == 1).then(|| fields.unsigned()),
            lost: [(); 7].map(|()| fields.unsigned()),
        },
        6 => ReadRecord::Blind(fields.unsigned(), fields.unsigned()),
        7 => ReadRecord::Fence {
            time: fields.unsigned(),
            position: fields.unsigned(),
            unreached: (0..fields.unsigned()).map(|_| [fields.unsigned(), fields.unsigned()]).collect(),
        },
        8 => ReadRecord::Witness([(); 3].map(|()| fields.unsigned())),
        9 => ReadRecord::Excluded {
            cpu_last: [fields.unsigned(), fields.unsigned()],
            count: fields.unsigned(),
        },
        10 => ReadRecord::Ring {
            time: fields.unsigned(),
            cpus: (0..fields.unsigned()).map(|_| [(); 4].map(|()| fields.unsigned())).collect(),
        },
        11 => ReadRecord::Scope(fields.text()),
        12 => match fields.unsigned() {
            0 => ReadRecord::Forks([(); 4].map(|()| fields.unsigned())),
            1 => ReadRecord::NoForks(fields.text()),
            reading => panic!("a count of forks of form {reading}"),
        },
        13 => ReadRecord::Positions {
            time: fields.unsigned(),
            cpus: positions(fields),
            drops: (fields.u8() == 1).then(|| fields.unsigned()),
        },
        14 => ReadRecord::Unobserved([(); 3].map(|()| fields.unsigned())),
        kind => panic!("note of kind {kind}"),
    }
}
