//! Orders captures whose headers may be damaged.

use super::list::SegmentEntry;
use crate::segment::{OrderKey, in_order};

/// Sorts captures by their headers. Captures with a damaged header follow the capture whose name
/// precedes theirs; those whose names have no time are last.
pub(super) fn by_header(entries: &mut Vec<SegmentEntry>) {
    let (known, mut unknown): (Vec<_>, Vec<_>) = entries.drain(..).partition(|entry| entry.summary.is_some());
    *entries = in_order(known, |entry| {
        entry.summary.as_ref().map_or(OrderKey::default(), |of| OrderKey {
            machine_id: &of.machine_id,
            boot_id: &of.boot_id,
            uuid: of.uuid,
            previous: of.previous,
            start: of.start,
        })
    });
    unknown.sort_by(|a, b| (&a.second, &a.suffix).cmp(&(&b.second, &b.suffix)));
    for entry in unknown {
        let precedes = |other: &SegmentEntry| {
            other.second.is_some() && (&other.second, &other.suffix) <= (&entry.second, &entry.suffix)
        };
        let at = match entries.iter().rposition(precedes) {
            Some(at) => at + 1,
            None if entry.second.is_some() => 0,
            None => entries.len(),
        };
        entries.insert(at, entry);
    }
}
