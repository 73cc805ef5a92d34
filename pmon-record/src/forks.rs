//! The kernel's count of forks against the fork events that came: whether the kernel emitted them all.
//!
//! The kernel counts a fork shortly before it emits the event. Of two readings of the counter, each fork that was counted between them
//! has an event from after the beginning of the first one; or it was lost, and a gap in the numbers tells; or the task has not emitted it
//! yet, and was running or waiting for a CPU while the counter was read; or the kernel emitted no events. A reading says
//! how many tasks were running, so that the last can be told from the others.
//!
//! Two readings have to say so: one after a fence, when all that was lost shows.

use pmon_core::MonoNs;
use pmon_core::capture::{Blind, ForkCount};

/// Times of forks that are kept between two readings.
const MOST: usize = 1 << 16;

/// Fork events, and lost ones that may be some, up to now.
#[derive(Debug, Default)]
struct Arrived {
    /// Those of which the times are not kept any more: the latest was at `old_until`.
    old: u64,
    old_until: MonoNs,
    forks: Vec<MonoNs>,
    /// Of events lost between two times, how many.
    lost: Vec<(MonoNs, MonoNs, u64)>,
}

impl Arrived {
    /// How many there may have been up to that time.
    fn up_to(&self, time: MonoNs) -> u64 {
        let forks = self.forks.iter().filter(|&&at| at <= time).count() as u64;
        self.old + forks + self.lost.iter().filter(|lost| lost.0 <= time).map(|lost| lost.2).sum::<u64>()
    }

    /// How many there were before that time for sure; `None` if that is not known any more.
    fn before(&self, time: MonoNs) -> Option<u64> {
        let forks = self.forks.iter().filter(|&&at| at < time).count() as u64;
        let lost = self.lost.iter().filter(|lost| lost.1 < time).map(|lost| lost.2).sum::<u64>();
        (self.old == 0 || self.old_until < time).then_some(self.old + forks + lost)
    }

    /// Forgets the times of those from before that time.
    fn forget(&mut self, time: MonoNs) {
        let (mut old, mut until) = (self.old, self.old_until);
        let mut keep = |latest: MonoNs, count: u64| {
            if latest < time {
                (old, until) = (old + count, until.max(latest));
            }
            latest >= time
        };
        self.forks.retain(|&at| keep(at, 1));
        self.lost.retain(|lost| keep(lost.1, lost.2));
        (self.old, self.old_until) = (old, until);
    }
}

/// A reading after which forks are missing.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    base: Base,
    reading: ForkCount,
    /// Whether a later reading says so, too.
    again: bool,
    /// How many events there were before it for sure,
    before: Option<u64>,
    /// and up to it at the most.
    up_to: u64,
    forks: u64,
}

/// The reading since which no event can be missing, as far as is known.
#[derive(Clone, Copy, Debug)]
struct Base {
    from: MonoNs,
    /// Events before it, less the forks that had been counted.
    surplus: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ForkWitness {
    arrived: Arrived,
    /// The last reading, and the forks counted since the first.
    last: Option<(ForkCount, u64)>,
    base: Option<Base>,
    suspicion: Option<Suspicion>,
}

/// What a reading shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The kernel emitted no events for a part of this time.
    pub(crate) blind: Option<Blind>,
    /// It may be so: another reading should follow, after a fence.
    pub(crate) is_suspicious: bool,
}

