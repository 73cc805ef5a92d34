//! Runs a program to its end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::{ServeError, ServeResult};
use crate::supervisor::end_sequence::{EndSequence, RunOptions};
use crate::supervisor::settle::{self, Settler, Settling};
use crate::supervisor::{Served, Supervisor};
use crate::world::{NextEvent, ReplayWorld};

/// Interval of observations while the program may be waiting at the end of the input.
const SHORT_TICK: Duration = Duration::from_millis(2);
/// Interval of checks otherwise, and minimum interval of the caller's `meanwhile` while calls
/// arrive.
const TICK: Duration = Duration::from_millis(100);

/// Time after which a program that sleeps without reading one of several emulated sockets counts as
/// not reading it.
const UNREAD: Duration = Duration::from_secs(1);

/// How a program has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunReport {
    /// The program's wait status.
    pub status: i32,
    /// The last signal that the supervisor sent to the program.
    pub signal: Option<Signal>,
    /// Whether the program had waited for an event after the last one, and was made to end.
    pub is_at_end: bool,
    /// Whether the program has run for longer than [`RunOptions::limit`], and was made to end.
    pub is_limit_reached: bool,
    /// Whether all threads of the program waited before the first event was emitted; `None` if
    /// [`RunOptions::settle`] did not request that, or the program did not subscribe.
    pub has_settled: Option<bool>,
}

impl RunReport {
    /// Returns the program's exit code, or 128 plus the number of the signal that ended it.
    pub fn exit_code(&self) -> u8 {
        match self.status & 0x7F {
            0 => (self.status >> 8) as u8,
            signal => 128 + signal as u8,
        }
    }

    /// Returns whether the program was ended by the supervisor's `SIGINT`, like a program without a
    /// handler for it.
    pub fn is_interrupted(&self) -> bool {
        self.signal == Some(Signal::INT) && self.status & 0x7F == Signal::INT.as_raw()
    }
}

impl Supervisor {
    /// Runs the program to its end.
    ///
    /// `meanwhile` is called regularly, and soon after a signal to this process. `on_world_error`
    /// receives each error of the world; if it returns `Ok`, the run continues.
    ///
    /// # Errors
    /// As [`Supervisor::serve`], with the errors that the callbacks return in the place of the
    /// world's.
    pub fn run<W: ReplayWorld, E>(
        &mut self,
        world: &mut W,
        options: &RunOptions,
        mut meanwhile: impl FnMut(&Self) -> Result<(), E>,
        mut on_world_error: impl FnMut(W::Error) -> Result<(), E>,
    ) -> Result<RunReport, ServeError<E>> {
        let mut end = EndSequence::new(options);
        let mut settler = options.settle.then(|| Settler::new(options.timeout));
        let mut has_settled = None;
        self.delivery.emitter.is_settling = options.settle;
        let mut last_tick = Instant::now();
        let mut idle_timeout = SHORT_TICK;
        loop {
            let timeout = match &settler {
                Some(_) => settle::INTERVAL,
                None if end.is_near(self) => SHORT_TICK,
                None => idle_timeout,
            };
            let mut served = match self.serve(world, timeout) {
                Ok(Served::Ended(status)) => return Ok(RunReport { has_settled, ..end.report(status) }),
                Ok(Served::Calls) => {
                    end.asleep = 0;
                    settler.iter_mut().for_each(Settler::note_call);
                    idle_timeout = SHORT_TICK;
                    if last_tick.elapsed() >= TICK {
                        last_tick = Instant::now();
                        end.last_call = last_tick;
                        meanwhile(self).map_err(ServeError::World)?;
                    }
                    Ok(())
                }
                Ok(Served::Nothing) => {
                    meanwhile(self).map_err(ServeError::World)?;
                    let advanced = self.advance_if_waiting_unnoticed(world, idle_timeout);
                    idle_timeout = TICK.min(idle_timeout * 2);
                    advanced
                }
                Err(error) => Err(error),
            };
            if let (Ok(()), Some(observed)) = (&served, &mut settler) {
                let settling = observed.observe(self.tracee, self.delivery.sockets.listeners());
                if settling != Settling::Unsettled {
                    has_settled = Some(settling == Settling::Settled);
                    settler = None;
                    self.delivery.emitter.is_settling = false;
                    served = self.delivery.advance_all(world);
                }
            }
            match served {
                Err(ServeError::World(error)) => on_world_error(error).map_err(ServeError::World)?,
                Err(ServeError::Interpose(error)) => return Err(error.into()),
                Ok(()) => {}
            }
            end.advance(self, world)?;
        }
    }

    /// Emits events if the program sleeps although no intercepted call waits: it may wait for a
    /// signal, or in a call that began before it had a socket.
    fn advance_if_waiting_unnoticed<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        idle_timeout: Duration,
    ) -> ServeResult<W> {
        let delivery = &mut self.delivery;
        if !delivery.may_wait_unnoticed() {
            return Ok(());
        }
        let held_back_since = &mut delivery.emitter.held_back_since;
        if !self.tracee.is_asleep() {
            *held_back_since = held_back_since.map(|_| Instant::now());
            return Ok(());
        }
        if held_back_since.is_some_and(|since| since.elapsed() < UNREAD) {
            return Ok(());
        }
        delivery.sockets.untrack_received(self.tracee);
        match world.next_event().map_err(ServeError::World)? {
            // A program that has slept only briefly may not be waiting for an event.
            NextEvent::Never if idle_timeout < TICK => Ok(()),
            _ => delivery.advance_past_abandoned(world),
        }
    }
}
