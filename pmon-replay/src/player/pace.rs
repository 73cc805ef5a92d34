//! When, on a clock that runs, what happened is due.

use std::time::Duration;

use pmon_core::MonoNs;

/// How fast a replay goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as it can.
    Instant,
    /// As it was, so many times as fast: 1 is the original pace.
    Times(f64),
}

/// Turns times of events into times since the replay's begin. Without a clock: whoever has one waits.
///
/// ```
/// use std::time::Duration;
/// use pmon_core::MonoNs;
/// use pmon_replay::{Pace, Speed};
///
/// let pace = Pace::new(Speed::Times(10.0), MonoNs(5_000_000_000));
/// assert_eq!(pace.due(MonoNs(6_000_000_000)), Duration::from_millis(100));
/// assert_eq!(pace.reached(Duration::from_millis(100)), MonoNs(6_000_000_000));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    speed: Speed,
    origin: MonoNs,
}

impl Pace {
    /// A pace at which what happened at `origin` is due at once.
    pub fn new(speed: Speed, origin: MonoNs) -> Self {
        Self { speed, origin }
    }

    /// How long after the begin that time comes.
    pub fn due(&self, time: MonoNs) -> Duration {
        let since = time.0.saturating_sub(self.origin.0);
        match self.speed {
            Speed::Instant => Duration::ZERO,
            Speed::Times(times) => {
                Duration::try_from_secs_f64(since as f64 / 1e9 / times).unwrap_or(Duration::MAX)
            }
        }
    }

    /// What time it is so long after the begin.
    pub fn reached(&self, elapsed: Duration) -> MonoNs {
        match self.speed {
            Speed::Instant => MonoNs(u64::MAX),
            Speed::Times(times) => {
                MonoNs(self.origin.0.saturating_add((elapsed.as_secs_f64() * times * 1e9) as u64))
            }
        }
    }
}
