//! The order of captures by their headers, because a clock can step and a file can be renamed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::summary::SegmentSummary;

/// Sorts captures: those of a boot by the monotonic time of their start, boots by their chain of
/// predecessors, and by the wall clock where the chain is broken.
pub(crate) fn in_order<T>(captures: Vec<T>, summary: impl Fn(&T) -> &SegmentSummary) -> Vec<T> {
    let mut boots: BTreeMap<(String, String), Vec<T>> = BTreeMap::new();
    for capture in captures {
        let SegmentSummary { machine_id, boot_id, .. } = summary(&capture);
        boots.entry((machine_id.clone(), boot_id.clone())).or_default().push(capture);
    }
    let mut boots: Vec<Vec<T>> = boots.into_values().collect();
    for boot in &mut boots {
        boot.sort_by_key(|capture| {
            let SegmentSummary { start, uuid, .. } = summary(capture);
            (start.mono, start.real_ns, *uuid)
        });
    }
    let mut boot_of = HashMap::new();
    for (number, boot) in boots.iter().enumerate() {
        boot_of.extend(boot.iter().map(|capture| (summary(capture).uuid, number)));
    }
    // The boots that follow each boot, because they continue one of its captures.
    let mut followers: Vec<Vec<usize>> = boots.iter().map(|_| Vec::new()).collect();
    let mut ready = BTreeSet::new();
    let starts: Vec<i64> = boots.iter().map(|boot| summary(&boot[0]).start.real_ns).collect();
    for (number, boot) in boots.iter().enumerate() {
        let mut continued =
            boot.iter().filter_map(|capture| boot_of.get(&summary(capture).previous?)).copied();
        match continued.find(|&previous| previous != number) {
            Some(previous) => followers[previous].push(number),
            None => drop(ready.insert((starts[number], number))),
        }
    }
    let mut order = Vec::new();
    let mut left: BTreeSet<_> = starts.iter().copied().zip(0..).collect();
    // Forged headers can form a circle. The earliest boot then breaks it.
    while let Some(next) = ready.pop_first().or_else(|| left.first().copied()) {
        if left.remove(&next) {
            order.push(next.1);
            ready.extend(followers[next.1].iter().map(|&number| (starts[number], number)));
        }
    }
    let mut boots: Vec<Option<Vec<T>>> = boots.into_iter().map(Some).collect();
    order.into_iter().filter_map(|number| boots[number].take()).flatten().collect()
}

#[cfg(test)]
mod tests {
    use pmon_core::MonoNs;
    use pmon_core::capture::{ClockAnchor, Header, Meta};
    use pmon_core::wire::ByteOrder;

    use super::*;

    /// Returns what a header with this number as its UUID states.
    fn segment(uuid: u8, boot: &str, mono: u64, real_ns: i64, previous: Option<u8>) -> SegmentSummary {
        let start = ClockAnchor { mono: MonoNs(mono), boot_ns: mono, real_ns };
        let previous = previous.map(|previous| [previous; 16]);
        let meta = Meta { boot_id: boot.into(), start, previous, ..Meta::default() };
        SegmentSummary::of(&Header { uuid: [uuid; 16], byte_order: ByteOrder::NATIVE, meta })
    }

    fn order(segments: Vec<SegmentSummary>) -> Vec<u8> {
        in_order(segments, |summary| summary).into_iter().map(|summary| summary.uuid[0]).collect()
    }

    #[test]
    fn a_clock_that_steps_backwards_does_not_change_the_order_of_a_boot() {
        let segments = vec![
            segment(3, "a", 30, 50, Some(2)),
            segment(1, "a", 10, 1000, None),
            segment(2, "a", 20, 40, Some(1)),
        ];
        assert_eq!(order(segments), [1, 2, 3]);
    }

    #[test]
    fn boots_follow_their_chain_and_otherwise_the_wall_clock() {
        // The wall clock of the second boot is before that of the first one.
        let segments = vec![
            segment(4, "c", 5, 300, None),
            segment(3, "b", 5, 100, Some(2)),
            segment(1, "a", 10, 200, None),
            segment(2, "a", 20, 210, Some(1)),
        ];
        assert_eq!(order(segments), [1, 2, 3, 4]);
        let broken = vec![segment(3, "b", 5, 100, Some(9)), segment(1, "a", 10, 200, None)];
        assert_eq!(order(broken), [3, 1]);
    }

    #[test]
    fn a_circle_of_predecessors_loses_no_segment() {
        let segments = vec![
            segment(1, "a", 1, 10, Some(3)),
            segment(2, "b", 1, 20, Some(1)),
            segment(3, "c", 1, 30, Some(2)),
        ];
        assert_eq!(order(segments), [1, 2, 3]);
    }
}
