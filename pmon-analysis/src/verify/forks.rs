//! The kernel's count of forks, held against the events of a capture. The recorder compares them, too; this is another's arithmetic.
//!
//! Let a reading of the counter say `c`, and let it have been made between the times `f` and `u`, while `r` tasks were running, the
//! reader among them. The kernel counts a fork before it emits the event. So of `c2 - c1` forks counted between two readings, each
//!
//! * has an event with a time from `f1` to `u2`; or
//! * was lost, or left out, in that time; or
//! * was of a task that had not emitted the event yet: at most `r2 - 1`; or
//! * was not emitted.
//!
//! What is left over for the last is the *deficit*. It counts if a later reading says so, too, by when every CPU has emitted an event
//! from after the first of them, so that no loss is unknown.

use pmon_core::capture::ForkCount;
use pmon_core::{Cpu, MonoNs};

/// Times that are kept; with more, those of before are only counted.
const TIMES: usize = 1 << 16;
/// Times of blindness that are described; further ones are only counted.
pub const MAX_SHORTFALLS: usize = 16;

/// What the kernel's count of forks says of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForkReport {
    /// How often the counter was read.
    pub readings: u64,
    /// Forks that it counted from the first to the last reading.
    pub counted: u64,
    /// Forks that have no event, and are neither lost nor left out: at least so many.
    pub missing: u64,
    /// When they happened, the first times,
    pub shortfalls: Vec<Shortfall>,
    /// and how many times there are in all.
    pub shortfall_count: u64,
    /// Why the counter could not be read.
    pub absent: Option<String>,
}

/// Forks without an event, in the time between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The time of the reading before them.
    pub from: MonoNs,
    /// The time of the reading after them.
    pub until: MonoNs,
    /// At least so many.
    pub missing: u64,
}

/// What can be said of a reading, in numbers since the first one.
#[derive(Clone, Copy, Debug)]
struct Point {
    reading: ForkCount,
    counted: u64,
    /// Events before it, at the least: `None` if that is not known.
    least: Option<u64>,
    /// Events up to it, at the most.
    most: u64,
}

impl Point {
    /// What the events before it exceed the forks by.
    fn surplus(&self) -> Option<i128> {
        self.least.map(|least| i128::from(least) - i128::from(self.counted))
    }

    /// Forks without an event since a reading with that surplus: at least so many.
    fn deficit(&self, surplus: i128) -> i128 {
        let (most, running) = (i128::from(self.most), i128::from(self.reading.running.max(1) - 1));
        surplus - (most - i128::from(self.counted)) - running
    }
}

/// A reading with a deficit, until it is certain.
#[derive(Clone, Debug)]
struct Doubt {
    from: MonoNs,
    surplus: i128,
    point: Point,
    /// CPUs of which no event from after the reading has come.
    silent: Vec<bool>,
    silent_count: usize,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Forks {
    report: ForkReport,
    /// Times of forks, and from and to of losses with their counts, since the last reading.
    forks: Vec<MonoNs>,
    losses: Vec<(MonoNs, MonoNs, u64)>,
    /// How many are older, and the time of the latest of them.
    older: u64,
    older_until: MonoNs,
    point: Option<Point>,
    /// The highest surplus of a reading, and when it was made.
    best: Option<(MonoNs, i128)>,
    doubt: Option<Doubt>,
    /// Of a capture of a part of the events, it is only known at the end how many are left out: the first reading, and the last but
    /// one.
    is_partial: bool,
    first: Option<ForkCount>,
    before_last: Option<Point>,
    all_forks: u64,
    all_lost: u64,
}

impl Forks {
    /// A fork event.
    #[inline]
    pub(super) fn fork(&mut self, time: MonoNs) {
        self.all_forks += 1;
        self.forks.push(time);
        if let Some(doubt) = &mut self.doubt {
            doubt.point.most += u64::from(time <= doubt.point.reading.until);
        }
        if self.forks.len() >= TIMES {
            self.age(MonoNs(u64::MAX));
        }
    }

    /// Any event: whether it is the first of its CPU since a doubt.
    #[inline]
    pub(super) fn event(&mut self, cpu: Cpu, time: MonoNs) {
        let Some(doubt) = &mut self.doubt else { return };
        if let Some(silent) = doubt.silent.get_mut(cpu.0 as usize)
            && time > doubt.point.reading.until
            && std::mem::take(silent)
        {
            doubt.silent_count -= 1;
        }
    }

    /// Events that were lost between two times.
    pub(super) fn lose(&mut self, after: MonoNs, before: MonoNs, count: u64) {
        self.all_lost = self.all_lost.saturating_add(count);
        self.losses.push((after, before, count));
        if let Some(doubt) = &mut self.doubt
            && after <= doubt.point.reading.until
        {
            doubt.point.most = doubt.point.most.saturating_add(count);
        }
        if self.losses.len() >= TIMES {
            self.age(MonoNs(u64::MAX));
        }
    }

