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

/// Maximum number of fork times, and of losses, that are kept between two readings.
const MAX_KEPT: usize = 1 << 16;

/// Received fork events, and lost events that may be forks.
#[derive(Debug, Default)]
struct ForkEvents {
    /// Number of fork events whose times are no longer kept; the latest was at `old_until`.
    old: u64,
    old_until: MonoNs,
    /// Times of later fork events.
    forks: Vec<MonoNs>,
    /// Numbers of lost events, each between two times.
    lost: Vec<(MonoNs, MonoNs, u64)>,
}

impl ForkEvents {
    /// Returns the maximum number of forks up to `time`.
    fn up_to(&self, time: MonoNs) -> u64 {
        let forks = self.forks.iter().filter(|&&at| at <= time).count() as u64;
        self.old + forks + self.lost.iter().filter(|lost| lost.0 <= time).map(|lost| lost.2).sum::<u64>()
    }

    /// Returns the minimum number of forks before `time`; `None` if unknown because the times are
    /// no longer kept.
    fn before(&self, time: MonoNs) -> Option<u64> {
        let forks = self.forks.iter().filter(|&&at| at < time).count() as u64;
        let lost = self.lost.iter().filter(|lost| lost.1 < time).map(|lost| lost.2).sum::<u64>();
        (self.old == 0 || self.old_until < time).then_some(self.old + forks + lost)
    }

    /// Drops the times before `time`.
    fn drop_before(&mut self, time: MonoNs) {
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
    base: ReferenceReading,
    reading: ForkCount,
    /// Whether a later reading confirms the suspicion.
    is_confirmed: bool,
    /// Minimum number of events before the reading; `None` if unknown.
    before: Option<u64>,
    /// Maximum number of events up to the reading.
    up_to: u64,
    /// Number of forks counted since the first reading.
    forks: u64,
}

/// The latest reading since which no event is known to be missing.
#[derive(Clone, Copy, Debug)]
struct ReferenceReading {
    from: MonoNs,
    /// Number of events before the reading, less the number of counted forks.
    surplus: i64,
}

/// Detects missing fork events from readings of the kernel's count of forks.
#[derive(Debug, Default)]
pub(crate) struct ForkWitness {
    received: ForkEvents,
    /// The last reading, and the forks counted since the first.
    last: Option<(ForkCount, u64)>,
    base: Option<ReferenceReading>,
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
    pub(crate) fn add_fork(&mut self, time: MonoNs) {
        self.received.forks.push(time);
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.up_to += u64::from(time <= suspicion.reading.until);
        }
        if self.received.forks.len() >= MAX_KEPT {
            self.received.drop_before(MonoNs(u64::MAX));
        }
    }

    /// Records that `count` events were lost between two times.
    pub(crate) fn add_loss(&mut self, after: MonoNs, before: MonoNs, count: u64) {
        self.received.lost.push((after, before, count));
        if let Some(suspicion) = &mut self.suspicion
            && after <= suspicion.reading.until
        {
            suspicion.up_to += count;
        }
        if self.received.lost.len() >= MAX_KEPT {
            self.received.drop_before(MonoNs(u64::MAX));
        }
    }

