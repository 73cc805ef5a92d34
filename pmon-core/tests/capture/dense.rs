//! Tests the limits of a block's content per byte: a reader accepts everything that a writer
//! produces, and refuses forged claims.

use pmon_core::capture::{
    DamageKind, Details, DetailsSubject, Encoder, MissReason, Record, RecordedDatagram, ScopeInfo,
};
use pmon_core::wire::{Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};

use crate::hostile::{forged, packed, stored};
use crate::shared::reading::read;
use crate::shared::records::{Owned, header};

/// Returns a capture of `records` in blocks of the writer's maximum size.
fn written(records: impl IntoIterator<Item = Record<'static>>) -> Vec<u8> {
    let mut encoder = Encoder::new(&header()).unwrap();
    let mut bytes = encoder.header().to_vec();
    for record in records {
        encoder.push(&record).unwrap();
        if encoder.is_full() {
            bytes.extend(encoder.seal());
        }
    }
    bytes.extend(encoder.seal());
    bytes.extend(encoder.finish());
    bytes
}

fn event(time: u64, seq: u32, body: EventBody) -> Record<'static> {
    Record::Event(
        RecordedDatagram::Event(Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(0), body }),
        None,
    )
}

fn rename(n: u32) -> Record<'static> {
    let mut comm = Comm::default();
    comm.0[..4].copy_from_slice(b"same");
    event(1_764_000_000_000_000, n, EventBody::Comm { task: Task::new(4_000_000, 4_000_000), comm })
}

fn exec_details(n: u32) -> [Record<'static>; 2] {
    let (tgid, time) = (Tgid(7), MonoNs(1_764_000_000_000_000));
    let missed = Details::missed(DetailsSubject::Exec { tgid, time }, MissReason::Busy);
    let exec = event(time.0, n, EventBody::Exec { task: Task::new(7, 7) });
    [exec, Record::Details(Box::new(missed))]
}

/// Identical records have the largest number of records per byte.
#[test]
fn well_compressible_blocks_of_a_writer_are_accepted() {
    let args = |n| {
        let subject = DetailsSubject::Snapshot { tgid: Tgid(n) };
        let args = Some(b"x\0".repeat(60_000));
        Record::Details(Box::new(Details { args, ..Details::missed(subject, MissReason::Gone) }))
    };
    let scope = || Record::Scope(ScopeInfo { text: "s".repeat(1000) });
    let cases: Vec<(&str, Vec<Record<'static>>)> = vec![
        ("renames", (1..=65_536).map(rename).collect()),
        ("acknowledgements", (1..=20_000).map(|n| event(0, n, EventBody::Ack { ack: 0, err: 0 })).collect()),
        ("execs that were missed", (1..=10_000).flat_map(exec_details).collect()),
        ("scans", (0..10_000).map(|_| args(1)).take(100).collect()),
        ("notes", (0..9000).map(|_| scope()).collect()),
        (
            "raw datagrams",
            (0..40_000).map(|_| Record::Event(RecordedDatagram::Raw(&[0; 200]), None)).collect(),
        ),
    ];
    for (name, records) in cases {
        let bytes = written(records.iter().cloned());
        let read = read(&bytes).unwrap();
        assert_eq!(read.damage, [], "{name}");
        assert_eq!(read.records.len(), records.len(), "{name}");
        let expected: Vec<Owned> = records.into_iter().map(Owned::from).collect();
        assert!(read.records == expected, "{name}");
    }
}

#[test]
fn a_real_storm_needs_no_padding() {
    let bytes = written((1..=16_384).map(rename));
    let filler = b"\xff\0\0\0";
    assert!(!bytes.windows(4).any(|window| window == filler), "{} bytes", bytes.len());
}

/// Missing columns are endless zeros, so such a block claims records without having bytes for them.
#[test]
fn records_over_empty_columns_are_refused() {
    for counts in [[65_536, 0, 0], [0, 65_536, 0], [0, 0, 65_536], [65_536; 3], [8192, 0, 0], [0, 2048, 0]] {
        let [events, details, notes]: [u32; 3] = counts;
        let payload = [details.to_le_bytes(), notes.to_le_bytes()].concat();
        let block = forged(&payload, events + details + notes, events, 0);
        let file = [Encoder::new(&header()).unwrap().header(), &block].concat();
        let read = read(&file).unwrap();
        assert_eq!(read.records, [], "{counts:?}");
        let claims = DamageKind::Malformed("it claims more records than its bytes can hold");
        assert_eq!(read.damage, [claims], "{counts:?}");
    }
}

#[test]
fn sections_that_decompress_to_more_than_their_bytes_can_hold_are_refused() {
    let bomb = packed(15, &vec![0; 8 << 20]);
    assert!(bomb.len() < 1000);
    let planes: Vec<u8> = (0..61_u8)
        .filter(|column| ![14, 15, 16, 17, 21, 22, 43, 44].contains(column))
        .flat_map(|column| packed(column, &[0; 131_072]))
        .collect();
    for sections in [bomb, planes] {
        let block = forged(&[&[0; 8][..], &sections].concat(), 1, 1, 0);
        let read = read(&[Encoder::new(&header()).unwrap().header(), &block].concat()).unwrap();
        assert_eq!(read.damage, [DamageKind::Malformed("it claims more than its bytes can hold")]);
    }
}

/// Repetitions of the predicted word take no bytes, so the block's length limits the arguments.
#[test]
fn repeated_arguments_are_limited_by_the_length_of_the_block() {
    let details = 1000;
    let word = [&stored(16, 0, &[255])[..], &stored(17, 0, &[b'x'; 255])].concat();
    let line: Vec<u8> = [&[1][..], &[4; 1000], &[2]].concat();
    let sections = [
        packed(24, &vec![1; details]),
        packed(29, &[&[1][..], &vec![2; details - 1]].concat()),
        stored(31, 0, &[1]),
        packed(37, &line),
        word,
    ];
    let payload = [&(details as u32).to_le_bytes()[..], &[0; 4], &sections.concat()].concat();
    let block = forged(&payload, details as u32, 0, 0);
    let read = read(&[Encoder::new(&header()).unwrap().header(), &block].concat()).unwrap();
    assert_eq!(read.damage, []);
    let supplied: usize = read
        .records
        .iter()
        .map(|record| match record {
            Owned::Other(Record::Details(details)) => details.args.as_ref().map_or(0, Vec::len),
            other => panic!("{other:?}"),
        })
        .sum();
    assert!(supplied > 0);
    assert!(supplied <= 4096 * block.len() + (512 << 10), "{supplied} bytes of {}", block.len());
}
