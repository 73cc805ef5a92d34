//! Converts the times of events to wall-clock time.

use std::collections::BTreeMap;

use pmon_core::MonoNs;
use pmon_core::capture::ClockAnchor;

/// Maximum number of clock anchors kept. A capture has one at the start, one now and then, and one
/// for each step of the clock.
const MAX_ANCHORS: usize = 1 << 16;

/// Converts monotonic time to wall-clock time, by the last anchor before it, or by the first anchor
/// for earlier times.
///
/// Both clocks are assumed to run at the same rate between two anchors, so slewing of the wall
/// clock since the last anchor is ignored.
#[derive(Clone, Debug, Default)]
pub struct WallClock {
    anchors: BTreeMap<MonoNs, ClockAnchor>,
}

impl WallClock {
    /// Creates a clock without anchors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an anchor, which replaces an earlier one for the same time. After 65,536 anchors,
    /// further ones are ignored.
    pub fn observe(&mut self, anchor: ClockAnchor) {
        if self.anchors.len() < MAX_ANCHORS {
            self.anchors.insert(anchor.mono, anchor);
        }
    }

    /// Returns the wall-clock time in nanoseconds since 1970-01-01T00:00Z; `None` without an
    /// anchor, or outside the years 1678 to 2262.
    pub fn at(&self, time: MonoNs) -> Option<i64> {
        // Most times are after all known anchors.
        let last = self.anchors.last_key_value().filter(|&(&mono, _)| mono <= time);
        let before = || self.anchors.range(..=time).next_back();
        let (_, anchor) = last.or_else(before).or_else(|| self.anchors.first_key_value())?;
        let since = i128::from(time.0) - i128::from(anchor.mono.0);
        i64::try_from(i128::from(anchor.real_ns) + since).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(anchors: &[(u64, i64)]) -> WallClock {
        let mut clock = WallClock::new();
        for &(mono, real_ns) in anchors {
            clock.observe(ClockAnchor { mono: MonoNs(mono), boot_ns: mono, real_ns });
        }
        clock
    }

    #[test]
    fn without_an_anchor_there_is_no_time() {
        assert_eq!(WallClock::new().at(MonoNs(5)), None);
    }

    #[test]
    fn each_time_follows_the_last_anchor_before_it() {
        // The clock is set forward by 1000 at mono 200, and back by 500 at mono 300.
        let clock = clock(&[(100, 5_100), (200, 6_200), (300, 5_800)]);
        assert_eq!(clock.at(MonoNs(100)), Some(5_100));
        assert_eq!(clock.at(MonoNs(199)), Some(5_199));
        assert_eq!(clock.at(MonoNs(200)), Some(6_200));
        assert_eq!(clock.at(MonoNs(299)), Some(6_299));
        assert_eq!(clock.at(MonoNs(400)), Some(5_900));
    }

    #[test]
    fn anchors_may_arrive_in_any_order() {
        let clock = clock(&[(300, 5_800), (200, 6_000), (100, 5_100), (200, 6_200)]);
        assert_eq!(clock.at(MonoNs(150)), Some(5_150));
        assert_eq!(clock.at(MonoNs(250)), Some(6_250));
        assert_eq!(clock.at(MonoNs(350)), Some(5_850));
    }

    #[test]
    fn times_before_the_first_anchor_follow_the_first_anchor() {
        assert_eq!(clock(&[(100, 50)]).at(MonoNs(0)), Some(-50));
    }

    #[test]
    fn a_time_out_of_range_is_none() {
        assert_eq!(clock(&[(0, i64::MAX)]).at(MonoNs(u64::MAX)), None);
    }
}
