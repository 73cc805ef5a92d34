//! How often the drain thread wakes up: at once while events are rare, seldom during a storm.

use std::time::{Duration, Instant};

/// Maximum number of event-driven wake-ups per window of [`crate::RecordOptions::latency`] while
/// the event rate is low.
///
/// Waking up early lets the details thread read `/proc/<pid>` before a short-lived process exits.
const WAKEUPS_PER_WINDOW: u32 = 64;
/// Maximum number of event-driven wake-ups per window during a storm (see [`STORM_THRESHOLD`]), so
/// that a storm does not cause one per event.
const STORM_WAKEUPS_PER_WINDOW: u32 = 8;
/// Number of datagrams in a window above which the next window counts as a storm.
const STORM_THRESHOLD: u64 = 128;

/// How often the drain thread receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivePace {
    /// Time between two receptions while events arrive.
    pub(crate) latency: Duration,
    /// Number of datagrams that fit into the source. The thread receives more often if the source
    /// fills up.
    pub(crate) capacity: u64,
    /// Whether no details are read from `/proc`, so that events can wait.
    ///
    /// The drain thread then receives at most once per window, except for the first event after a
    /// window without events.
    pub(crate) is_lazy: bool,
}

/// Limits the wake-ups of the drain thread per window.
pub(crate) struct WakeBudget {
    pace: ReceivePace,
    /// Start of the current window.
    start: Instant,
    /// Number of wake-ups in the current window.
    wakeups: u32,
    /// Maximum number of wake-ups in the current window.
    limit: u32,
    /// Number of datagrams received in the current window.
    datagrams: u64,
}

impl WakeBudget {
    pub(crate) fn new(pace: ReceivePace) -> Self {
        Self { pace, start: Instant::now(), wakeups: 0, limit: WAKEUPS_PER_WINDOW, datagrams: 0 }
    }

    /// Counts datagrams that were received.
    pub(crate) fn count(&mut self, datagrams: u64) {
        self.datagrams += datagrams;
    }

    /// Counts a wake-up at `now`, and begins a new window if the current one is over.
    pub(crate) fn wake(&mut self, now: Instant) {
        let (passed, length) = (now.duration_since(self.start), self.pace.latency);
        if self.pace.is_lazy {
            self.start = now;
        } else if passed >= length {
            // A window that lasted much longer had idle time, so it was no storm.
            let is_storm = passed < 2 * length && self.datagrams > STORM_THRESHOLD;
            let limit = if is_storm { STORM_WAKEUPS_PER_WINDOW } else { WAKEUPS_PER_WINDOW };
            *self = Self { start: now, limit, ..Self::new(self.pace) };
        }
        self.wakeups += 1;
    }

    /// Returns how long the drain thread must sleep before the source may wake it again; `None` if
    /// the source may wake it at once.
    pub(crate) fn pause(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.duration_since(self.start);
        // The time in which the source becomes half full at the current rate.
        let half_full = passed.mul_f64((self.pace.capacity / 2) as f64 / self.datagrams.max(1) as f64);
        let pause = if self.pace.is_lazy {
            self.start = now;
            let datagrams = std::mem::take(&mut self.datagrams);
            (datagrams > 0).then_some(self.pace.latency.min(half_full))
        } else {
            let is_spent = self.wakeups >= self.limit;
            is_spent.then(|| self.pace.latency.saturating_sub(passed).min(half_full))
        };
        pause.filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(10);
    const PACE: ReceivePace = ReceivePace { latency: WINDOW, capacity: 80_000, is_lazy: false };

    /// Wakes up every 10 us from `now` on, with `datagrams` datagrams each, until the budget is
    /// spent or `max` is reached. Returns the number of wake-ups.
    fn wake(budget: &mut WakeBudget, mut now: Instant, max: u32, datagrams: u64) -> u32 {
        let mut wakeups = 0;
        while wakeups < max && budget.pause(now).is_none() {
            budget.wake(now);
            budget.count(datagrams);
            wakeups += 1;
            now += WINDOW / 1000;
        }
        wakeups
    }

    #[test]
    fn rare_events_wake_at_once_and_a_storm_wakes_seldom() {
        let mut budget = WakeBudget::new(PACE);
        let mut now = budget.start;
        for _ in 0..100 {
            now += WINDOW;
            assert_eq!(wake(&mut budget, now, 40, 1), 40);
        }
        now += WINDOW;
        assert_eq!(wake(&mut budget, now, 1000, 10), WAKEUPS_PER_WINDOW);
        for _ in 0..100 {
            now += WINDOW;
            assert_eq!(wake(&mut budget, now, 1000, 1000), STORM_WAKEUPS_PER_WINDOW);
            assert_eq!(budget.pause(now + WINDOW / 2), Some(WINDOW / 2));
        }
        // An idle window ends the storm.
        now += WINDOW * 2;
        assert_eq!(wake(&mut budget, now, 40, 1), 40);
    }

    #[test]
    fn a_lazy_pace_receives_once_per_window_and_at_once_after_an_idle_window() {
        let mut budget = WakeBudget::new(ReceivePace { is_lazy: true, capacity: 1000, ..PACE });
        let now = budget.start + WINDOW;
        assert_eq!(budget.pause(now), None);
        budget.wake(now + WINDOW);
        budget.count(1);
        assert_eq!(budget.pause(now + WINDOW + WINDOW / 100), Some(WINDOW));
        budget.count(100);
        assert_eq!(budget.pause(now + WINDOW * 2), Some(WINDOW));
        // At this rate the source is full after one window.
        budget.count(1000);
        assert_eq!(budget.pause(now + WINDOW * 3), Some(WINDOW / 2));
        assert_eq!(budget.pause(now + WINDOW * 4), None);
    }

    #[test]
    fn a_pause_is_too_short_to_overrun_the_socket() {
        let mut budget = WakeBudget::new(ReceivePace { capacity: 1000, ..PACE });
        let now = budget.start + WINDOW;
        // 640 datagrams in the first millisecond: as many again would fill more than half of the
        // socket's buffer.
        assert_eq!(wake(&mut budget, now, 1000, 10), WAKEUPS_PER_WINDOW);
        assert_eq!(budget.pause(now + WINDOW / 10), Some(WINDOW / 10 * 500 / 640));
        // With more capacity, the pause ends with the window.
        budget.pace.capacity *= 100;
        assert_eq!(budget.pause(now + WINDOW / 10), Some(WINDOW - WINDOW / 10));
    }
}
