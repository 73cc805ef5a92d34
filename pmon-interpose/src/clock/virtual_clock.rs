//! The time that the tracee's clocks show.

use std::time::Duration;

use crate::world::ClockTimes;

/// Number of readings after which a clock that stands still begins to advance.
///
/// A program that waits for a time by reading the clock must reach it. Programs that handle an
/// event read the clock less often.
const READINGS_AT_REST: u32 = 10_000;
/// The time that each further reading adds: about as long as it takes. Some runtimes read the clock
/// thousands of times before they receive an event, so that the time must not grow faster.
const READING_TIME: Duration = Duration::from_micros(10);

/// A clock that shows the time of the event that the tracee received last, and never goes back.
///
/// It stands still until the tracee receives the next event, or has waited for a time without
/// receiving one. The time of a reading therefore depends only on the tracee's calls, not on the
/// speed of this system.
#[derive(Default)]
pub(crate) struct VirtualClock {
    /// `CLOCK_MONOTONIC`; the other clocks are as far from it as on the recorded machine.
    now: Duration,
    /// `CLOCK_MONOTONIC` at the last event.
    event: Duration,
    /// Number of readings since the last event or the end of the last wait.
    readings: u32,
}

impl VirtualClock {
    /// Returns the clocks without advancing them. `event` are those as of the event that the tracee
    /// received last.
    pub(crate) fn now(&mut self, event: ClockTimes) -> ClockTimes {
        self.note_event(event);
        event.plus(self.now - event.monotonic)
    }

    /// Reads the clocks for the tracee.
    pub(crate) fn read(&mut self, event: ClockTimes) -> ClockTimes {
        self.note_event(event);
        self.readings = self.readings.saturating_add(1);
        if self.readings > READINGS_AT_REST {
            self.now = self.now.saturating_add(READING_TIME);
        }
        event.plus(self.now - event.monotonic)
    }

    /// Sets `CLOCK_MONOTONIC` to this time, unless it is later already.
    pub(crate) fn set(&mut self, time: Duration) {
        self.now = self.now.max(time);
        self.readings = 0;
    }

    fn note_event(&mut self, event: ClockTimes) {
        if self.event != event.monotonic {
            self.event = event.monotonic;
            self.set(event.monotonic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seconds: u64) -> ClockTimes {
        let monotonic = Duration::from_secs(seconds);
        let [boottime, realtime] = [10, 1_000].map(|since| monotonic + Duration::from_secs(since));
        ClockTimes { monotonic, boottime, realtime }
    }

    #[test]
    fn the_clock_shows_the_time_of_the_last_event() {
        let mut clock = VirtualClock::default();
        for seconds in [5, 5, 7] {
            assert_eq!(clock.read(event(seconds)), event(seconds));
        }
        assert_eq!(clock.read(event(6)).monotonic, event(7).monotonic, "an event of another CPU is earlier");
    }

    #[test]
    fn the_end_of_a_wait_advances_all_clocks_until_an_event_is_later() {
        let mut clock = VirtualClock::default();
        clock.now(event(5));
        clock.set(Duration::from_secs(8));
        assert_eq!([5, 6, 9].map(|seconds| clock.read(event(seconds))), [event(8), event(8), event(9)]);
        clock.set(Duration::from_secs(3));
        assert_eq!(clock.read(event(9)), event(9));
    }

    #[test]
    fn a_program_that_only_reads_the_clock_reaches_any_time() {
        let mut clock = VirtualClock::default();
        for (wait, readings) in [(1, 10_001), (1_000, 10_100), (1_000_000, 110_000)] {
            clock.set(clock.now + Duration::from_secs(1));
            let until = clock.now + Duration::from_micros(wait);
            let needed = (1..).find(|_| clock.read(event(1)).monotonic >= until);
            assert_eq!(needed, Some(readings), "{wait} us");
        }
    }

    #[test]
    fn events_that_the_clock_is_ahead_of_keep_it_still() {
        let mut clock = VirtualClock::default();
        clock.now(event(5));
        clock.set(Duration::from_secs(1_000_000));
        let first = clock.read(event(5));
        for seconds in 6..10_000 {
            assert_eq!(clock.read(event(seconds)), first);
        }
    }

    #[test]
    fn readings_while_an_event_is_handled_are_equal() {
        let mut clock = VirtualClock::default();
        assert!((0..READINGS_AT_REST).all(|_| clock.read(event(5)) == event(5)));
        assert!(clock.read(event(5)).monotonic > event(5).monotonic);
    }
}
