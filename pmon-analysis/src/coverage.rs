//! What a recording lacks within a range of time, so that each answer from it can say so.

use pmon_core::accounting::LossCause;
use pmon_core::capture::{Record, UnobservedReason};
use pmon_core::{Cpu, MonoNs};

use crate::filter::Filter;
use crate::wall_clock::WallClock;

/// Maximum number of gaps that are kept; further ones are only counted.
pub const MAX_GAPS: usize = 1024;

/// Why events may be missing from a range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Events were lost.
    Lost {
        /// CPU that emitted the events.
        cpu: Cpu,
        /// Number of lost events.
        events: u64,
        /// Cause of the loss.
        cause: LossCause,
    },
    /// The kernel did not emit all events.
    Blind,
    /// No recorder was running, or its segments are missing.
    Unobserved(UnobservedReason),
    /// A part of a file is damaged.
    Damaged,
    /// The range begins before the recording does.
    BeforeStart,
    /// The range ends after the recording does.
    AfterEnd,
}

/// A time in which events may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why events may be missing.
    pub reason: GapReason,
    /// First and last wall-clock time in ns since 1970-01-01T00:00Z; `None` if it is unknown.
    pub real_ns: (Option<i64>, Option<i64>),
}

/// What a recording lacks within a range of time.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    gaps: Vec<Gap>,
    count: u64,
    lost: u64,
}

impl Coverage {
    /// Creates the coverage of a recording without gaps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next record, if it is a gap in the time range of `range`.
    pub fn observe(&mut self, record: &Record<'_>, range: &Filter, wall: &WallClock) {
        let (from, until, reason) = match record {
            Record::Loss(loss) => {
                let reason = GapReason::Lost { cpu: loss.cpu, events: loss.count(), cause: loss.cause };
                (loss.after, loss.before, reason)
            }
            Record::Blind(blind) => (blind.from, blind.until, GapReason::Blind),
            Record::Unobserved(span) => (span.from, span.until, GapReason::Unobserved(span.reason)),
            _ => return,
        };
        if range.matches_span(from, until, wall) {
            self.add_at(reason, (from, until), wall);
        }
    }

    /// Adds a gap between two times of the monotonic clock.
    pub fn add_at(&mut self, reason: GapReason, (from, until): (MonoNs, MonoNs), wall: &WallClock) {
        self.add(Gap { reason, real_ns: (wall.at(from), wall.at(until)) });
    }

    /// Adds a gap.
    pub fn add(&mut self, gap: Gap) {
        self.count += 1;
        if let GapReason::Lost { events, .. } = gap.reason {
            self.lost = self.lost.saturating_add(events);
        }
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(gap);
        }
    }

    /// Removes the gaps that ended at this wall-clock time or earlier: a scan of `/proc` that began
    /// then has shown which processes were running.
    pub fn remove_until(&mut self, real_ns: i64) {
        self.remove(|gap| gap.real_ns.1.is_some_and(|until| until <= real_ns));
    }

    /// Removes the gaps with this reason.
    pub fn remove_reason(&mut self, reason: GapReason) {
        self.remove(|gap| gap.reason == reason);
    }

    fn remove(&mut self, is_removed: impl Fn(&Gap) -> bool) {
        for gap in self.gaps.extract_if(.., |gap| is_removed(gap)) {
            self.count -= 1;
            if let GapReason::Lost { events, .. } = gap.reason {
                self.lost = self.lost.saturating_sub(events);
            }
        }
    }

    /// Returns whether no event is known to be missing.
    pub fn is_complete(&self) -> bool {
        self.count == 0
    }

    /// Returns the number of lost events.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns the number of gaps.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the first [`MAX_GAPS`] gaps.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::Seq;
    use pmon_core::capture::{Blind, ClockAnchor, Loss};

    use super::*;
    use crate::filter::TimeBound;

    fn wall() -> WallClock {
        let mut wall = WallClock::new();
        wall.observe(ClockAnchor { mono: MonoNs(0), boot_ns: 0, real_ns: 1_000 });
        wall
    }

    fn loss(after: u64, before: u64, events: u32) -> Record<'static> {
        let (after, before) = (MonoNs(after), MonoNs(before));
        let (first, last) = (Seq(1), Seq(events));
        Record::Loss(Loss { cpu: Cpu(1), first, last, after, before, cause: LossCause::Socket })
    }

    fn coverage(records: &[Record<'_>], since: u64, until: u64) -> Coverage {
        let bound = |time| Some(TimeBound::Mono(MonoNs(time)));
        let range = Filter { since: bound(since), until: bound(until), ..Filter::default() };
        let mut coverage = Coverage::new();
        records.iter().for_each(|record| coverage.observe(record, &range, &wall()));
        coverage
    }

    #[test]
    fn only_gaps_that_overlap_the_range_count() {
        let blind = Record::Blind(Blind { from: MonoNs(40), until: MonoNs(60) });
        let records = [loss(1, 5, 2), loss(8, 12, 3), loss(19, 50, 4), loss(21, 30, 5), blind];
        let coverage = coverage(&records, 10, 20);
        assert_eq!((coverage.count(), coverage.lost(), coverage.is_complete()), (2, 7, false));
        assert_eq!(coverage.gaps()[0].real_ns, (Some(1_008), Some(1_012)));
    }

    #[test]
    fn a_scan_removes_the_gaps_before_it() {
        let mut coverage = coverage(&[loss(1, 5, 2), loss(8, 12, 3)], 0, 20);
        coverage.remove_until(1_011);
        assert_eq!((coverage.count(), coverage.lost()), (1, 3));
        coverage.remove_until(1_012);
        assert!(coverage.is_complete());
    }

    #[test]
    fn each_kind_of_gap_counts_and_can_be_removed() {
        use pmon_core::capture::{Unobserved, UnobservedReason};
        let reason = UnobservedReason::Stopped;
        let blind = Record::Blind(Blind { from: MonoNs(2), until: MonoNs(4) });
        let unobserved = Record::Unobserved(Unobserved { from: MonoNs(5), until: MonoNs(6), reason });
        let mut coverage = coverage(&[loss(1, 3, 2), blind, unobserved, blind_again()], 0, 20);
        let reasons: Vec<_> = coverage.gaps().iter().map(|gap| gap.reason).collect();
        let lost = GapReason::Lost { cpu: Cpu(1), events: 2, cause: LossCause::Socket };
        let unobserved = GapReason::Unobserved(reason);
        assert_eq!(reasons, [lost, GapReason::Blind, unobserved, GapReason::Blind]);
        coverage.remove_reason(GapReason::Blind);
        assert_eq!((coverage.count(), coverage.lost()), (2, 2));
        coverage.remove_reason(lost);
        assert_eq!((coverage.count(), coverage.lost()), (1, 0));
        assert_eq!(coverage.gaps()[0].reason, unobserved);
    }

    fn blind_again() -> Record<'static> {
        Record::Blind(Blind { from: MonoNs(7), until: MonoNs(8) })
    }

    #[test]
    fn all_gaps_count_and_the_first_ones_are_kept() {
        let all: Vec<_> = (0..=MAX_GAPS as u64).map(|time| loss(time, time, 1)).collect();
        let coverage = coverage(&all, 0, 1_000_000);
        assert_eq!((coverage.gaps().len(), coverage.count()), (MAX_GAPS, MAX_GAPS as u64 + 1));
    }
}
