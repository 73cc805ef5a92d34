//! Compares the kernel's fork counter with the events of a capture. The recorder does so too; this
//! is an independent implementation.
//!
//! Let a reading of the counter return `c`, made between the times `f` and `u`, while `r` tasks
//! were running, including the reader. The kernel counts a fork before it emits the event.
//! Therefore each of the `c2 - c1` forks counted between two readings
//!
//! * has an event with a time from `f1` to `u2`; or
//! * was lost, or left out, in that time; or
//! * belongs to a task that had not emitted its event yet, of which there are at most `r2 - 1`; or
//! * was not emitted.
//!
//! The number of forks in the last group is the *deficit*. It is reported if a later reading
//! confirms it, and every CPU has emitted an event from after the first of the two readings by
//! then, so that all losses are known.

use pmon_core::capture::ForkCount;
use pmon_core::{Cpu, MonoNs};

/// Maximum number of times kept in each list; when it is reached, the list is reduced to a count.
const TIMES: usize = 1 << 16;
/// Maximum number of shortfalls described; further ones are only counted.
pub const MAX_SHORTFALLS: usize = 16;

/// Result of comparing the kernel's fork counter with the fork events of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForkReport {
    /// Number of readings of the counter.
    pub readings: u64,
    /// Forks counted from the first to the last reading.
    pub counted: u64,
    /// Minimum number of forks without an event that were neither lost nor left out.
    pub missing: u64,
    /// The first shortfalls, at most [`MAX_SHORTFALLS`].
    pub shortfalls: Vec<Shortfall>,
    /// Total number of shortfalls.
    pub shortfall_count: u64,
    /// The reason why the counter could not be read.
    pub absent: Option<String>,
}

impl ForkReport {
    /// Adds the report on a later part of the recording, which does not continue this one.
    pub(super) fn merge(&mut self, later: Self) {
        self.readings += later.readings;
        self.counted = self.counted.saturating_add(later.counted);
        self.missing = self.missing.saturating_add(later.missing);
        self.shortfall_count += later.shortfall_count;
        let room = MAX_SHORTFALLS.saturating_sub(self.shortfalls.len());
        self.shortfalls.extend(later.shortfalls.into_iter().take(room));
        self.absent = self.absent.take().or(later.absent);
    }
}

/// Forks without an event, between two readings of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Time of the reading before the missing forks.
    pub from: MonoNs,
    /// Time of the reading after the missing forks.
    pub until: MonoNs,
    /// Minimum number of missing forks.
    pub missing: u64,
}

/// Counts as of a reading, starting from the first reading.
#[derive(Clone, Copy, Debug)]
struct ReadingBounds {
    reading: ForkCount,
    counted: u64,
    /// Minimum number of fork events before the reading; `None` if it is unknown.
    min_events: Option<u64>,
    /// Maximum number of fork events up to the reading.
    max_events: u64,
}

impl ReadingBounds {
    /// Returns how far the fork events before the reading exceed the counted forks.
    fn surplus(&self) -> Option<i128> {
        self.min_events.map(|min_events| i128::from(min_events) - i128::from(self.counted))
    }

    /// Returns the minimum number of forks without an event since a reading with that surplus.
    fn deficit(&self, surplus: i128) -> i128 {
        let (max_events, running) =
            (i128::from(self.max_events), i128::from(self.reading.running.max(1) - 1));
        surplus - (max_events - i128::from(self.counted)) - running
    }
}

/// A reading with a deficit that a later reading has yet to confirm.
#[derive(Clone, Debug)]
struct PendingDeficit {
    from: MonoNs,
    surplus: i128,
    bounds: ReadingBounds,
    /// For each CPU, whether no event from after the reading has arrived.
    awaited: Vec<bool>,
    awaited_count: usize,
}

/// Maximum number of readings, on average, that examine a fork or a loss. The readings of a
/// recorder examine each one or two times.
const EXAMINATIONS: u64 = 16;

/// Compares readings of the fork counter with fork events and losses.
#[derive(Clone, Debug, Default)]
pub(super) struct ForkComparison {
    report: ForkReport,
    /// Times of the fork events since the last reading.
    forks: Vec<MonoNs>,
    /// Start, end and count of the losses since the last reading.
    losses: Vec<(MonoNs, MonoNs, u64)>,
    /// Number of fork events and losses before those in `forks` and `losses`.
    older: u64,
    /// Latest time among the older fork events and losses.
    older_until: MonoNs,
    bounds: Option<ReadingBounds>,
    /// Reading with the highest surplus: its time and surplus.
    best: Option<(MonoNs, i128)>,
    pending: Option<PendingDeficit>,
    /// Whether the capture omits events by choice. How many is only known at the end, so only the
    /// totals are compared then.
    is_partial: bool,
    /// Whether a time without events precedes the readings.
    is_interrupted: bool,
    /// Number of forks and losses that readings may still examine.
    credit: u64,
    first: Option<ForkCount>,
    before_last: Option<ReadingBounds>,
    all_forks: u64,
    all_lost: u64,
}

