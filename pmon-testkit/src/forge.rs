//! Forges files that no writer produces. Each one uses as much memory or time as its kind permits,
//! with valid checksums.

use pmon_core::capture::{
    CpuCounts, Details, DetailsSubject, Encoder, Fence, FencePosition, Header, Meta, MissReason, Record,
    RecordedDatagram, RingCounts, ScopeInfo, UnreachedCpu, UnreachedReason,
};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};

/// Column numbers of the format.
const TAG: u8 = 0;
const CHILD: u8 = 7;
const STRING_LEN: u8 = 16;
const STRING_BYTES: u8 = 17;
const SUBJECT: u8 = 24;
const DETAILS_TGID: u8 = 25;
const PROFILE: u8 = 29;
const ARGS: u8 = 31;
const WORD: u8 = 37;
/// Number of a column that every reader skips.
const FILLER: u8 = 255;

const MARKER: [u8; 8] = *b"\xb1pmb\r\n\x1a\xe5";
/// Number of processes per block of `census`.
const CENSUS: usize = 2000;
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A kind of forged file.
#[derive(Debug)]
pub struct ForgedFile {
    /// The name of the kind.
    pub name: &'static str,
    /// Creates a file that requires about that many MiB of memory, or million records.
    pub make: fn(usize) -> Vec<u8>,
}

/// All kinds of forged files.
pub const ALL: [ForgedFile; 17] = [
    ForgedFile { name: "census", make: census },
    ForgedFile { name: "census, columns", make: census_and_columns },
    ForgedFile { name: "columns", make: |_| [header(), columns(0)].concat() },
    ForgedFile { name: "forks", make: forks },
    ForgedFile { name: "chain", make: chain },
    ForgedFile { name: "tree", make: tree },
    ForgedFile { name: "renames", make: renames },
    ForgedFile { name: "waiting", make: waiting },
    ForgedFile { name: "datagrams", make: datagrams },
    ForgedFile { name: "cpus", make: cpus },
    ForgedFile { name: "lists", make: lists },
    ForgedFile { name: "arguments", make: arguments },
    ForgedFile { name: "claims", make: claims },
    ForgedFile { name: "empty columns", make: empty_columns },
    ForgedFile { name: "zeros", make: |scale| [header(), vec![0; scale * MIB]].concat() },
    ForgedFile { name: "b1", make: |scale| [header(), vec![0xB1; scale * MIB]].concat() },
    ForgedFile { name: "command", make: |_| command() },
];

fn census_and_columns(scale: usize) -> Vec<u8> {
    [census(scale), columns((scale / 4 * CENSUS) as u64)].concat()
}

/// Returns the metadata of the forged files.
pub fn meta() -> Meta {
    Meta { ticks_per_second: 100, cpus_online: 2, recorder_pid: 4, ..Meta::default() }
}

fn head() -> Header {
    Header { uuid: [9; 16], byte_order: ByteOrder::NATIVE, meta: meta() }
}

fn header() -> Vec<u8> {
    Encoder::new(&head()).expect("a header").header().to_vec()
}

/// A block of records whose content is arbitrary, apart from valid checksums.
struct ForgedBlock {
    sections: Vec<u8>,
    events: u32,
    details: u32,
}

impl ForgedBlock {
    fn new(events: usize, details: usize) -> Self {
        Self { sections: Vec::new(), events: events as u32, details: details as u32 }
    }

    fn section(mut self, column: u8, plane: u8, data: &[u8]) -> Self {
        let packed = zstd::bulk::compress(data, 1).expect("it compresses");
        self.sections.extend([column, plane, 1, 0]);
        self.sections.extend((data.len() as u32).to_le_bytes());
        self.sections.extend((packed.len() as u32).to_le_bytes());
        self.sections.extend(packed);
        self
    }

    fn numbers(self, column: u8, values: &[u64]) -> Self {
        let used = values.iter().fold(0, |all, value| all | value);
        (0..8).filter(|plane| used >> (8 * plane) & 0xFF != 0).fold(self, |block, plane| {
            let data: Vec<u8> = values.iter().map(|value| (value >> (8 * plane)) as u8).collect();
            block.section(column, plane, &data)
        })
    }

    /// Pads the block to `len` bytes, so that a reader accepts its claims.
    fn filled(mut self, len: usize) -> Self {
        let zeros = vec![0; len.saturating_sub(self.sections.len())];
        self.sections.extend([FILLER, 0, 0, 0]);
        self.sections.extend((zeros.len() as u32).to_le_bytes());
        self.sections.extend((zeros.len() as u32).to_le_bytes());
        self.sections.extend(zeros);
        self
    }

