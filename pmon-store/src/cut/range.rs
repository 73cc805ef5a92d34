//! The range of an excerpt on the monotonic clock.

use pmon_analysis::TimeBound;
use pmon_core::MonoNs;
use pmon_core::capture::ClockAnchor;

/// Maximum error of a wall-clock time in ns. A reading of the clocks reads one after the other, so
/// two readings disagree by fractions of a microsecond.
pub(super) const CLOCK_ERROR: u64 = 1_000;

/// A range of time that includes both of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// First time.
    pub(super) from: MonoNs,
    /// Last time.
    pub(super) until: MonoNs,
    /// Whether the range has a limit. A datagram without a readable event has no time, and belongs
    /// only to a range without limits.
    pub(super) is_limited: bool,
    /// Whether the range has a first time.
    has_start: bool,
}

impl Range {
    /// Returns the range between two bounds, given readings of the clocks in the order of their
    /// times. A missing bound, or one by a wall clock that is unknown, is no limit.
    pub(super) fn new(since: Option<TimeBound>, until: Option<TimeBound>, clocks: &[ClockAnchor]) -> Self {
        let from = since.and_then(|bound| match bound {
            TimeBound::Mono(time) => Some(time),
            TimeBound::Wall(real_ns) => first_at(real_ns, clocks),
        });
        let from = from.unwrap_or(MonoNs(0));
        let last = until.and_then(|bound| match bound {
            TimeBound::Mono(time) => Some(time),
            TimeBound::Wall(real_ns) => last_until(real_ns, from, clocks),
        });
        Self {
            from,
            until: last.unwrap_or(MonoNs(u64::MAX)),
            is_limited: since.is_some() || until.is_some(),
            has_start: since.is_some(),
        }
    }

    /// Begins the range at `begin` if it begins earlier by no more than the error of a wall-clock
    /// time.
    pub(super) fn or_begin_at(self, begin: MonoNs) -> Self {
        let is_close = begin.0.saturating_sub(self.from.0) <= CLOCK_ERROR;
        Self { from: if is_close { self.from.max(begin) } else { self.from }, ..self }
    }

    /// Returns whether the range has a first time.
    pub(super) fn has_start(&self) -> bool {
        self.has_start
    }

    /// Returns whether the range has a last time.
    pub(super) fn has_end(&self) -> bool {
        self.until < MonoNs(u64::MAX)
    }

    /// Returns whether a time belongs to the range. `None` is the time of a datagram without a
    /// readable event.
    pub(super) fn contains(&self, time: Option<MonoNs>) -> bool {
        time.map_or(!self.is_limited, |time| self.from <= time && time <= self.until)
    }

    /// Returns whether a span overlaps the range.
    pub(super) fn overlaps(&self, from: MonoNs, until: MonoNs) -> bool {
        from <= self.until && until >= self.from
    }
}

/// Returns the times for which each reading of the clocks holds: first, last, and the reading.
fn intervals(clocks: &[ClockAnchor]) -> impl Iterator<Item = (MonoNs, MonoNs, ClockAnchor)> + '_ {
    clocks.iter().enumerate().map(|(index, &clock)| {
        let first = if index == 0 { MonoNs(0) } else { clock.mono };
        let next = clocks.get(index + 1);
        let last = next.map_or(u64::MAX - 1, |next| next.mono.0.saturating_sub(1));
        (first, MonoNs(last), clock)
    })
}

/// Returns the monotonic time that a wall-clock time has according to one reading of the clocks.
fn by(clock: ClockAnchor, real_ns: i64) -> MonoNs {
    let passed = i128::from(real_ns) - i128::from(clock.real_ns);
    let mono = i128::from(clock.mono.0) + passed;
    MonoNs(mono.clamp(0, i128::from(u64::MAX - 1)) as u64)
}

/// Returns the first time at which the wall clock shows `real_ns` or later.
fn first_at(real_ns: i64, clocks: &[ClockAnchor]) -> Option<MonoNs> {
    let mut found = intervals(clocks).map(|(first, last, clock)| (by(clock, real_ns).max(first), last));
    found.find(|(time, last)| time <= last).map(|(time, _)| time)
}

/// Returns the last time from `from` on until which the wall clock does not exceed `real_ns`.
fn last_until(real_ns: i64, from: MonoNs, clocks: &[ClockAnchor]) -> Option<MonoNs> {
    for (first, last, clock) in intervals(clocks).filter(|&(_, last, _)| last >= from) {
        let (first, time) = (first.max(from), by(clock, real_ns));
        if time < first {
            return Some(MonoNs(first.0.saturating_sub(1)));
        }
        if time < last {
            return Some(time);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_bounds_follow_the_steps_of_the_clock() {
        let clock = |mono, real_ns| ClockAnchor { mono: MonoNs(mono), boot_ns: mono, real_ns };
        // The clock is set back by 500 at 200, and forward by 1000 at 300.
        let clocks = [clock(100, 5100), clock(200, 4700), clock(300, 5800)];
        let range = |since, until| {
            let range = Range::new(Some(TimeBound::Wall(since)), Some(TimeBound::Wall(until)), &clocks);
            (range.from.0, range.until.0)
        };
        assert_eq!(range(5150, 5160), (150, 160));
        // The range goes on after the clock is set back, until it exceeds the bound.
        assert_eq!(range(5150, 5400), (150, 299));
        // No moment shows 5500; the range begins after the step.
        assert_eq!(range(5500, 5900), (300, 400));
        assert_eq!(Range::new(Some(TimeBound::Wall(5)), None, &[]).from, MonoNs(0));
    }
}
