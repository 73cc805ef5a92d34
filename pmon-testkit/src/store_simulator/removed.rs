//! The events that were in removed segments.

use std::collections::BTreeMap;
use std::ops::Range;

use super::segments::{Accounted, SegmentContents};
use super::truth::Truth;

/// The events for which removed segments accounted: positions since the boot, by boot and CPU.
#[derive(Clone, Debug, Default)]
pub(super) struct RemovedEvents {
    /// Number of segments that were removed.
    pub(super) segments: u64,
    ranges: BTreeMap<(String, u32), Vec<Range<usize>>>,
}

impl RemovedEvents {
    /// Adds the events of a segment that is about to be removed.
    pub(super) fn add(&mut self, segment: &SegmentContents, truth: &Truth) {
        self.segments += 1;
        let boot_id = &segment.header.meta.boot_id;
        let Some(boot) = truth.boots.iter().find(|boot| boot.id == *boot_id) else { return };
        for accounted in &segment.accounted {
            let (cpu, first, count) = match accounted {
                Accounted::Event(event) => (event.cpu, event.seq, 1),
                Accounted::Loss(loss) => (loss.cpu, loss.first, loss.count() as usize),
            };
            let Some(truth) = boot.cpus.get(cpu.0 as usize) else { continue };
            let first = truth.index(first);
            let ranges = self.ranges.entry((boot_id.clone(), cpu.0)).or_default();
            match ranges.last_mut() {
                Some(last) if last.end == first => last.end += count,
                _ => ranges.push(first..first + count),
            }
        }
    }

    /// Returns whether a removed segment accounted for an event.
    pub(super) fn contains(&self, boot_id: &str, cpu: u32, index: usize) -> bool {
        let ranges = self.ranges.get(&(boot_id.to_owned(), cpu));
        ranges.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&index)))
    }
}
