//! Notes: the rare kinds of record, each stored as a kind and a bincode body.

use crate::capture::format::meta::{self, MetaError};
use crate::capture::records::Record;

const LOSS: u8 = 1;
const CLOCK: u8 = 2;
const SNAPSHOT: u8 = 3;
// 4 is reserved: versions 1.0 to 1.2 defined it, and no writer used it.
const END: u8 = 5;
const BLIND: u8 = 6;
const FENCE: u8 = 7;
const WITNESS: u8 = 8;
const EXCLUDED: u8 = 9;
const RING: u8 = 10;
const SCOPE: u8 = 11;
const FORKS: u8 = 12;

/// Returns a note's kind and body; `None` for records that are not stored as notes.
pub(crate) fn encode(record: &Record<'_>) -> Result<Option<(u8, Vec<u8>)>, MetaError> {
    Ok(Some(match record {
        Record::Loss(loss) => (LOSS, meta::encode(loss)?),
        Record::Blind(blind) => (BLIND, meta::encode(blind)?),
        Record::Fence(fence) => (FENCE, meta::encode(fence)?),
        Record::Witness(witness) => (WITNESS, meta::encode(witness)?),
        Record::Excluded(excluded) => (EXCLUDED, meta::encode(excluded)?),
        Record::Ring(counts) => (RING, meta::encode(counts)?),
        Record::Scope(scope) => (SCOPE, meta::encode(scope)?),
        Record::Forks(forks) => (FORKS, meta::encode(forks)?),
        Record::Clock(clock) => (CLOCK, meta::encode(clock)?),
        Record::Snapshot(snapshot) => (SNAPSHOT, meta::encode(snapshot)?),
        Record::End(end) => (END, meta::encode(end)?),
        Record::Event(..) | Record::Details(_) | Record::Unknown { .. } => return Ok(None),
    }))
}

/// Returns the record of a note. A note that cannot be decoded becomes an unknown record, like a
/// note of a later version.
pub(crate) fn decode(kind: u8, body: &[u8]) -> Record<'static> {
    let record = match kind {
        LOSS => meta::decode(body).map(Record::Loss),
        CLOCK => meta::decode(body).map(Record::Clock),
        SNAPSHOT => meta::decode(body).map(Record::Snapshot),
        END => meta::decode(body).map(Record::End),
        BLIND => meta::decode(body).map(Record::Blind),
        FENCE => meta::decode(body).map(Record::Fence),
        WITNESS => meta::decode(body).map(Record::Witness),
        EXCLUDED => meta::decode(body).map(Record::Excluded),
        RING => meta::decode(body).map(Record::Ring),
        SCOPE => meta::decode(body).map(Record::Scope),
        FORKS => meta::decode(body).map(Record::Forks),
        kind => return Record::Unknown { kind },
    };
    record.unwrap_or(Record::Unknown { kind })
}

/// Returns whether a note of this kind ends a capture.
pub(crate) fn is_end(kind: u64) -> bool {
    kind == u64::from(END)
}
