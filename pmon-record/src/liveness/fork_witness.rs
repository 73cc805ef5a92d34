//! Compares the kernel's count of forks with the fork events, to check that the kernel emitted all
//! of them.
//!
//! The kernel counts a fork shortly before it emits the event. So for each fork counted between two
//! readings, one of the following holds:
//!
//! * The event was emitted after the first reading began.
//! * The event was lost, and a gap in the numbers shows it.
//! * The task has not emitted the event yet. It was then running or waiting for a CPU during the
//!   second reading, which contains the number of such tasks.
//! * The kernel emitted no events.
//!
//! Two readings must show the last case, one of them after a fence, which reveals all losses.

use pmon_core::MonoNs;
use pmon_core::capture::{Blind, ForkCount};

/// Maximum number of fork times kept between two readings.
const MOST: usize = 1 << 16;

/// Received fork events, and lost events that may be forks.
#[derive(Debug, Default)]
struct Arrived {
    /// Number of fork events whose times are no longer kept; the latest was at `old_until`.
    old: u64,
    old_until: MonoNs,
    forks: Vec<MonoNs>,
    /// Numbers of lost events, each between two times.
    lost: Vec<(MonoNs, MonoNs, u64)>,
}

impl Arrived {
    /// Returns the maximum number of forks up to `time`.
    fn up_to(&self, time: MonoNs) -> u64 {
        let forks = self.forks.iter().filter(|&&at| at <= time).count() as u64;
        self.old + forks + self.lost.iter().filter(|lost| lost.0 <= time).map(|lost| lost.2).sum::<u64>()
    }

    /// Returns the minimum number of forks before `time`; `None` if unknown because the times are
    /// dropped.
    fn before(&self, time: MonoNs) -> Option<u64> {
        let forks = self.forks.iter().filter(|&&at| at < time).count() as u64;
        let lost = self.lost.iter().filter(|lost| lost.1 < time).map(|lost| lost.2).sum::<u64>();
        (self.old == 0 || self.old_until < time).then_some(self.old + forks + lost)
    }

    /// Drops the times before `time`.
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

/// A reading that shows missing forks.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    base: Base,
    reading: ForkCount,
    /// Whether a later reading confirms the suspicion.
    again: bool,
    /// Minimum number of events before the reading; `None` if unknown.
    before: Option<u64>,
    /// Maximum number of events up to the reading.
    up_to: u64,
    forks: u64,
}

/// The latest reading since which no event is known to be missing.
#[derive(Clone, Copy, Debug)]
struct Base {
    from: MonoNs,
    /// Number of events before the reading, less the number of counted forks.
    surplus: i64,
}

/// Detects missing fork events from readings of the kernel's count of forks.
#[derive(Debug, Default)]
pub(crate) struct ForkWitness {
    arrived: Arrived,
    /// The last reading, and the forks counted since the first.
    last: Option<(ForkCount, u64)>,
    base: Option<Base>,
    suspicion: Option<Suspicion>,
}

/// The result of a reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForkVerdict {
    /// A time in a part of which the kernel emitted no events.
    pub(crate) blind: Option<Blind>,
    /// Whether forks seem to be missing, so that another reading should follow after a fence.
    pub(crate) is_suspicious: bool,
}

impl ForkWitness {
    /// Records the time of a received fork event.
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

    /// Records that `count` events were lost between two times.
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

