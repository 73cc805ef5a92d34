//! Waits until the next event is due, according to `--speed`.

use std::io::{BufRead as _, stdin};
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::MonoNs;
use pmon_record::{Signals, WakeReason};
use pmon_replay::Pace;

use crate::args::SpeedArg;
use crate::control;
use crate::exit::{self, Failure, OrFail as _};

/// Maximum time between two calls of the caller's periodic work during a wait.
const WORK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until the next event is due.
pub(super) struct Pacer {
    speed: SpeedArg,
    signals: Signals,
    /// The end of `--limit`.
    deadline: Option<Instant>,
    /// The time of the first event, and the time at which it was replayed.
    began: Option<(Pace, Instant)>,
    /// Number of events that may still happen before the next line of standard input is read.
    left: u64,
}

impl Pacer {
    /// Creates a pacer, which also handles signals. At `deadline`, the replay ends.
    pub(super) fn new(speed: SpeedArg, deadline: Option<Instant>) -> Result<Self, Failure> {
        Ok(Self { speed, signals: control::signals()?, deadline, began: None, left: 0 })
    }

    /// Waits until an event at `time` is due. Returns `false` if a signal, the deadline or the end
    /// of standard input ends the replay.
    ///
    /// Calls `meanwhile` periodically, which may take the given time.
    pub(super) fn wait(
        &mut self,
        time: MonoNs,
        mut meanwhile: impl FnMut(Duration) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let times = match self.speed {
            SpeedArg::Instant => return Ok(!self.is_late()),
            SpeedArg::Step => return self.step(meanwhile),
            SpeedArg::Times(times) => times,
        };
        let start = || (Pace::new(pmon_replay::Speed::Times(times), time), Instant::now());
        let (pace, began) = *self.began.get_or_insert_with(start);
        loop {
            let remaining = pace.due(time).saturating_sub(began.elapsed());
            if remaining.is_zero() {
                return Ok(!self.is_late());
            }
            meanwhile(remaining.min(WORK_INTERVAL))?;
            let remaining = pace.due(time).saturating_sub(began.elapsed());
            if !self.continues(remaining.min(WORK_INTERVAL))? {
                return Ok(false);
            }
        }
    }

    /// Waits for a signal; returns `false` if one, or the deadline, ends the replay.
    pub(super) fn continues(&mut self, timeout: Duration) -> Result<bool, Failure> {
        let wakeup = control::wait(&mut self.signals, Some(timeout))?;
        Ok(!matches!(wakeup, WakeReason::Interrupt | WakeReason::Terminate) && !self.is_late())
    }

    /// Whether the deadline has passed.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    fn step(&mut self, mut meanwhile: impl FnMut(Duration) -> Result<(), Failure>) -> Result<bool, Failure> {
        if self.left == 0 {
            meanwhile(Duration::ZERO)?;
            // Standard input is read in another thread, so that signals can end the wait.
            let line = thread::spawn(|| {
                let mut line = String::new();
                stdin().lock().read_line(&mut line).map(|read| (read > 0).then_some(line))
            });
            while !line.is_finished() {
                meanwhile(WORK_INTERVAL)?;
                if !self.continues(WORK_INTERVAL)? {
                    return Ok(false);
                }
            }
            let line =
                line.join().map_err(|_panic| Failure::new(exit::INTERNAL, "cannot read standard input"))?;
            let Some(line) = line.or_fail(exit::ENVIRONMENT, "cannot read standard input")? else {
                return Ok(false);
            };
            self.left = line.trim().parse().unwrap_or(1).max(1);
        }
        self.left -= 1;
        Ok(true)
    }
}