impl ForkWitness {
    /// A fork event came.
    #[inline]
    pub(crate) fn fork(&mut self, time: MonoNs) {
        self.arrived.forks.push(time);
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.up_to += u64::from(time <= suspicion.reading.until);
        }
        if self.arrived.forks.len() >= MOST {
            self.arrived.forget(MonoNs(u64::MAX));
        }
    }

    /// Events were lost between these times.
    pub(crate) fn lose(&mut self, after: MonoNs, before: MonoNs, count: u64) {
        self.arrived.lost.push((after, before, count));
        if let Some(suspicion) = &mut self.suspicion
            && after <= suspicion.reading.until
        {
            suspicion.up_to += count;
        }
        if self.arrived.lost.len() >= MOST {
            self.arrived.forget(MonoNs(u64::MAX));
        }
    }

    /// Takes a reading, after all events that were received before it.
    pub(crate) fn read(&mut self, reading: ForkCount, fenced: bool) -> Shown {
        let forks = match &self.last {
            Some((last, forks)) => match reading.since(last) {
                Some(more) => forks + more,
                // It is another counter.
                None => return self.begin_anew(reading),
            },
            None => 0,
        };
        self.last = Some((reading, forks));
        let mut shown = Shown::default();
        let (before, up_to) = (self.arrived.before(reading.from), self.arrived.up_to(reading.until));
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.again |= missing(suspicion.base, up_to, forks, reading.running) > 0;
        }
        if let Some(suspicion) = self.suspicion.take_if(|_| fenced) {
            let Suspicion { base, reading, again, before, up_to, forks } = suspicion;
            if again && missing(base, up_to, forks, reading.running) > 0 {
                shown.blind = Some(Blind { from: base.from, until: reading.until });
                self.base =
                    before.map(|before| Base { from: reading.from, surplus: before as i64 - forks as i64 });
            }
        }
        if let Some(base) = self.base
            && self.suspicion.is_none()
            && missing(base, up_to, forks, reading.running) > 0
        {
            self.suspicion = Some(Suspicion { base, reading, again: false, before, up_to, forks });
            shown.is_suspicious = true;
        }
        if let Some(before) = before {
            let surplus = before as i64 - forks as i64;
            if self.base.is_none_or(|base| base.surplus <= surplus) {
                self.base = Some(Base { from: reading.from, surplus });
            }
        }
        self.arrived.forget(reading.from);
        shown
    }

    /// For a recording of a part of the events, at its end: `reading` is one of the last two, and `events` is how many fork events
    /// there are in all, with those that are lost or left out. The time in which the kernel emitted too few.
    pub(crate) fn in_all(first: &ForkCount, reading: &ForkCount, events: u64) -> Option<Blind> {
        let base = Base { from: first.from, surplus: 0 };
        let forks = reading.since(first)?;
        let is_blind = missing(base, events, forks, reading.running) > 0;
        is_blind.then_some(Blind { from: first.from, until: reading.until })
    }

    fn begin_anew(&mut self, reading: ForkCount) -> Shown {
        let arrived = std::mem::take(&mut self.arrived);
        *self = Self { arrived, ..Self::default() };
        self.read(reading, false)
    }
}