    /// Evaluates a reading. All events that were received before the reading must be recorded
    /// already.
    pub(crate) fn add_reading(&mut self, reading: ForkCount, fenced: bool) -> ForkVerdict {
        let forks = match &self.last {
            Some((last, forks)) => match reading.since(last) {
                Some(more) => forks + more,
                // The counter has been reset.
                None => return self.restart(reading),
            },
            None => 0,
        };
        self.last = Some((reading, forks));
        let mut verdict = ForkVerdict::default();
        let (before, up_to) = (self.received.before(reading.from), self.received.up_to(reading.until));
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.is_confirmed |= missing(suspicion.base, up_to, forks, reading.running) > 0;
        }
        if let Some(suspicion) = self.suspicion.take_if(|_| fenced) {
            let Suspicion { base, reading, is_confirmed, before, up_to, forks } = suspicion;
            if is_confirmed && missing(base, up_to, forks, reading.running) > 0 {
                verdict.blind = Some(Blind { from: base.from, until: reading.until });
                self.base = before.map(|before| ReferenceReading {
                    from: reading.from,
                    surplus: before as i64 - forks as i64,
                });
            }
        }
        if let Some(base) = self.base
            && self.suspicion.is_none()
            && missing(base, up_to, forks, reading.running) > 0
        {
            self.suspicion = Some(Suspicion { base, reading, is_confirmed: false, before, up_to, forks });
            verdict.is_suspicious = true;
        }
        if let Some(before) = before {
            let surplus = before as i64 - forks as i64;
            if self.base.is_none_or(|base| base.surplus <= surplus) {
                self.base = Some(ReferenceReading { from: reading.from, surplus });
            }
        }
        self.received.drop_before(reading.from);
        verdict
    }

    /// Returns the time in which the kernel emitted too few fork events, at the end of a recording
    /// of only a part of the events. `reading` is one of the last two readings. `events` is the
    /// number of fork events, including lost and excluded ones.
    pub(crate) fn whole_recording(first: &ForkCount, reading: &ForkCount, events: u64) -> Option<Blind> {
        let base = ReferenceReading { from: first.from, surplus: 0 };
        let forks = reading.since(first)?;
        let is_blind = missing(base, events, forks, reading.running) > 0;
        is_blind.then_some(Blind { from: first.from, until: reading.until })
    }

    fn restart(&mut self, reading: ForkCount) -> ForkVerdict {
        let received = std::mem::take(&mut self.received);
        *self = Self { received, ..Self::default() };
        self.add_reading(reading, false)
    }
}

