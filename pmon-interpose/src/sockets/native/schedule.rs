//! When the tracee is observed, and what has been observed since the last event.

use std::time::{Duration, Instant};

/// When the tracee is observed next, and what has been observed since the last event.
pub(crate) struct ObservationSchedule {
    pub(crate) interval: Duration,
    pub(crate) next: Instant,
    /// Since when the tracee sleeps, but not in a waiting call.
    pub(crate) asleep_since: Option<Instant>,
    /// CPU time of the tracee when it was first seen to run after its last intercepted call.
    pub(crate) cpu_time: Option<Duration>,
    /// CPU time of the tracee when it was first seen to run.
    pub(crate) first_cpu_time: Option<Duration>,
    /// Since when the tracee has slept without reading.
    pub(crate) unread_since: Option<Instant>,
    /// A thread has slept in another call than a waiting one since then.
    pub(crate) has_slept: bool,
}

impl ObservationSchedule {
    pub(crate) fn new(interval: Duration) -> Self {
        let next = Instant::now() + interval;
        Self {
            interval,
            next,
            asleep_since: None,
            cpu_time: None,
            first_cpu_time: None,
            unread_since: None,
            has_slept: false,
        }
    }

    /// Doubles the interval; returns it.
    pub(crate) fn back_off(&mut self, now: Instant, max: Duration) -> Duration {
        self.interval = (self.interval * 2).min(max);
        self.next = now + self.interval;
        self.interval
    }
}