    /// Evaluates a reading. All events that were received before the reading must be recorded
    /// already.
    pub(crate) fn read(&mut self, reading: ForkCount, fenced: bool) -> ForkVerdict {
        let forks = match &self.last {
            Some((last, forks)) => match reading.since(last) {
                Some(more) => forks + more,
                // The counter has been reset.
                None => return self.restart(reading),
            },
            None => 0,
        };
        self.last = Some((reading, forks));
        let mut shown = ForkVerdict::default();
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

    /// Returns the time in which the kernel emitted too few fork events, at the end of a recording
    /// of only a part of the events. `reading` is one of the last two readings. `events` is the
    /// number of fork events, including events that were lost or left out.
    pub(crate) fn in_all(first: &ForkCount, reading: &ForkCount, events: u64) -> Option<Blind> {
        let base = Base { from: first.from, surplus: 0 };
        let forks = reading.since(first)?;
        let is_blind = missing(base, events, forks, reading.running) > 0;
        is_blind.then_some(Blind { from: first.from, until: reading.until })
    }

    fn restart(&mut self, reading: ForkCount) -> ForkVerdict {
        let arrived = std::mem::take(&mut self.arrived);
        *self = Self { arrived, ..Self::default() };
        self.read(reading, false)
    }
}

/// Returns the minimum number of forks without an event since `base`, given the events up to a
/// reading and its count of forks. One of the running tasks is the reader itself.
fn missing(base: Base, up_to: u64, forks: u64, running: u64) -> i64 {
    base.surplus - (up_to as i64 - forks as i64) - running.saturating_sub(1) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that forks once per microsecond.
    #[derive(Default)]
    struct Machine {
        witness: ForkWitness,
        forks: u64,
        time: u64,
    }

    impl Machine {
        fn new() -> Self {
            let mut this = Self { time: 1_000_000, ..Self::default() };
            assert_eq!(this.read(1, true), ForkVerdict::default());
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

        fn read(&mut self, running: u64, fenced: bool) -> ForkVerdict {
            let reading = self.reading(running);
            self.witness.read(reading, fenced)
        }
    }

    const SUSPICIOUS: ForkVerdict = ForkVerdict { blind: None, is_suspicious: true };

    #[test]
    fn as_many_events_as_forks_are_no_blindness() {
        let mut machine = Machine::new();
        for running in 1..100 {
            machine.fork(1000);
            assert_eq!(machine.read(running % 5 + 1, running % 3 == 0), ForkVerdict::default());
        }
    }

    #[test]
    fn forks_without_an_event_are_blindness_between_the_readings_around_them() {
        for count in [1, 300] {
            let mut machine = Machine::new();
            machine.fork(500);
            assert_eq!(machine.read(3, true), ForkVerdict::default());
            let from = MonoNs(machine.time - 10);
            machine.fork(100);
            machine.unheard(count);
            machine.fork(100);
            assert_eq!(machine.read(1, false), SUSPICIOUS, "{count}");
            let until = MonoNs(machine.time);
            machine.fork(100);
            assert_eq!(machine.read(1, false), ForkVerdict::default(), "only a fence shows all losses");
            let shown = machine.read(1, true);
            assert_eq!(
                shown,
                ForkVerdict { blind: Some(Blind { from, until }), is_suspicious: false },
                "{count}"
            );
            machine.fork(100);
            assert_eq!(machine.read(1, true), ForkVerdict::default(), "it is told once");
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
        assert_eq!(machine.read(1, true), ForkVerdict::default());
    }

    #[test]
    fn tasks_that_were_running_may_not_have_emitted_theirs_yet() {
        let mut machine = Machine::new();
        machine.unheard(3);
        assert_eq!(machine.read(4, true), ForkVerdict::default());
        // The tasks never emit the events; it shows when fewer are running.
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
        assert_eq!(machine.read(1, true), ForkVerdict::default());
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
            assert_eq!(machine.read(1, true), ForkVerdict::default());
            // A loss in one time does not explain a fork of another time.
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
            assert_eq!(machine.read(1, false), ForkVerdict::default());
            let after = MonoNs(machine.time);
            machine.time += 1000;
            machine.witness.lose(after, MonoNs(machine.time), 5000);
            machine.time += 1000;
            assert_eq!(machine.read(1, false), ForkVerdict::default());
            assert_eq!(machine.read(1, true).blind.is_some(), missing == 1);
        }
    }

    #[test]
    fn forks_around_a_reading_count_once() {
        let mut machine = Machine::new();
        let reading = machine.reading(2);
        // A fork counted before the reading and emitted during it, and the reverse.
        machine.witness.fork(reading.until);
        machine.witness.fork(reading.from);
        let reading = ForkCount { forks: 1, ..reading };
        machine.forks = 2;
        assert_eq!(machine.witness.read(reading, true), ForkVerdict::default());
        assert_eq!(machine.read(1, true), ForkVerdict::default());
        machine.unheard(3);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
    }

    #[test]
    fn the_counter_may_wrap_and_another_one_says_nothing() {
        let mut machine = Machine { time: 1_000_000, forks: (1 << 32) - 5, ..Machine::default() };
        machine.read(1, true);
        machine.fork(10);
        machine.forks -= 1 << 32;
        assert_eq!(machine.read(1, true), ForkVerdict::default());
        machine.unheard(1);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
        machine.forks = 1 << 40;
        assert!(machine.read(1, true).blind.is_some());
        machine.forks = 7;
        assert_eq!(machine.read(1, true), ForkVerdict::default());
        machine.fork(9);
        assert_eq!(machine.read(1, true), ForkVerdict::default());
    }

    #[test]
    fn without_a_reading_it_keeps_no_more_than_so_many_times_and_stays_right() {
        let mut machine = Machine::new();
        machine.fork(3 * MOST as u64 / 2);
        assert!(machine.witness.arrived.forks.len() <= MOST);
        assert_eq!(machine.read(1, true), ForkVerdict::default());
        machine.unheard(5);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
        assert!(machine.read(1, true).blind.is_some());
    }
}
