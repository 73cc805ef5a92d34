//! Converts the times of events to delays since the start of a replay.

use std::time::Duration;

use pmon_core::MonoNs;

/// Speed of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as possible.
    Instant,
    /// Multiple of the original speed.
    Times(f64),
}

/// Converts the times of events to delays since the start of a replay. It reads no clock: the
/// caller waits.
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
    /// Creates a pace at which an event of the time `origin` is due at the start.
    pub fn new(speed: Speed, origin: MonoNs) -> Self {
        Self { speed, origin }
    }

    /// Returns the delay of an event of this time.
    pub fn due(&self, time: MonoNs) -> Duration {
        let since = time.0.saturating_sub(self.origin.0);
        match self.speed {
            Speed::Instant => Duration::ZERO,
            Speed::Times(times) => {
                Duration::try_from_secs_f64(since as f64 / 1e9 / times).unwrap_or(Duration::MAX)
            }
        }
    }

    /// Returns the latest event time that is due after this delay.
    pub fn reached(&self, elapsed: Duration) -> MonoNs {
        match self.speed {
            Speed::Instant => MonoNs(u64::MAX),
            Speed::Times(times) => {
                MonoNs(self.origin.0.saturating_add((elapsed.as_secs_f64() * times * 1e9) as u64))
            }
        }
    }
}
