//! The captures of recorders that continue each other.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use pmon_core::accounting::LossByCause;
use pmon_core::wire::Event;
use pmon_core::{Cpu, MonoNs, Seq};
use pmon_testkit::capture::CaptureContents;

use crate::observer::EventNumber;

/// The captures in a directory, in the order of their names.
#[derive(Debug)]
pub(crate) struct Generations(Vec<CaptureContents>);

impl Generations {
    /// Reads all captures. Fails the test if one is damaged.
    #[track_caller]
    pub(crate) fn read(directory: &Path) -> Self {
        let entries = fs::read_dir(directory).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        // The files of a killed recorder are `.pmon.partial`; a store also has hidden files.
        paths.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
        paths.sort();
        let captures: Vec<_> = paths.iter().map(|path| CaptureContents::read(path)).collect();
        for capture in &captures {
            capture.number_spans().unwrap_or_else(|why| panic!("{why}"));
        }
        Self(captures)
    }

    /// Returns the captures.
    pub(crate) fn captures(&self) -> &[CaptureContents] {
        &self.0
    }

    /// Returns all events, capture by capture.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.0.iter().flat_map(CaptureContents::events)
    }

    /// Returns the number of events that each capture counts as lost.
    pub(crate) fn lost(&self) -> Vec<LossByCause> {
        self.0.iter().map(CaptureContents::lost).collect()
    }

    /// Fails the test unless each number of each CPU, from its first in the first capture to its
    /// last in the last one, is recorded or lost exactly once.
    #[track_caller]
    pub(crate) fn check_numbers(&self) {
        let mut next: BTreeMap<Cpu, Seq> = BTreeMap::new();
        for (index, capture) in self.0.iter().enumerate() {
            assert!(capture.blind.is_empty(), "{:?}", capture.blind);
            let spans = capture.number_spans().unwrap_or_else(|why| panic!("{why}"));
            for (cpu, span) in spans {
                let end = Seq(span.first.0.wrapping_add(span.len as u32));
                let expected = next.insert(cpu, end).unwrap_or(span.first);
                assert_eq!(span.first, expected, "CPU {cpu}, capture {index}");
            }
        }
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
