//! The captures of recorders that continue each other.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use pmon_core::wire::Event;
use pmon_core::{Cpu, MonoNs, Seq};
use pmon_testkit::capture::CaptureContents;

use crate::observer::EventNumber;

/// The captures in a directory, in the order of their names.
#[derive(Debug)]
pub(crate) struct Generations(Vec<CaptureContents>);

/// The first and the last event of a CPU in a capture.
type Ends = BTreeMap<Cpu, (Seq, Seq)>;

impl Generations {
    /// Reads all captures. Fails the test if one is damaged.
    #[track_caller]
    pub(crate) fn read(directory: &Path) -> Self {
        let entries = fs::read_dir(directory).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let captures: Vec<_> = paths.iter().map(|path| CaptureContents::read(path)).collect();
        for capture in &captures {
            capture.number_spans().unwrap_or_else(|why| panic!("{why}"));
            assert!(capture.blind.is_empty(), "{:?}", capture.blind);
        }
        Self(captures)
    }

    /// Returns the number of captures.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns all events, capture by capture.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.0.iter().flat_map(CaptureContents::events)
    }

    /// Returns the number of events that the captures count as lost.
    pub(crate) fn lost(&self) -> u64 {
        self.0.iter().flat_map(CaptureContents::losses).map(|loss| loss.count()).sum()
    }

    /// Returns for each division the number of events that neither of its captures accounts for.
    #[track_caller]
    pub(crate) fn missing_between(&self) -> Vec<u64> {
        let mut next: BTreeMap<Cpu, Seq> = BTreeMap::new();
        let mut all = Vec::new();
        for capture in &self.0 {
            let mut missing = 0;
            for (cpu, (first, last)) in ends(capture) {
                if let Some(expected) = next.insert(cpu, last.next()) {
                    let between = first.0.wrapping_sub(expected.0);
                    assert!(between < 1 << 31, "{cpu}: {first:?} is recorded twice");
                    missing += u64::from(between);
                }
            }
            all.push(missing);
        }
        all.split_off(1)
    }

    /// Fails the test unless each recorded event is that which the kernel emitted.
    #[track_caller]
    pub(crate) fn compare(&self, observed: &HashMap<EventNumber, Event>) {
        let mut compared = 0;
        // The observer starts after the first recorder.
        for event in self.events() {
            if let Some(other) = observed.get(&(event.cpu, event.seq)) {
                assert_eq!(other, event);
                compared += 1;
            }
        }
        assert!(compared > 0);
    }

    /// Prints for each division how long no recorder received events, and how many waited.
    pub(crate) fn print_times(&self) {
        for pair in self.0.windows(2) {
            let start = pair[1].header().meta.start.mono;
            let last = pair[0].events().map(|event| event.time).max().unwrap_or(MonoNs(0));
            let waited = pair[1].events().filter(|event| event.time < start).count();
            let ms = start.0.saturating_sub(last.0) as f64 / 1e6;
            eprintln!("{ms:.1} ms from the last event to the next recorder; {waited} events waited");
        }
    }
}

/// Returns the numbers that a capture accounts for.
#[track_caller]
fn ends(capture: &CaptureContents) -> Ends {
    let spans = capture.number_spans().unwrap_or_else(|why| panic!("{why}"));
    let ends = |first: Seq, len: u64| (first, Seq(first.0.wrapping_add(len as u32).wrapping_sub(1)));
    spans.into_iter().map(|(cpu, span)| (cpu, ends(span.first, span.len))).collect()
}
