//! Compares the range of an excerpt with the time that its sources cover.

use pmon_core::MonoNs;
use pmon_core::capture::{BlockDecoder, EncodedItem, Record};

use super::range::Range;
use super::start::{Capture, open, outline};
use super::{CutError, CutSource};

/// Refuses a range that ends before it begins, because no part of it is recorded.
///
/// A range with only a first time ends with the sources, and a range with only a last time begins
/// with them. A range with both times has a length of its own: the excerpt states which part of it
/// is unobserved.
pub(super) fn check(source: &dyn CutSource, captures: &[Capture], range: Range) -> Result<(), CutError> {
    let is_recorded = match (range.has_start(), range.has_end()) {
        (true, true) => range.from <= range.until,
        (true, false) => captures
            .last()
            .map(|last| end(source, last))
            .transpose()?
            .flatten()
            .is_none_or(|end| range.from <= end),
        (false, true) => {
            let begin = captures.first().and_then(Capture::begin);
            begin.is_none_or(|begin| begin <= range.until)
        }
        (false, false) => true,
    };
    if is_recorded { Ok(()) } else { Err(CutError::NotRecorded) }
}

/// Returns the time of the end of a source, or that of its last event, or else that of its start;
/// `None` if none of them can be read.
fn end(source: &dyn CutSource, capture: &Capture) -> Result<Option<MonoNs>, CutError> {
    let failed = |error| CutError::Read { name: source.name(capture.index), source: error };
    let mut reader = open(source, capture.index)?;
    let order = reader.byte_order();
    // The index leads to the last block; without an index, all blocks are read.
    reader.seek(MonoNs(u64::MAX)).map_err(failed)?;
    let mut end = capture.header.as_ref().map(|header| header.meta.start.mono);
    let mut decoder = BlockDecoder::default();
    while let Some(item) = reader.next_encoded().map_err(failed)? {
        let EncodedItem::Block(block) = item else { continue };
        let (_, span) = outline(&block, &mut decoder, order);
        end = end.max(span.map(|span| span.last));
        for note in decoder.notes(&block).unwrap_or_default() {
            if let Record::End(ended) = note.record() {
                end = end.max(Some(ended.time));
            }
        }
    }
    Ok(end)
}
