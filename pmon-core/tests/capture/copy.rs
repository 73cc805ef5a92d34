//! Copying blocks into another capture without decoding their events.

use pmon_core::capture::{
    BlockDecoder, BlockOutline, DetailsSubject, EncodedItem, Encoder, Header, Note, OutlinedCpu, Reader,
    Record, RecordedDatagram,
};
use pmon_core::wire::{EventBody, EventKind};
use proptest::prelude::*;

use crate::shared::reading::read;
use crate::shared::records::{Owned, any_record, capture, header};

/// Copies all blocks of a capture. `edit` returns the notes that replace those of a block.
fn copy(bytes: &[u8], mut edit: impl FnMut(Vec<Note>) -> Option<Vec<Note>>) -> Vec<u8> {
    let mut encoder = Encoder::new(&Header { uuid: [7; 16], ..header() }).unwrap();
    let mut out = encoder.header().to_vec();
    let (mut reader, mut decoder) = (Reader::open(bytes).unwrap(), BlockDecoder::default());
    while let Some(item) = reader.next_encoded().unwrap() {
        let EncodedItem::Block(block) = item else { panic!("damage") };
        let notes = decoder.notes(&block).unwrap();
        encoder.push_block(&block, edit(notes).as_deref());
        out.extend_from_slice(encoder.seal());
    }
    out.extend_from_slice(encoder.finish());
    out
}

fn is_note(record: &Owned) -> bool {
    !matches!(record.record(), Record::Event(..) | Record::Details(_))
}

/// Counts what an outline should show.
fn outline(records: &[Owned]) -> BlockOutline {
    let mut outline = BlockOutline::default();
    for record in records {
        match record.record() {
            Record::Event(RecordedDatagram::Event(event), _) if event.kind() != EventKind::Unknown => {
                outline.execs += u64::from(matches!(event.body, EventBody::Exec { .. }));
                let new = OutlinedCpu { cpu: event.cpu, first: event.seq, last: event.seq, events: 0 };
                let at = outline.cpus.iter().position(|known| known.cpu == event.cpu);
                let at = at.unwrap_or_else(|| {
                    outline.cpus.push(new);
                    outline.cpus.len() - 1
                });
                outline.cpus[at].last = event.seq;
                outline.cpus[at].events += 1;
            }
            Record::Event(..) => outline.raw += 1,
            Record::Details(details) if matches!(details.subject, DetailsSubject::Exec { .. }) => {
                outline.exec_details += 1;
            }
            _ => {}
        }
    }
    outline
}

proptest! {
    #[test]
    fn a_copied_block_has_the_same_records(
        records in prop::collection::vec(any_record(), 1..60), every in 1..20usize,
    ) {
        let source = capture(&records, every);
        let copied = read(&copy(&source, |_| None)).unwrap();
        prop_assert_eq!(&copied.records, &records);
        prop_assert!(copied.damage.is_empty() && copied.clean == read(&source).unwrap().clean);
        // A reader seeks with the index of the copy.
        let again = copy(&copy(&source, |_| None), |_| None);
        prop_assert_eq!(read(&again).unwrap().records, records);
    }

    #[test]
    fn notes_are_replaced_without_the_events(
        records in prop::collection::vec(any_record(), 1..60), every in 1..20usize, kept in 0..4usize,
    ) {
        let source = capture(&records, every);
        let mut seen = 0;
        let copied = copy(&source, |mut notes| {
            notes.retain(|_| {
                seen += 1;
                seen % 4 < kept
            });
            Some(notes)
        });
        let mut seen = 0;
        let expected: Vec<_> = records
            .into_iter()
            .filter(|record| {
                seen += usize::from(is_note(record));
                !is_note(record) || seen % 4 < kept
            })
            .collect();
        let copied = read(&copied).unwrap();
        prop_assert!(copied.damage.is_empty());
        prop_assert_eq!(copied.records, expected);
    }

    #[test]
    fn an_outline_counts_what_the_block_holds(records in prop::collection::vec(any_record(), 1..60)) {
        let source = capture(&records, usize::MAX);
        let (mut reader, mut decoder) = (Reader::open(source.as_slice()).unwrap(), BlockDecoder::default());
        let Some(EncodedItem::Block(block)) = reader.next_encoded().unwrap() else { panic!("no block") };
        let mut found = decoder.outline(&block).unwrap();
        prop_assert!(found.late_details <= found.exec_details);
        found.late_details = 0;
        // CPUs beyond the maximum are not outlined.
        let mut expected = outline(&records);
        expected.cpus.retain(|outlined| outlined.cpu.0 < pmon_core::accounting::MAX_CPUS);
        prop_assert_eq!(found, expected);
    }
}