/// Forks that are missing for sure since `base`, given the events up to a reading and the forks that it counts; the reader is one of
/// the tasks that were running.
fn missing(base: Base, up_to: u64, forks: u64, running: u64) -> i64 {
    base.surplus - (up_to as i64 - forks as i64) - running.saturating_sub(1) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which forks happen, one in a microsecond.
    #[derive(Default)]
    struct Machine {
        witness: ForkWitness,
        forks: u64,
        time: u64,
    }

    impl Machine {
        fn new() -> Self {
            let mut this = Self { time: 1_000_000, ..Self::default() };
            assert_eq!(this.read(1, true), Shown::default());
            this
        }

        fn fork(&mut self, count: u64) {
            for _ in 0..count {
                self.unheard(1);
                self.witness.fork(MonoNs(self.time));
            }
        }

        fn unheard(&mut self, count: u64) {
            self.forks += count;
            self.time += 1000 * count;
        }

        fn reading(&mut self, running: u64) -> ForkCount {
            let from = MonoNs(self.time + 10);
            self.time += 20;
            ForkCount { from, until: MonoNs(self.time), forks: self.forks, running }
        }

        fn read(&mut self, running: u64, fenced: bool) -> Shown {
            let reading = self.reading(running);
            self.witness.read(reading, fenced)
        }
    }

    const SUSPICIOUS: Shown = Shown { blind: None, is_suspicious: true };

    #[test]
    fn as_many_events_as_forks_are_no_blindness() {
        let mut machine = Machine::new();
        for running in 1..100 {
            machine.fork(1000);
            assert_eq!(machine.read(running % 5 + 1, running % 3 == 0), Shown::default());
        }
    }

    #[test]
    fn forks_without_an_event_are_blindness_between_the_readings_around_them() {
        for count in [1, 300] {
            let mut machine = Machine::new();
            machine.fork(500);
            assert_eq!(machine.read(3, true), Shown::default());
            let from = MonoNs(machine.time - 10);
            machine.fork(100);
            machine.unheard(count);
            machine.fork(100);
            assert_eq!(machine.read(1, false), SUSPICIOUS, "{count}");
            let until = MonoNs(machine.time);
            machine.fork(100);
            assert_eq!(machine.read(1, false), Shown::default(), "only a fence shows all losses");
            let shown = machine.read(1, true);
            assert_eq!(shown, Shown { blind: Some(Blind { from, until }), is_suspicious: false }, "{count}");
            machine.fork(100);
            assert_eq!(machine.read(1, true), Shown::default(), "it is told once");
        }
    }

    #[test]
    fn as_long_as_it_goes_on_it_is_told_again() {
        let mut machine = Machine::new();
        machine.unheard(10);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
        machine.unheard(10);
        let shown = machine.read(1, true);
        assert!(shown.blind.is_some() && shown.is_suspicious);
        let first = shown.blind.unwrap();
        let second = machine.read(1, true);
        assert!(second.blind.is_some_and(|second| second.from < first.until && second.until > first.until));
        assert_eq!(machine.read(1, true), Shown::default());
    }

    #[test]
    fn tasks_that_were_running_may_not_have_emitted_theirs_yet() {
        let mut machine = Machine::new();
        machine.unheard(3);
        assert_eq!(machine.read(4, true), Shown::default());
        // They never do: that shows when fewer run.
        machine.fork(50);
        assert_eq!(machine.read(2, true), SUSPICIOUS);
        assert!(machine.read(2, true).blind.is_some());
    }

    #[test]
    fn a_late_event_is_not_missing() {
        let mut machine = Machine::new();
        machine.fork(10);
        machine.unheard(1);
        let late = machine.time;
        assert_eq!(machine.read(1, false), SUSPICIOUS);
        machine.witness.fork(MonoNs(late));
        assert_eq!(machine.read(1, true), Shown::default());
    }

    #[test]
    fn events_that_are_lost_may_be_forks_also_where_that_shows_late() {
        for late in [false, true] {
            let mut machine = Machine::new();
            machine.fork(10);
            let after = MonoNs(machine.time);
            machine.unheard(40);
            let lose = |machine: &mut Machine| {
                let before = MonoNs(machine.time);
                machine.witness.lose(after, before, 70);
            };
            if !late {
                lose(&mut machine);
            }
            assert_eq!(machine.read(1, false).is_suspicious, late);
            if late {
                machine.time += 100;
                lose(&mut machine);
            }
            assert_eq!(machine.read(1, true), Shown::default());
            // What is lost in one time explains nothing of another.
            machine.fork(10);
            machine.unheard(1);
            assert_eq!(machine.read(1, true), SUSPICIOUS);
            assert!(machine.read(1, true).blind.is_some());
        }
    }

    #[test]
    fn what_is_lost_later_neither_hides_nor_makes_blindness() {
        for missing in [0, 1] {
            let mut machine = Machine::new();
            machine.fork(10);
            machine.unheard(1);
            let late = machine.time;
            assert_eq!(machine.read(1, false), SUSPICIOUS);
            if missing == 0 {
                machine.witness.fork(MonoNs(late));
            }
            assert_eq!(machine.read(1, false), Shown::default());
            let after = MonoNs(machine.time);
            machine.time += 1000;
            machine.witness.lose(after, MonoNs(machine.time), 5000);
            machine.time += 1000;
            assert_eq!(machine.read(1, false), Shown::default());
            assert_eq!(machine.read(1, true).blind.is_some(), missing == 1);
        }
    }

    #[test]
    fn forks_around_a_reading_count_once() {
        let mut machine = Machine::new();
        let reading = machine.reading(2);
        // Counted before the reading, emitted while it was made, and the other way round.
        machine.witness.fork(reading.until);
        machine.witness.fork(reading.from);
        let reading = ForkCount { forks: 1, ..reading };
        machine.forks = 2;
        assert_eq!(machine.witness.read(reading, true), Shown::default());
        assert_eq!(machine.read(1, true), Shown::default());
        machine.unheard(3);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
    }

    #[test]
    fn the_counter_may_wrap_and_another_one_says_nothing() {
        let mut machine = Machine { time: 1_000_000, forks: (1 << 32) - 5, ..Machine::default() };
        machine.read(1, true);
        machine.fork(10);
        machine.forks -= 1 << 32;
        assert_eq!(machine.read(1, true), Shown::default());
        machine.unheard(1);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
        machine.forks = 1 << 40;
        assert!(machine.read(1, true).blind.is_some());
        machine.forks = 7;
        assert_eq!(machine.read(1, true), Shown::default());
        machine.fork(9);
        assert_eq!(machine.read(1, true), Shown::default());
    }

    #[test]
    fn without_a_reading_it_keeps_no_more_than_so_many_times_and_stays_right() {
        let mut machine = Machine::new();
        machine.fork(3 * MOST as u64 / 2);
        assert!(machine.witness.arrived.forks.len() <= MOST);
        assert_eq!(machine.read(1, true), Shown::default());
        machine.unheard(5);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
        assert!(machine.read(1, true).blind.is_some());
    }
}
