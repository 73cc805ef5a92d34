use std::fs;
use std::sync::Arc;

use pmon_core::capture::{ClockAnchor, CpuPosition, Encoder, Header, Meta, SegmentInfo, SegmentReason};
use pmon_core::wire::ByteOrder;
use pmon_core::{Cpu, MonoNs, Seq};
use tempfile::TempDir;

use super::{RangeBound, SegmentList};
use crate::{Directory, SegmentName};

const SECOND: i64 = 1_000_000_000;

/// A store with captures that have only a header.
struct Store {
    dir: TempDir,
    names: Vec<String>,
}

impl Store {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), names: Vec::new() }
    }

    /// Adds a segment that starts at these seconds of both clocks.
    fn add(&mut self, number: u8, previous: Option<u8>, boot: &str, mono: i64, real: i64) {
        self.add_after(None, number, previous, boot, (mono, real));
    }

    /// Adds a segment that starts at these seconds of both clocks, `last` seconds of the monotonic
    /// clock being the time of the last event before it.
    fn add_after(
        &mut self,
        last: Option<i64>,
        number: u8,
        previous: Option<u8>,
        boot: &str,
        (mono, real): (i64, i64),
    ) {
        let start = ClockAnchor { mono: MonoNs((mono * SECOND) as u64), boot_ns: 0, real_ns: real * SECOND };
        let position = |last| CpuPosition { cpu: Cpu(0), next: Seq(1), time: MonoNs((last * SECOND) as u64) };
        let positions = last.map(position).into_iter().collect();
        let meta = Meta {
            host: "host".into(),
            boot_id: boot.into(),
            previous: previous.map(|previous| [previous; 16]),
            segment: Some(SegmentInfo { reason: SegmentReason::Age, positions }),
            start,
            ..Meta::default()
        };
        let header = Header { uuid: [number; 16], byte_order: ByteOrder::NATIVE, meta };
        let name = SegmentName::unused("host", start.real_ns, |name| {
            self.names.iter().any(|other| other == name.as_str())
        });
        fs::write(self.dir.path().join(name.as_str()), Encoder::new(&header).unwrap().header()).unwrap();
        self.names.push(name.as_str().to_owned());
    }

    fn list(&self) -> SegmentList {
        SegmentList::of_store(Arc::new(Directory::new(self.dir.path())), None).unwrap()
    }
}

/// Returns the first byte of each UUID.
fn numbers(list: &mut SegmentList) -> Vec<u8> {
    list.entries.iter_mut().map(|entry| entry.summary().map_or(0, |summary| summary.uuid[0])).collect()
}

fn ordered(store: &Store) -> Vec<u8> {
    let mut list = store.list();
    list.order();
    numbers(&mut list)
}

/// Returns the captures that a range of wall-clock seconds needs.
fn restricted(store: &Store, since: i64, until: i64) -> Vec<u8> {
    let bound = |real: i64| Some(RangeBound { real_ns: real * SECOND, mono: None });
    let mut list = store.list();
    list.restrict(bound(since), bound(until));
    numbers(&mut list)
}

#[test]
fn a_clock_that_is_set_back_does_not_change_the_order_within_a_boot() {
    let mut store = Store::new();
    store.add(1, None, "a", 10, 1000);
    store.add(2, Some(1), "a", 20, 1010);
    store.add(3, Some(2), "a", 30, 500);
    store.add(4, Some(3), "a", 40, 510);
    assert_eq!(ordered(&store), [1, 2, 3, 4]);
    // All headers are read, because the chain contradicts the names.
    // Events of the last capture can have any later time.
    assert_eq!(restricted(&store, 1005, 1012), [1, 2, 3, 4]);
    assert!(restricted(&store, 501, 505).contains(&3));
}

#[test]
fn boots_follow_the_chain_even_if_the_clock_was_set_back_meanwhile() {
    let mut store = Store::new();
    store.add(1, None, "a", 10, 1000);
    store.add(2, Some(1), "a", 20, 1010);
    store.add(3, Some(2), "b", 5, 700);
    store.add(4, Some(3), "c", 5, 600);
    assert_eq!(ordered(&store), [1, 2, 3, 4]);
}

