//! Orders captures by their headers, because a clock can step and a file can be renamed.

use std::collections::{BTreeMap, HashMap};

use super::list::SegmentEntry;

/// Sorts captures: those of one boot by the monotonic clock, and boots by the chain of `previous`;
/// boots that no chain connects by their wall-clock times. Captures with a damaged header follow
/// the capture whose name precedes theirs; those whose names have no time are last.
pub(super) fn by_header(entries: &mut Vec<SegmentEntry>) {
    let mut boots: BTreeMap<(String, String), Vec<SegmentEntry>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for entry in entries.drain(..) {
        match &entry.summary {
            Some(of) => boots.entry((of.machine_id.clone(), of.boot_id.clone())).or_default().push(entry),
            None => unknown.push(entry),
        }
    }
    let mut boots: Vec<Vec<SegmentEntry>> = boots.into_values().collect();
    for boot in &mut boots {
        boot.sort_by_key(|entry| entry.summary.as_ref().map(|of| (of.start.mono, of.start.real_ns)));
    }
    boots.sort_by_key(|boot| boot.first().and_then(|entry| Some(entry.summary.as_ref()?.start.real_ns)));
    *entries = chained(boots).into_iter().flatten().collect();
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

/// Moves each boot after the one that its first captures continue. A cycle, which only forged
/// headers have, keeps the order of the wall clock.
fn chained(boots: Vec<Vec<SegmentEntry>>) -> Vec<Vec<SegmentEntry>> {
    let mut boot_of = HashMap::new();
    for (number, boot) in boots.iter().enumerate() {
        boot_of.extend(boot.iter().filter_map(|entry| Some((entry.summary.as_ref()?.uuid, number))));
    }
    let previous: Vec<Option<usize>> = boots
        .iter()
        .enumerate()
        .map(|(number, boot)| {
            let earlier = boot.iter().filter_map(|entry| entry.summary.as_ref()?.previous);
            earlier.filter_map(|uuid| boot_of.get(&uuid).copied()).find(|&before| before != number)
        })
        .collect();
    let mut placed = vec![false; boots.len()];
    let mut order = Vec::with_capacity(boots.len());
    for number in 0..boots.len() {
        // Place the unplaced boots that this one continues first. The path ends at a placed boot or
        // where it would repeat.
        let mut path = Vec::new();
        let mut at = Some(number);
        while let Some(boot) = at.filter(|&boot| !placed[boot]) {
            placed[boot] = true;
            path.push(boot);
            at = previous[boot];
        }
        order.extend(path.into_iter().rev());
    }
    let mut boots: Vec<_> = boots.into_iter().map(Some).collect();
    order.into_iter().filter_map(|number| boots[number].take()).collect()
}