    fn append(self, first_record: &mut u64, out: &mut Vec<u8>) {
        let payload = [&self.details.to_le_bytes()[..], &[0; 4], &self.sections].concat();
        let records = self.events + self.details;
        out.extend(block(&payload, records, self.events, *first_record));
        *first_record += u64::from(records);
    }
}

fn block(payload: &[u8], records: u32, events: u32, first_record: u64) -> Vec<u8> {
    let mut block =
        block_header(payload.len() as u32, records, events, first_record, crc32c::crc32c(payload));
    block.extend(payload);
    block
}

/// A block header with a valid checksum of its own.
fn block_header(len: u32, records: u32, events: u32, first_record: u64, crc: u32) -> Vec<u8> {
    let mut block = MARKER.to_vec();
    block.extend([9, 9, 9, 9, 1, 0, 0, 0]);
    block.extend(len.to_le_bytes());
    block.extend(records.to_le_bytes());
    block.extend(first_record.to_le_bytes());
    block.extend(events.to_le_bytes());
    block.extend(crc.to_le_bytes());
    block.extend([0; 20]);
    block.extend(crc32c::crc32c(&block).to_le_bytes());
    block
}

/// Processes found by a scan, each with 2 KiB of arguments that take no bytes in the file.
fn census(scale: usize) -> Vec<u8> {
    let (mut out, mut first) = (header(), 0);
    let details = CENSUS;
    for n in 0..scale / 4 {
        let mut ids = vec![2; details];
        ids[0] = 2 * (n * details + 1) as u64;
        ForgedBlock::new(0, details)
            .numbers(SUBJECT, &vec![1; details])
            .numbers(DETAILS_TGID, &ids)
            .numbers(PROFILE, &[&[1][..], &vec![2; details - 1]].concat())
            .numbers(ARGS, &[1])
            .numbers(WORD, &[&[1][..], &[3; 7], &[2]].concat())
            .numbers(STRING_LEN, &[255])
            .section(STRING_BYTES, 0, &[b'x'; 255])
            .filled(1200)
            .append(&mut first, &mut out);
    }
    out
}

/// Blocks with the maximum decoded size: number columns, then words and profiles.
fn columns(mut first: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..2 {
        let numbers = (0..37_u8).filter(|column| ![14, 15, 16, 17, 21, 22].contains(column));
        let block =
            numbers.fold(ForgedBlock::new(1, 0), |block, column| block.section(column, 0, &[1; 131_072]));
        block.filled(8192).append(&mut first, &mut out);
        let details = 60_000;
        ForgedBlock::new(0, details)
            .numbers(SUBJECT, &vec![1; details])
            .numbers(DETAILS_TGID, &vec![2; details])
            .numbers(PROFILE, &vec![1; details])
            .numbers(ARGS, &[1; 4])
            .section(WORD, 0, &vec![1; 1 << 20])
            .section(STRING_LEN, 0, &vec![0; 1 << 20])
            .filled(16_384)
            .append(&mut first, &mut out);
    }
    out
}

/// Forks with ascending IDs.
fn forks(scale: usize) -> Vec<u8> {
    let (mut out, mut first) = (header(), 0);
    for n in 0..scale {
        let mut children = vec![0; 65_536];
        children[0] = (n * 2 * 65_536) as u64;
        ForgedBlock::new(65_536, 0)
            .numbers(TAG, &vec![1; 65_536])
            .numbers(CHILD, &children)
            .filled(2048)
            .append(&mut first, &mut out);
    }
    out
}

fn event(n: u32, cpu: u32, body: EventBody) -> Record<'static> {
    let event = Event { time: MonoNs(1_000_000), seq: Seq(n), cpu: Cpu(cpu), body };
    Record::Event(RecordedDatagram::Event(event), None)
}

fn fork(n: u32, parent: u32, child: u32) -> Record<'static> {
    event(n, 0, EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child, child) })
}

fn written(records: impl Iterator<Item = Record<'static>>) -> Vec<u8> {
    let mut encoder = Encoder::new(&head()).expect("a header");
    let mut out = encoder.header().to_vec();
    for record in records {
        encoder.push(&record).expect("a record");
        if encoder.is_full() {
            out.extend(encoder.seal());
        }
    }
    out.extend(encoder.seal());
    out.extend(encoder.finish());
    out
}

/// A chain of processes, each the child of the previous one, with changes at its top.
fn chain(scale: usize) -> Vec<u8> {
    let len = 500 * scale as u32;
    let threads = (0..len).map(|n| {
        let (parent, child) = (Task::new(len + n % 2, len + n % 2), Task::new(3_000_000, 20));
        event(len + n, 0, EventBody::Fork { parent, child })
    });
    written((1..len).map(|n| fork(n, n + 9, n + 10)).chain(threads))
}

