//! Timing of the next event.

use std::io::{BufRead as _, stdin};
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::MonoNs;
use pmon_record::{Signals, WakeReason};
use pmon_replay::Pace;

use crate::args::SpeedArg;
use crate::control;
use crate::exit::{self, Failure, OrFail as _};

/// Whoever waits looks after other things this often.
const TICK: Duration = Duration::from_millis(20);

/// Waits until the next event is due.
pub(super) struct Pacer {
    speed: SpeedArg,
    signals: Signals,
    /// The begin, in both times.
    began: Option<(Pace, Instant)>,
    /// Steps that were asked for.
    left: u64,
}

impl Pacer {
    /// A pacer that goes so fast.
    pub(super) fn new(speed: SpeedArg) -> Result<Self, Failure> {
        Ok(Self { speed, signals: control::signals()?, began: None, left: 0 })
    }

    /// Waits until what happens at that time is due, while `meanwhile` may take that long, or not; `false` if nothing is any more: a signal,
    /// or the end of standard input.
    pub(super) fn wait(
        &mut self,
        time: MonoNs,
        mut meanwhile: impl FnMut(Duration) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let times = match self.speed {
            SpeedArg::Instant => return Ok(true),
            SpeedArg::Step => return self.step(meanwhile),
            SpeedArg::Times(times) => times,
        };
        let start = || (Pace::new(pmon_replay::Speed::Times(times), time), Instant::now());
        let (pace, began) = *self.began.get_or_insert_with(start);
        loop {
            let left = pace.due(time).saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(true);
            }
            meanwhile(left.min(TICK))?;
            let left = pace.due(time).saturating_sub(began.elapsed());
            if !self.is_wanted(left.min(TICK))? {
                return Ok(false);
            }
        }
    }

    /// Waits for a signal; `false` if one came that ends it.
    pub(super) fn is_wanted(&mut self, timeout: Duration) -> Result<bool, Failure> {
        let wakeup = self.signals.wait(Some(timeout)).or_fail(exit::INTERNAL, "cannot wait for signals")?;
        Ok(!matches!(wakeup, WakeReason::Interrupt | WakeReason::Terminate))
    }

    fn step(&mut self, mut meanwhile: impl FnMut(Duration) -> Result<(), Failure>) -> Result<bool, Failure> {
        if self.left == 0 {
            meanwhile(Duration::ZERO)?;
            // The signals are taken here; while standard input is waited for, they shall end it.
            let line = thread::spawn(|| {
                let mut line = String::new();
                stdin().lock().read_line(&mut line).map(|read| (read > 0).then_some(line))
            });
            while !line.is_finished() {
                meanwhile(TICK)?;
                if !self.is_wanted(TICK)? {
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