impl ForkComparison {
    /// Applies a fork event.
    #[inline]
    pub(super) fn add_fork(&mut self, time: MonoNs) {
        self.all_forks += 1;
        self.forks.push(time);
        self.credit = self.credit.saturating_add(EXAMINATIONS);
        if let Some(pending) = &mut self.pending {
            pending.bounds.max_events += u64::from(time <= pending.bounds.reading.until);
        }
        if self.forks.len() >= TIMES {
            self.compact(MonoNs(u64::MAX));
        }
    }

    /// Applies any event, which can be the first of its CPU since a deficit.
    #[inline]
    pub(super) fn add_event(&mut self, cpu: Cpu, time: MonoNs) {
        let Some(pending) = &mut self.pending else { return };
        if let Some(awaited) = pending.awaited.get_mut(cpu.0 as usize)
            && time > pending.bounds.reading.until
            && std::mem::take(awaited)
        {
            pending.awaited_count -= 1;
        }
    }

    /// Applies a loss of events between two times.
    pub(super) fn add_loss(&mut self, after: MonoNs, before: MonoNs, count: u64) {
        self.all_lost = self.all_lost.saturating_add(count);
        self.losses.push((after, before, count));
        self.credit = self.credit.saturating_add(EXAMINATIONS);
        if let Some(pending) = &mut self.pending
            && after <= pending.bounds.reading.until
        {
            pending.bounds.max_events = pending.bounds.max_events.saturating_add(count);
        }
        if self.losses.len() >= TIMES {
            self.compact(MonoNs(u64::MAX));
        }
    }

    /// Notes that only a part of the events is recorded.
    pub(super) fn set_partial(&mut self) {
        self.is_partial = true;
    }

    /// Notes that the counter cannot be read.
    pub(super) fn set_absent(&mut self, why: &str) {
        self.report.absent.get_or_insert_with(|| why.to_owned());
    }

    /// Applies a reading. `cpus` yields the time of the latest event of each CPU.
    pub(super) fn add_reading(&mut self, reading: ForkCount, cpus: impl Iterator<Item = Option<MonoNs>>) {
        let counted = match &self.bounds {
            None => 0,
            Some(last) => match reading.since(&last.reading) {
                Some(more) => last.counted.saturating_add(more),
                // The counter was reset, so earlier readings prove nothing.
                None => {
                    (self.best, self.pending, self.first) = (None, None, None);
                    last.counted
                }
            },
        };
        self.report.readings += 1;
        self.report.counted = counted;
        // Forks and losses with a time after the readings would be examined by each of them.
        let kept = (self.forks.len() + self.losses.len()) as u64;
        match self.credit.checked_sub(kept) {
            Some(left) => self.credit = left,
            None => self.compact(MonoNs(u64::MAX)),
        }
        let is_known = self.older == 0 || self.older_until < reading.from;
        let within = |count: &dyn Fn(MonoNs, MonoNs) -> bool| {
            let forks = self.forks.iter().filter(|&&time| count(time, time)).count() as u64;
            let lost = self.losses.iter().filter(|loss| count(loss.0, loss.1));
            lost.fold(self.older.saturating_add(forks), |sum, loss| sum.saturating_add(loss.2))
        };
        let min_events = within(&|_, before| before < reading.from);
        let max_events = within(&|after, _| after <= reading.until);
        let bounds =
            ReadingBounds { reading, counted, min_events: is_known.then_some(min_events), max_events };
        self.decide_pending(Some(&bounds));
        if let (Some((from, surplus)), None) = (self.best, &self.pending)
            && bounds.deficit(surplus) > 0
            && !self.is_partial
        {
            let awaited: Vec<_> = cpus.map(|last| last.is_some_and(|last| last <= reading.until)).collect();
            let awaited_count = awaited.iter().filter(|&&awaited| awaited).count();
            self.pending = Some(PendingDeficit { from, surplus, bounds, awaited, awaited_count });
        }
        if let Some(surplus) = bounds.surplus()
            && self.best.is_none_or(|(_, best)| best <= surplus)
        {
            self.best = Some((reading.from, surplus));
        }
        self.first.get_or_insert(reading);
        self.before_last = self.bounds.replace(bounds);
        self.compact(reading.from);
    }