/// A tree with one root that contains all possible IDs.
fn tree(scale: usize) -> Vec<u8> {
    written((1..scale as u32 * 2000).map(|n| fork(n, 1, n * 1021)))
}

/// Processes, each with its own name.
fn renames(scale: usize) -> Vec<u8> {
    written((1..scale as u32 * 1000).map(|n| {
        let mut comm = Comm::default();
        let name = format!("{n:015}");
        comm.0[..15].copy_from_slice(name.as_bytes());
        event(n, 0, EventBody::Comm { task: Task::new(n, n), comm })
    }))
}

/// An exec that waits for its details, followed by long datagrams without an event.
fn waiting(scale: usize) -> Vec<u8> {
    let scope = Record::Scope(ScopeInfo { text: "s".repeat(250 * KIB) });
    let exec = event(1, 0, EventBody::Exec { task: Task::new(7, 7) });
    let long = (0..4 * scale).map(|_| Record::Event(RecordedDatagram::Raw(&[0; 250 * KIB]), None));
    written([scope, exec].into_iter().chain(long))
}

/// Long datagrams without an event.
fn datagrams(scale: usize) -> Vec<u8> {
    static LONG: [u8; 250 << 10] = [7; 250 << 10];
    let small = (0..scale * 1000).map(|_| Record::Event(RecordedDatagram::Raw(&LONG[..1]), None));
    written((0..4 * scale).map(|_| Record::Event(RecordedDatagram::Raw(&LONG), None)).chain(small))
}

/// Events of every possible CPU number.
fn cpus(scale: usize) -> Vec<u8> {
    let scope = Record::Scope(ScopeInfo { text: "some".into() });
    let exit = |n: u32| {
        let body = EventBody::Exit { task: Task::new(n, n), code: 0, signal: 17, parent: None };
        event(n / 8192, if n.is_multiple_of(9) { n.wrapping_mul(77_777) } else { n % 8192 }, body)
    };
    written([scope].into_iter().chain((0..scale as u32 * 2000).map(exit)))
}

/// Notes with long lists.
fn lists(scale: usize) -> Vec<u8> {
    let unreached = (0..20_000).map(|n| UnreachedCpu { cpu: Cpu(n), why: UnreachedReason::Silent }).collect();
    let fence = Record::Fence(Fence { time: MonoNs(1), position: FencePosition::Start, unreached });
    let cpu = |n| CpuCounts { cpu: Cpu(n), ..CpuCounts::default() };
    let ring = Record::Ring(RingCounts { time: MonoNs(1), cpus: (0..30_000).map(cpu).collect() });
    written((0..scale * 2).flat_map(|_| [fence.clone(), ring.clone()]))
}

/// Details with arguments of the maximum length, all made of the same words.
fn arguments(scale: usize) -> Vec<u8> {
    let details = |n: usize| {
        let subject = DetailsSubject::Exec { tgid: Tgid(n as u32 + 1), time: MonoNs(1_000_000) };
        let args = Some(format!("{n}\0{}", "x\0".repeat(120_000)).into_bytes());
        Record::Details(Box::new(Details { args, miss: None, ..Details::missed(subject, MissReason::Gone) }))
    };
    let exec = |n: usize| event(n as u32, 0, EventBody::Exec { task: Task::new(n as u32 + 1, n as u32 + 1) });
    written((0..scale * 4).flat_map(|n| [exec(n), details(n)]))
}

/// Headers that claim the bytes after them.
fn claims(scale: usize) -> Vec<u8> {
    let len = scale * MIB / 4;
    let each = |at: usize| block_header((len - at * 64).clamp(64, 16 * MIB) as u32 - 64, 1, 1, 0, 7);
    [header(), (0..len / 64).flat_map(each).collect()].concat()
}

/// Records over missing columns.
fn empty_columns(scale: usize) -> Vec<u8> {
    let (mut out, mut first) = (header(), 0);
    for _ in 0..scale * 50 {
        let payload = [65_536_u32.to_le_bytes(), 65_536_u32.to_le_bytes()].concat();
        out.extend(block(&payload, 3 * 65_536, 65_536, first));
        first += 3 * 65_536;
    }
    for _ in 0..scale {
        ForgedBlock::new(65_536, 0).filled(1024).append(&mut first, &mut out);
    }
    out
}

/// A header of the maximum length, with empty arguments.
fn command() -> Vec<u8> {
    let command = vec![Vec::new(); 100_000];
    let header = Header { meta: Meta { command, ..meta() }, ..head() };
    Encoder::new(&header).map_or_else(|_| self::header(), |encoder| encoder.header().to_vec())
}
