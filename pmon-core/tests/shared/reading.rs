//! Reading whole captures.

use pmon_core::capture::{DamageKind, Item, OpenError, Reader};

use super::records::Owned;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Read {
    pub(crate) records: Vec<Owned>,
    pub(crate) damage: Vec<DamageKind>,
    pub(crate) clean: bool,
}

pub(crate) fn read(bytes: &[u8]) -> Result<Read, OpenError> {
    drain(&mut Reader::open(bytes)?)
}

pub(crate) fn drain<R: std::io::Read>(reader: &mut Reader<R>) -> Result<Read, OpenError> {
    let mut read = Read::default();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Block(block) => {
                assert_eq!(block.records().size_hint().0, block.records().count());
                read.records.extend(block.records().map(Owned::from));
            }
            Item::Damage(damage) => {
                assert!(!damage.to_string().is_empty());
                read.damage.push(damage.what);
            }
        }
    }
    read.clean = reader.ended_cleanly();
    Ok(read)
}
