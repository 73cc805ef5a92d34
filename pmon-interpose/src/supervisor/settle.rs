//! Holds the first event back until all threads of the program wait.

use std::time::{Duration, Instant};

use crate::tracee::processes::{ThreadSwitches, TraceeProcesses};

/// Interval between two observations.
pub(super) const INTERVAL: Duration = Duration::from_millis(5);
/// Time without any context switch after which the program counts as waiting.
const QUIET_TIME: Duration = Duration::from_millis(50);
/// Number of consecutive observations of a sleeping program after which it counts as waiting even
/// if a thread runs now and then, such as one that wakes up periodically.
const MAX_OBSERVATIONS: u32 = 100;

/// Observes whether all threads of the program wait.
pub(super) struct Settler {
    /// Time after which events are emitted even if the program does not wait.
    timeout: Duration,
    /// The first observation after a subscription.
    began: Option<Instant>,
    last: Option<Instant>,
    /// The threads and their context switches, which have not changed since that time.
    quiet: Option<(ThreadSwitches, Instant)>,
    asleep: u32,
    /// Number of subscribed sockets.
    listeners: usize,
}

/// What the observations have shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settling {
    /// A thread may still be running.
    Unsettled,
    /// All threads wait.
    Settled,
    /// The time is over, and a thread still runs.
    GivenUp,
}

impl Settler {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, began: None, last: None, quiet: None, asleep: 0, listeners: 0 }
    }

    /// Notes that the program has made a call, and so has run.
    pub(super) fn note_call(&mut self) {
        self.quiet = None;
    }

    /// Observes the program with this number of subscribed sockets, unless the last observation was
    /// just made.
    pub(super) fn observe(&mut self, tracee: TraceeProcesses, listeners: usize) -> Settling {
        if listeners == 0 {
            return Settling::Unsettled;
        }
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        if std::mem::replace(&mut self.listeners, listeners) != listeners {
            (self.quiet, self.asleep) = (None, 0);
        }
        if self.last.is_some_and(|last| now - last < INTERVAL) {
            return Settling::Unsettled;
        }
        let settling = self.judge(tracee.switches_asleep(), now);
        self.last = Some(Instant::now());
        match settling {
            Settling::Unsettled if now - began >= self.timeout => Settling::GivenUp,
            settling => settling,
        }
    }

    /// Evaluates an observation: the context switches of all threads, or `None` if a thread does
    /// not sleep.
    fn judge(&mut self, switches: Option<ThreadSwitches>, now: Instant) -> Settling {
        let Some(switches) = switches else {
            (self.quiet, self.asleep) = (None, 0);
            return Settling::Unsettled;
        };
        self.asleep += 1;
        match &self.quiet {
            // A thread that sleeps and has not been switched to in between has slept all the time.
            Some((last, since)) if *last == switches => {
                if now - *since >= QUIET_TIME {
                    return Settling::Settled;
                }
            }
            _ => self.quiet = Some((switches, now)),
        }
        if self.asleep >= MAX_OBSERVATIONS { Settling::Settled } else { Settling::Unsettled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evaluates observations of one thread, `INTERVAL` apart, until the program has settled;
    /// returns their number.
    fn observations(of: impl Iterator<Item = Option<u64>>) -> Option<usize> {
        let mut settler = Settler::new(Duration::MAX);
        let start = Instant::now();
        let mut of = of.enumerate();
        let at = of.find(|&(nth, switches)| {
            let now = start + INTERVAL * nth as u32;
            settler.judge(switches.map(|count| vec![(1, count)]), now) == Settling::Settled
        });
        at.map(|(nth, _)| nth + 1)
    }

    #[test]
    fn a_program_without_context_switches_settles_after_the_quiet_time() {
        assert_eq!(observations(std::iter::repeat(Some(7))), Some(11));
    }

    #[test]
    fn a_context_switch_restarts_the_quiet_time() {
        let switches = (0..).map(|nth| Some(u64::from(nth >= 9)));
        assert_eq!(observations(switches), Some(9 + 11));
    }

    #[test]
    fn a_program_that_wakes_up_periodically_settles_by_the_number_of_observations() {
        assert_eq!(observations((0..).map(Some)), Some(MAX_OBSERVATIONS as usize));
    }

    #[test]
    fn a_running_thread_restarts_the_observation() {
        let switches = (0..).map(|nth| (nth >= 9).then_some(0));
        assert_eq!(observations(switches), Some(9 + 11));
        assert_eq!(observations((0..10_000).map(|nth| (nth % 10 < 9).then_some(0))), None);
    }
}