/// Returns the minimum number of forks without an event since `base`, given the events up to a
/// reading and its count of forks. One of the running tasks is the reader itself.
fn missing(base: ReferenceReading, up_to: u64, forks: u64, running: u64) -> i64 {
    base.surplus - (up_to as i64 - forks as i64) - running.saturating_sub(1) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that forks once per microsecond.
    #[derive(Default)]
    struct SimulatedMachine {
        witness: ForkWitness,
        forks: u64,
        time: u64,
    }

    impl SimulatedMachine {
        fn new() -> Self {
            let mut this = Self { time: 1_000_000, ..Self::default() };
            assert_eq!(this.read(1, true), ForkVerdict::default());
            this
        }

        fn fork(&mut self, count: u64) {
            for _ in 0..count {
                self.fork_without_event(1);
                self.witness.add_fork(MonoNs(self.time));
            }
        }

        fn fork_without_event(&mut self, count: u64) {
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
            self.witness.add_reading(reading, fenced)
        }
    }

    const SUSPICIOUS: ForkVerdict = ForkVerdict { blind: None, is_suspicious: true };

    #[test]
    fn as_many_events_as_forks_do_not_mean_blind() {
        let mut machine = SimulatedMachine::new();
        for running in 1..100 {
            machine.fork(1000);
            assert_eq!(machine.read(running % 5 + 1, running % 3 == 0), ForkVerdict::default());
        }
    }

    #[test]
    fn forks_without_an_event_mean_blind_between_the_readings_around_them() {
        for count in [1, 300] {
            let mut machine = SimulatedMachine::new();
            machine.fork(500);
            assert_eq!(machine.read(3, true), ForkVerdict::default());
            let from = MonoNs(machine.time - 10);
            machine.fork(100);
            machine.fork_without_event(count);
            machine.fork(100);
            assert_eq!(machine.read(1, false), SUSPICIOUS, "{count}");
            let until = MonoNs(machine.time);
            machine.fork(100);
            assert_eq!(machine.read(1, false), ForkVerdict::default(), "only a fence reveals all losses");
            let verdict = machine.read(1, true);
            assert_eq!(
                verdict,
                ForkVerdict { blind: Some(Blind { from, until }), is_suspicious: false },
                "{count}"
            );
            machine.fork(100);
            assert_eq!(machine.read(1, true), ForkVerdict::default(), "it is reported once");
        }
    }

    #[test]
    fn a_continuing_blind_time_is_reported_again() {
        let mut machine = SimulatedMachine::new();
        machine.fork_without_event(10);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
        machine.fork_without_event(10);
        let verdict = machine.read(1, true);
        assert!(verdict.blind.is_some() && verdict.is_suspicious);
        let first = verdict.blind.unwrap();
        let second = machine.read(1, true);
        assert!(second.blind.is_some_and(|second| second.from < first.until && second.until > first.until));
        assert_eq!(machine.read(1, true), ForkVerdict::default());
    }

    #[test]
    fn running_tasks_may_not_have_emitted_their_fork_event_yet() {
        let mut machine = SimulatedMachine::new();
        machine.fork_without_event(3);
        assert_eq!(machine.read(4, true), ForkVerdict::default());
        // The tasks never emit the events, which a reading with fewer running tasks shows.
        machine.fork(50);
        assert_eq!(machine.read(2, true), SUSPICIOUS);
        assert!(machine.read(2, true).blind.is_some());
    }

    #[test]
    fn a_late_event_is_not_missing() {
        let mut machine = SimulatedMachine::new();
        machine.fork(10);
        machine.fork_without_event(1);
        let late = machine.time;
        assert_eq!(machine.read(1, false), SUSPICIOUS);
        machine.witness.add_fork(MonoNs(late));
        assert_eq!(machine.read(1, true), ForkVerdict::default());
    }

    #[test]
    fn lost_events_may_be_forks_even_if_the_loss_is_revealed_late() {
        for late in [false, true] {
            let mut machine = SimulatedMachine::new();
            machine.fork(10);
            let after = MonoNs(machine.time);
            machine.fork_without_event(40);
            let lose = |machine: &mut SimulatedMachine| {
                let before = MonoNs(machine.time);
                machine.witness.add_loss(after, before, 70);
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
            machine.fork_without_event(1);
            assert_eq!(machine.read(1, true), SUSPICIOUS);
            assert!(machine.read(1, true).blind.is_some());
        }
    }

    #[test]
    fn a_later_loss_neither_hides_a_blind_time_nor_means_one() {
        for missing in [0, 1] {
            let mut machine = SimulatedMachine::new();
            machine.fork(10);
            machine.fork_without_event(1);
            let late = machine.time;
            assert_eq!(machine.read(1, false), SUSPICIOUS);
            if missing == 0 {
                machine.witness.add_fork(MonoNs(late));
            }
            assert_eq!(machine.read(1, false), ForkVerdict::default());
            let after = MonoNs(machine.time);
            machine.time += 1000;
            machine.witness.add_loss(after, MonoNs(machine.time), 5000);
            machine.time += 1000;
            assert_eq!(machine.read(1, false), ForkVerdict::default());
            assert_eq!(machine.read(1, true).blind.is_some(), missing == 1);
        }
    }

    #[test]
    fn forks_around_a_reading_count_once() {
        let mut machine = SimulatedMachine::new();
        let reading = machine.reading(2);
        // A fork counted before the reading and emitted during it, and the reverse.
        machine.witness.add_fork(reading.until);
        machine.witness.add_fork(reading.from);
        let reading = ForkCount { forks: 1, ..reading };
        machine.forks = 2;
        assert_eq!(machine.witness.add_reading(reading, true), ForkVerdict::default());
        assert_eq!(machine.read(1, true), ForkVerdict::default());
        machine.fork_without_event(3);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
    }

    #[test]
    fn the_counter_may_wrap_and_a_reset_is_ignored() {
        let mut machine =
            SimulatedMachine { time: 1_000_000, forks: (1 << 32) - 5, ..SimulatedMachine::default() };
        machine.read(1, true);
        machine.fork(10);
        machine.forks -= 1 << 32;
        assert_eq!(machine.read(1, true), ForkVerdict::default());
        machine.fork_without_event(1);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
        machine.forks = 1 << 40;
        assert!(machine.read(1, true).blind.is_some());
        machine.forks = 7;
        assert_eq!(machine.read(1, true), ForkVerdict::default());
        machine.fork(9);
        assert_eq!(machine.read(1, true), ForkVerdict::default());
    }

    #[test]
    fn the_number_of_kept_times_is_bounded_and_the_result_stays_correct() {
        let mut machine = SimulatedMachine::new();
        machine.fork(3 * MAX_KEPT as u64 / 2);
        assert!(machine.witness.received.forks.len() <= MAX_KEPT);
        assert_eq!(machine.read(1, true), ForkVerdict::default());
        machine.fork_without_event(5);
        assert_eq!(machine.read(1, true), SUSPICIOUS);
        assert!(machine.read(1, true).blind.is_some());
    }
}