    /// Returns whether there was a reading since the start or the last interruption.
    pub(super) fn has_readings(&self) -> bool {
        self.first.is_some()
    }

    /// Continues after a time without events, during which the number of forks is unknown.
    pub(super) fn interrupt(&mut self) {
        if !self.is_partial {
            self.decide_pending(None);
        }
        let Self { report, is_partial, .. } = std::mem::take(self);
        // The totals of a part of the events can no longer be compared.
        *self = Self { report, is_partial, is_interrupted: true, ..Self::default() };
    }

    /// Finishes the comparison at the end of a capture in which `excluded` events were omitted.
    pub(super) fn finish(&mut self, excluded: u64) -> ForkReport {
        match self.is_partial {
            true => self.compare_all(excluded),
            false => self.decide_pending(None),
        }
        std::mem::take(&mut self.report)
    }

    /// Confirms or drops a deficit, given the next reading, or the last one at the end.
    fn decide_pending(&mut self, next: Option<&ReadingBounds>) {
        let Some(pending) = self.pending.take() else { return };
        let deficit = pending.bounds.deficit(pending.surplus);
        if deficit <= 0 {
            return;
        }
        let later = match (next, self.bounds) {
            (Some(next), _) => next.deficit(pending.surplus),
            (None, Some(last)) if last.reading.from > pending.bounds.reading.from => {
                last.deficit(pending.surplus)
            }
            // No later reading can confirm the deficit.
            _ => return,
        };
        if later <= 0 {
            return;
        }
        if next.is_some() && pending.awaited_count > 0 {
            self.pending = Some(pending);
            return;
        }
        let PendingDeficit { from, bounds, .. } = pending;
        let missing = u64::try_from(deficit.min(later)).unwrap_or(u64::MAX);
        self.add_shortfall(Shortfall { from, until: bounds.reading.until, missing });
        self.best = bounds.surplus().map(|surplus| (bounds.reading.from, surplus));
    }

    /// Compares the totals of a capture that omits events: which of them are forks, and when they
    /// happened, is unknown.
    fn compare_all(&mut self, excluded: u64) {
        if self.is_interrupted {
            return;
        }
        let (Some(first), Some(before_last), Some(last)) = (self.first, self.before_last, self.bounds) else {
            return;
        };
        let max_events = self.all_forks.saturating_add(self.all_lost).saturating_add(excluded);
        let deficit = |bounds: &ReadingBounds| match bounds.reading.since(&first) {
            Some(counted) => ReadingBounds { counted, max_events, ..*bounds }.deficit(0),
            None => 0,
        };
        let missing = deficit(&before_last).min(deficit(&last));
        if missing > 0 {
            let (from, until) = (first.from, last.reading.until);
            self.add_shortfall(Shortfall {
                from,
                until,
                missing: u64::try_from(missing).unwrap_or(u64::MAX),
            });
        }
    }

    fn add_shortfall(&mut self, shortfall: Shortfall) {
        self.report.missing = self.report.missing.saturating_add(shortfall.missing);
        self.report.shortfall_count += 1;
        if self.report.shortfalls.len() < MAX_SHORTFALLS {
            self.report.shortfalls.push(shortfall);
        }
    }

    /// Reduces forks and losses from before `time` to a count.
    fn compact(&mut self, time: MonoNs) {
        let Self { forks, losses, older, older_until, .. } = self;
        let mut stays = |latest: MonoNs, count: u64| {
            let stays = latest >= time;
            if !stays {
                *older = older.saturating_add(count);
                *older_until = latest.max(*older_until);
            }
            stays
        };
        forks.retain(|&at| stays(at, 1));
        losses.retain(|loss| stays(loss.1, loss.2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_after_all_readings_are_examined_a_bounded_number_of_times() {
        let mut forks = ForkComparison::default();
        let future = MonoNs(1 << 60);
        (0..1000).for_each(|_| forks.add_fork(future));
        let read = |forks: &mut ForkComparison, at: u64| {
            let (from, until) = (MonoNs(at), MonoNs(at + 1));
            forks.add_reading(ForkCount { from, until, forks: 5, running: 1 }, std::iter::empty());
        };
        (1..=EXAMINATIONS).for_each(|at| read(&mut forks, at));
        assert_eq!(forks.forks.len(), 1000);
        read(&mut forks, EXAMINATIONS + 1);
        assert_eq!((forks.forks.len(), forks.older), (0, 1000));
        // The forks before such a reading are unknown, so it proves no deficit.
        read(&mut forks, 1 << 40);
        assert_eq!(forks.finish(0).missing, 0);
    }
}
