//! Orders captures whose headers may be damaged.

use super::entry::SegmentEntry;
use crate::segment::in_order;

/// Sorts captures by their headers. Captures with a damaged header follow the capture whose name
/// precedes theirs; those whose names have no time are last.
pub(super) fn by_header(entries: &mut Vec<SegmentEntry>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for mut entry in entries.drain(..) {
        match entry.summary.take() {
            Some(summary) => known.push((summary, entry)),
            None => unknown.push(entry),
        }
    }
    for (summary, mut entry) in in_order(known, |(summary, _)| summary) {
        entry.summary = Some(summary);
        entries.push(entry);
    }
    unknown.sort_by(|a, b| a.time().cmp(&b.time()));
    for entry in unknown {
        let precedes = |other: &SegmentEntry| other.time().is_some() && other.time() <= entry.time();
        let at = match entries.iter().rposition(precedes) {
            Some(at) => at + 1,
            None if entry.time().is_some() => 0,
            None => entries.len(),
        };
        entries.insert(at, entry);
    }
}
