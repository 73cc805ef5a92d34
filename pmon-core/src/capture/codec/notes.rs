//! Notes: the rare kinds of record, each stored as a kind and a bincode body.

use crate::capture::format::meta::{self, MetaError};
use crate::capture::records::Record;

/// Defines the coding of notes from one row per kind.
macro_rules! notes {
    ($($kind:literal $record:ident,)*) => {
        /// Returns a note's kind and body; `None` for records that are not stored as notes.
        pub(crate) fn encode(record: &Record<'_>) -> Result<Option<(u8, Vec<u8>)>, MetaError> {
            Ok(Some(match record {
                $(Record::$record(body) => ($kind, meta::encode(body)?),)*
                Record::Event(..) | Record::Details(_) | Record::Unknown { .. } => return Ok(None),
            }))
        }

        /// Returns the record of a note. A note that cannot be decoded becomes an unknown record,
        /// like a note of a later version.
        pub(crate) fn decode(kind: u8, body: &[u8]) -> Record<'static> {
            let record = match kind {
                $($kind => meta::decode(body).map(Record::$record),)*
                kind => return Record::Unknown { kind },
            };
            record.unwrap_or(Record::Unknown { kind })
        }
    };
}

// Kind 4 is reserved: versions 1.0 to 1.2 defined it, and no writer used it.
notes! {
    1 Loss,
    2 Clock,
    3 Snapshot,
    5 End,
    6 Blind,
    7 Fence,
    8 Witness,
    9 Excluded,
    10 Ring,
    11 Scope,
    12 Forks,
    13 Positions,
    14 Unobserved,
}

/// Returns whether a note of this kind is an `End`.
pub(crate) fn is_end(kind: u64) -> bool {
    kind == 5
}
