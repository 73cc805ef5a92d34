//! Records that one thread passes to another.

use std::ops::Range;

use pmon_core::capture::{Record, RecordedDatagram, Usage};

/// Number of records of a full batch.
const RECORDS: usize = 1024;
/// Memory of a full batch in bytes. The last record can exceed it.
const BYTES: usize = 256 << 10;

/// Records that borrow nothing.
#[derive(Default)]
pub(super) struct RecordBatch {
    records: Vec<BatchRecord>,
    /// The raw datagrams, one after the other.
    raw: Vec<u8>,
    bytes: usize,
}

enum BatchRecord {
    Record(Record<'static>),
    /// A raw datagram.
    Raw(Range<usize>, Option<Box<Usage>>),
}

impl RecordBatch {
    /// Adds a record.
    pub(super) fn push(&mut self, record: Record<'_>) {
        self.bytes += size_of::<BatchRecord>();
        if let Record::Details(details) = &record {
            self.bytes += details.memory();
        }
        let record = match record.detach() {
            Ok(record) => BatchRecord::Record(record),
            Err((bytes, usage)) => {
                let start = self.raw.len();
                self.raw.extend_from_slice(bytes);
                self.bytes += bytes.len();
                BatchRecord::Raw(start..self.raw.len(), usage)
            }
        };
        self.records.push(record);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= RECORDS || self.bytes >= BYTES
    }

    /// Returns the memory of the records in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Removes all records, and passes them to `visit` until it fails.
    pub(super) fn drain<E>(&mut self, mut visit: impl FnMut(Record<'_>) -> Result<(), E>) -> Result<(), E> {
        for record in self.records.drain(..) {
            visit(match record {
                BatchRecord::Record(record) => record,
                BatchRecord::Raw(range, usage) => {
                    let bytes = self.raw.get(range).unwrap_or_default();
                    Record::Event(RecordedDatagram::Raw(bytes), usage)
                }
            })?;
        }
        self.raw.clear();
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::MonoNs;
    use pmon_core::capture::{Blind, Details, DetailsSubject, MissReason};

    use super::*;

    #[test]
    fn a_batch_returns_its_records_in_order() {
        let subject = DetailsSubject::Snapshot { tgid: pmon_core::Tgid(7) };
        let details = || Record::Details(Box::new(Details::missed(subject, MissReason::Gone)));
        let raw = |bytes| Record::Event(RecordedDatagram::Raw(bytes), Some(Box::default()));
        let blind = || Record::Blind(Blind { from: MonoNs(1), until: MonoNs(2) });
        let mut batch = RecordBatch::default();
        for _ in 0..2 {
            for record in [raw(b"abc"), details(), blind(), raw(b""), raw(b"d")] {
                batch.push(record);
            }
            let mut expected = vec![raw(b"abc"), details(), blind(), raw(b""), raw(b"d")].into_iter();
            assert!(!batch.is_empty() && !batch.is_full());
            let drained =
                batch.drain(|record| if Some(record) == expected.next() { Ok(()) } else { Err(()) });
            assert_eq!((drained, expected.len()), (Ok(()), 0));
            assert!(batch.is_empty() && batch.bytes() == 0);
        }
    }

    #[test]
    fn a_batch_is_full_by_number_or_by_memory() {
        let mut batch = RecordBatch::default();
        batch.push(RecordedDatagram::Raw(&[0; BYTES]).into());
        assert!(batch.is_full());
        assert_eq!(batch.drain(|_| Err(())), Err(()));
        let mut batch = RecordBatch::default();
        (0..RECORDS).for_each(|_| batch.push(Record::Unknown { kind: 9 }));
        assert!(batch.is_full());
    }
}