#[test]
fn a_cycle_of_predecessors_keeps_all_captures() {
    let mut store = Store::new();
    store.add(1, Some(3), "a", 10, 1000);
    store.add(2, Some(1), "b", 10, 1100);
    store.add(3, Some(2), "c", 10, 1200);
    let mut found = ordered(&store);
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3]);
}

#[test]
fn a_range_needs_the_capture_before_it_and_those_within() {
    let mut store = Store::new();
    (1..=100_u8).for_each(|number| {
        let at = i64::from(number) * 10;
        store.add(number, number.checked_sub(1), "a", at, 10_000 + at);
    });
    let range = |since: i64, until: i64| restricted(&store, 10_000 + since, 10_000 + until);
    assert_eq!(range(505, 525), [50, 51, 52]);
    // A capture can begin within the second of the bound, but after it.
    assert_eq!(range(500, 510), [49, 50, 51]);
    assert_eq!(range(-50, 15), [1]);
    assert_eq!(range(5000, 6000), [100]);
    assert_eq!(range(-50, -40), [1]);
    assert_eq!(range(-50, 5000).len(), 100);
}

#[test]
fn a_range_by_the_monotonic_clock_is_right_after_the_wall_clock_was_set() {
    let mut store = Store::new();
    (1..=20_u8).for_each(|number| {
        let at = i64::from(number) * 10;
        // The clock is set forward by an hour after the tenth segment.
        let step = if number > 10 { 3600 } else { 0 };
        store.add(number, number.checked_sub(1), "a", at, 10_000 + at + step);
    });
    let bound = |seconds: i64| {
        Some(RangeBound {
            real_ns: (10_000 + seconds) * SECOND,
            mono: Some(MonoNs((seconds * SECOND) as u64)),
        })
    };
    let mut list = store.list();
    list.restrict(bound(152), bound(163));
    assert_eq!(numbers(&mut list), [15, 16]);
}

#[test]
fn a_capture_is_read_once_while_it_is_renamed() {
    let mut store = Store::new();
    store.add(1, None, "a", 10, 1000);
    let path = store.dir.path().join(&store.names[0]);
    fs::copy(&path, path.with_extension("pmon.partial")).unwrap();
    let list = store.list();
    assert_eq!((list.len(), list.entries()[0].is_partial), (1, false));
}

#[test]
fn a_range_needs_segments_whose_events_waited_before_their_start() {
    let mut store = Store::new();
    store.add(1, None, "a", 10, 1010);
    // Events waited in the ring while no recorder was running, and fill two segments.
    store.add_after(Some(12), 2, Some(1), "a", (30, 1030));
    store.add_after(Some(20), 3, Some(2), "a", (31, 1031));
    store.add_after(Some(31), 4, Some(3), "a", (32, 1032));
    assert_eq!(restricted(&store, 1011, 1015), [1, 2]);
    assert_eq!(restricted(&store, 1011, 1021), [1, 2, 3]);
    let mut list = store.list();
    list.order();
    let bound = |mono: i64| {
        let mono = MonoNs((mono * SECOND) as u64);
        Some(RangeBound { real_ns: 0, mono: Some(mono) })
    };
    list.restrict(bound(11), bound(21));
    assert_eq!(numbers(&mut list), [1, 2, 3]);
}

#[test]
fn a_capture_with_a_damaged_header_keeps_the_place_of_its_name() {
    for damaged in 0..3 {
        let mut store = Store::new();
        (1..=3_u8).for_each(|number| {
            let at = i64::from(number) * 10;
            store.add(number, number.checked_sub(1), "a", at, 1000 + at);
        });
        fs::write(store.dir.path().join(&store.names[damaged]), b"damaged").unwrap();
        let mut expected = [1, 2, 3];
        expected[damaged] = 0;
        assert_eq!(ordered(&store), expected);
    }
}
