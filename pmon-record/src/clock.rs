//! Clocks of the initial time namespace, which date the events.

use std::fs;

use pmon_core::MonoNs;
use pmon_core::capture::ClockAnchor;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::machine;

const SECOND: i64 = 1_000_000_000;
/// Maximum time in ns between two recorded anchors.
const MAX_ANCHOR_INTERVAL: u64 = 60_000_000_000;
/// Drift in ns of a clock against the monotonic clock above which another anchor is recorded.
const MAX_DRIFT: u64 = 1_000_000;

/// Reads the clocks of the initial time namespace, by the offsets of this process's time namespace
/// (`time_namespaces(7)`, Linux 5.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    mono_offset: i64,
    boot_offset: i64,
}

impl Clock {
    /// Reads the offsets of this process's time namespace.
    pub(crate) fn new() -> Self {
        if machine::is_initial_namespace("time") {
            return Self::default();
        }
        let text = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        Self { mono_offset: offset(&text, "monotonic"), boot_offset: offset(&text, "boottime") }
    }

    /// Reads `CLOCK_MONOTONIC`.
    pub(crate) fn mono(self) -> MonoNs {
        MonoNs((nanoseconds(clock_gettime(ClockId::Monotonic)) - self.mono_offset) as u64)
    }

    /// Reads all three clocks, one after the other. Of three attempts, the fastest counts.
    pub(crate) fn anchor(self) -> ClockAnchor {
        let read = || {
            let before = self.mono();
            let real_ns = nanoseconds(clock_gettime(ClockId::Realtime));
            let boot_ns = (nanoseconds(clock_gettime(ClockId::Boottime)) - self.boot_offset) as u64;
            let after = self.mono();
            let took = after.0 - before.0;
            (took, ClockAnchor { mono: MonoNs(before.0 + took / 2), boot_ns, real_ns })
        };
        let best = [read(), read(), read()].into_iter().min_by_key(|(took, _)| *took);
        best.map(|(_, anchor)| anchor).unwrap_or_default()
    }

    /// Returns the total time in ns for which the machine has been suspended: boot time less
    /// monotonic time, in the initial time namespace.
    pub(crate) fn suspended(self) -> u64 {
        let anchor = self.anchor();
        anchor.boot_ns.saturating_sub(anchor.mono.0)
    }

    /// Converts a process's start from `/proc/<pid>/stat` to clock ticks of the initial time
    /// namespace. The kernel adds this namespace's offset before it converts to ticks, so a
    /// fraction of a tick is rounded to the nearest tick.
    pub(crate) fn initial_ticks(self, ticks: u64, ticks_per_second: u64) -> u64 {
        let tick = SECOND / i64::try_from(ticks_per_second).unwrap_or(SECOND).clamp(1, SECOND);
        let mut ns = i128::from(ticks) * i128::from(tick) - i128::from(self.boot_offset);
        // The kernel shows a start before this clock's zero as an unsigned 64-bit number.
        if ns > i128::from(i64::MAX) {
            ns -= 1 << 64;
        }
        let rounded = (ns + i128::from(tick / 2)).div_euclid(i128::from(tick));
        u64::try_from(rounded).unwrap_or(0)
    }
}

/// Returns the current time of the clock that dates the events: `CLOCK_MONOTONIC` of the initial
/// time namespace.
pub fn monotonic_now() -> MonoNs {
    Clock::new().mono()
}

/// Whether the anchor `now` must be recorded, given the one that was recorded last.
pub(crate) fn is_due(last: &ClockAnchor, now: &ClockAnchor) -> bool {
    let passed = now.mono.0.saturating_sub(last.mono.0);
    let real = now.real_ns.wrapping_sub(last.real_ns).wrapping_sub(passed as i64).unsigned_abs();
    let boot = now.boot_ns.wrapping_sub(last.boot_ns).wrapping_sub(passed) as i64;
    passed >= MAX_ANCHOR_INTERVAL || real > MAX_DRIFT || boot.unsigned_abs() > MAX_DRIFT
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec * SECOND + time.tv_nsec
}

/// Returns the offset in ns in the line `CLOCK SECONDS NANOSECONDS` of `/proc/self/timens_offsets`;
/// 0 if there is none.
fn offset(text: &str, clock: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix(clock)).unwrap_or_default();
    let mut numbers = line.split_whitespace().map(|number| number.parse::<i64>().unwrap_or(0));
    let (seconds, nanoseconds) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    seconds * SECOND + nanoseconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_due_after_a_minute_or_a_jump_of_either_clock() {
        let last = ClockAnchor { mono: MonoNs(5), boot_ns: 1000, real_ns: 1 << 60 };
        let later = |mono: u64, boot: u64, real: i64| {
            let now = ClockAnchor { mono: MonoNs(5 + mono), boot_ns: 1000 + boot, real_ns: (1 << 60) + real };
            is_due(&last, &now)
        };
        assert!(!later(1_000_000_000, 1_000_000_000, 1_000_900_000));
        assert!(later(1_000_000_000, 1_000_000_000, 1_001_100_000));
        assert!(later(1_000_000_000, 1_000_000_000, -5_000_000_000));
        assert!(later(1_000_000_000, 9_000_000_000, 1_000_000_000));
        assert!(later(60_000_000_000, 60_000_000_000, 60_000_000_000));
    }

    #[test]
    fn start_times_are_converted_to_the_initial_time_namespace() {
        let ticks = |boot_offset, ticks| Clock { mono_offset: 7, boot_offset }.initial_ticks(ticks, 100);
        assert_eq!(ticks(0, 4_711), 4_711);
        assert_eq!(ticks(100_000 * SECOND, 10_004_711), 4_711);
        assert_eq!(ticks(-40 * SECOND, 711), 4_711);
        // Half a tick of offset, and out-of-range values.
        assert_eq!((ticks(4_000_000, 5), ticks(6_000_000, 5)), (5, 4));
        assert_eq!(ticks(100 * SECOND, 0), 0);
        // The first process, started 145 ms after boot, seen with an offset of -200 s.
        assert_eq!(ticks(-200 * SECOND, 1_844_674_387_385), 14);
    }

    #[test]
    fn offsets_are_parsed_in_the_kernels_format() {
        let text = "monotonic           -1         5\nboottime       86400         0\n";
        assert_eq!(offset(text, "monotonic"), -999_999_995);
        assert_eq!(offset(text, "boottime"), 86_400 * SECOND);
        assert_eq!(offset("", "boottime"), 0);
    }
}