    /// Only a part of the events is recorded.
    pub(super) fn partial(&mut self) {
        self.is_partial = true;
    }

    /// The counter cannot be read.
    pub(super) fn absent(&mut self, why: &str) {
        self.report.absent.get_or_insert_with(|| why.to_owned());
    }

    /// A reading; `cpus` are the times of the last event of each CPU so far.
    pub(super) fn read(&mut self, reading: ForkCount, cpus: impl Iterator<Item = Option<MonoNs>>) {
        let counted = match &self.point {
            None => 0,
            Some(last) => match reading.since(&last.reading) {
                Some(more) => last.counted.saturating_add(more),
                // The counter is another one: nothing follows from the readings before.
                None => {
                    (self.best, self.doubt, self.first) = (None, None, None);
                    last.counted
                }
            },
        };
        self.report.readings += 1;
        self.report.counted = counted;
        let is_known = self.older == 0 || self.older_until < reading.from;
        let within = |count: &dyn Fn(MonoNs, MonoNs) -> bool| {
            let forks = self.forks.iter().filter(|&&time| count(time, time)).count() as u64;
            let lost = self.losses.iter().filter(|loss| count(loss.0, loss.1));
            lost.fold(self.older.saturating_add(forks), |sum, loss| sum.saturating_add(loss.2))
        };
        let least = within(&|_, before| before < reading.from);
        let most = within(&|after, _| after <= reading.until);
        let point = Point { reading, counted, least: is_known.then_some(least), most };
        self.decide(Some(&point));
        if let (Some((from, surplus)), None) = (self.best, &self.doubt)
            && point.deficit(surplus) > 0
            && !self.is_partial
        {
            let silent: Vec<_> = cpus.map(|last| last.is_some_and(|last| last <= reading.until)).collect();
            let silent_count = silent.iter().filter(|&&silent| silent).count();
            self.doubt = Some(Doubt { from, surplus, point, silent, silent_count });
        }
        if let Some(surplus) = point.surplus()
            && self.best.is_none_or(|(_, best)| best <= surplus)
        {
            self.best = Some((reading.from, surplus));
        }
        self.first.get_or_insert(reading);
        self.before_last = self.point.replace(point);
        self.age(reading.from);
    }

    /// What is found in a capture that has ended, in which so many events are left out.
    pub(super) fn finish(&mut self, left_out: u64) -> ForkReport {
        match self.is_partial {
            true => self.compare_all(left_out),
            false => self.decide(None),
        }
        std::mem::take(&mut self.report)
    }

    /// Whether a doubt is right, given the next reading, or at the end those that there are.
    fn decide(&mut self, next: Option<&Point>) {
        let Some(doubt) = self.doubt.take() else { return };
        let deficit = doubt.point.deficit(doubt.surplus);
        if deficit <= 0 {
            return;
        }
        let later = match (next, self.point) {
            (Some(next), _) => next.deficit(doubt.surplus),
            (None, Some(last)) if last.reading.from > doubt.point.reading.from => last.deficit(doubt.surplus),
            // It is the last reading.
            _ => return,
        };
        if later <= 0 {
            return;
        }
        if next.is_some() && doubt.silent_count > 0 {
            self.doubt = Some(doubt);
            return;
        }
        let Doubt { from, point, .. } = doubt;
        let missing = u64::try_from(deficit.min(later)).unwrap_or(u64::MAX);
        self.found(Shortfall { from, until: point.reading.until, missing });
        self.best = point.surplus().map(|surplus| (point.reading.from, surplus));
    }

    /// Where events are left out, it is not known which of them are forks, nor when they happened.
    fn compare_all(&mut self, left_out: u64) {
        let (Some(first), Some(before_last), Some(last)) = (self.first, self.before_last, self.point) else {
            return;
        };
        let most = self.all_forks.saturating_add(self.all_lost).saturating_add(left_out);
        let deficit = |point: &Point| match point.reading.since(&first) {
            Some(counted) => Point { counted, most, ..*point }.deficit(0),
            None => 0,
        };
        let missing = deficit(&before_last).min(deficit(&last));
        if missing > 0 {
            let (from, until) = (first.from, last.reading.until);
            self.found(Shortfall { from, until, missing: u64::try_from(missing).unwrap_or(u64::MAX) });
        }
    }

    fn found(&mut self, shortfall: Shortfall) {
        self.report.missing = self.report.missing.saturating_add(shortfall.missing);
        self.report.shortfall_count += 1;
        if self.report.shortfalls.len() < MAX_SHORTFALLS {
            self.report.shortfalls.push(shortfall);
        }
    }

    /// Only counts what is from before that time.
    fn age(&mut self, time: MonoNs) {
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
