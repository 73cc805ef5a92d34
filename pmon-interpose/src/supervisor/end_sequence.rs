//! The end of a replay: detects that the program waits for more events, and makes it end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::InterposeError;
use crate::sockets::native::activity::Activity;
use crate::sockets::proxy::SocketProxy;
use crate::supervisor::run::RunReport;
use crate::supervisor::{Supervisor, TraceeState};
use crate::world::ReplayWorld;

/// Number of consecutive observations of a sleeping program after which it counts as waiting.
const ASLEEP_OBSERVATIONS: u32 = 3;

/// Time after which a program that sleeps, one of its threads in a call that waits for files or
/// signals, counts as waiting, even if it has not received everything.
const LONG_WAIT: Duration = Duration::from_secs(1);
/// The same for a program that sleeps otherwise: it may handle the last event.
const LONG_SLEEP: Duration = Duration::from_secs(5);

/// What happens when the program waits for an event after the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndPolicy {
    /// The program gets `SIGINT`, as by Ctrl-C.
    Signal,
    /// The program's receiving calls return 0, the end of a file. A real netlink socket never does
    /// that, but many programs handle it.
    Eof,
    /// Nothing: the program continues to wait, until the time-out.
    Silence,
}

/// How a program is run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// What happens at the end of the input.
    pub at_end: EndPolicy,
    /// Time between the steps that make the program end: `SIGINT`, `SIGTERM`, then `SIGKILL`.
    pub timeout: Duration,
    /// Time after which the program is made to end, whatever it does; `None` is unlimited.
    pub limit: Option<Duration>,
    /// Whether no event is emitted before all threads of the program wait; after
    /// [`RunOptions::timeout`] it is emitted nevertheless.
    pub settle: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { at_end: EndPolicy::Signal, timeout: Duration::from_secs(10), limit: None, settle: false }
    }
}

/// A step that makes the program end.
#[derive(Clone, Copy)]
enum EndStep {
    Eof,
    Interrupt,
    Terminate,
    Kill,
}

/// The state of the steps that make the program end.
pub(super) struct EndSequence<'a> {
    options: &'a RunOptions,
    /// The start of the run.
    began: Instant,
    /// Whether the program has run for longer than the limit.
    is_limit_reached: bool,
    /// Since when all sockets are at the end of file that a fault script has caused.
    at_end_of_file_since: Option<Instant>,
    /// Whether the program has waited at the end of the input.
    is_at_end: bool,
    /// The next step and its time; `None` until the program has to end.
    next: Option<(EndStep, Instant)>,
    /// The last signal sent.
    pub(super) signal: Option<Signal>,
    /// When the program was first seen to wait for an event after the last one.
    waiting_since: Option<Instant>,
    /// Number of consecutive observations of a sleeping program.
    pub(super) asleep: u32,
    /// Since when all threads of the program sleep in the same way.
    asleep_since: Option<(Activity, Instant)>,
    /// Time of the program's last call, to within 100 ms.
    pub(super) last_call: Instant,
}

impl<'a> EndSequence<'a> {
    pub(super) fn new(options: &'a RunOptions) -> Self {
        let began = Instant::now();
        Self {
            options,
            began,
            is_limit_reached: false,
            at_end_of_file_since: None,
            is_at_end: false,
            next: None,
            signal: None,
            waiting_since: None,
            asleep: 0,
            asleep_since: None,
            last_call: began,
        }
    }

    /// Returns the report on a program that has ended with this wait status.
    pub(super) fn report(&self, status: i32) -> RunReport {
        RunReport {
            status,
            signal: self.signal,
            is_at_end: self.is_at_end,
            is_limit_reached: self.is_limit_reached,
            has_settled: None,
        }
    }

    /// Returns whether the program has to be observed closely, to see whether it only waits.
    pub(super) fn is_near(&self, supervisor: &Supervisor) -> bool {
        self.next.is_none() && supervisor.delivery.waits_at_end().is_some()
    }

    /// Executes the next step if it is due.
    pub(super) fn advance<W: ReplayWorld>(
        &mut self,
        supervisor: &mut Supervisor,
        world: &mut W,
    ) -> Result<(), InterposeError> {
        let now = Instant::now();
        let RunOptions { at_end, timeout, limit, .. } = *self.options;
        if !self.is_limit_reached && limit.is_some_and(|limit| now - self.began >= limit) {
            self.is_limit_reached = true;
            // Otherwise the program has got a signal already.
            if matches!(self.next, None | Some((EndStep::Eof | EndStep::Interrupt, _))) {
                self.next = Some((EndStep::Interrupt, now));
            }
        }
        let Some((step, due)) = self.next else {
            let waits = supervisor.delivery.waits_at_end().is_some_and(|is_certain| {
                let since = *self.waiting_since.get_or_insert(now);
                // The time-out is for a program with a thread that never sleeps.
                is_certain || self.is_asleep(supervisor) || now - since >= timeout
            });
            // The first process has exited; another one keeps the socket without using it.
            let is_left_over = supervisor.state != TraceeState::Running
                && !supervisor.delivery.emitter.awaits_due
                && now - self.last_call >= timeout;
            let is_at_end_of_file = self.is_at_end_of_file(supervisor, now);
            if waits || is_left_over || is_at_end_of_file {
                self.is_at_end = true;
                self.next = Some(match at_end {
                    _ if is_left_over => (EndStep::Terminate, now),
                    _ if is_at_end_of_file => (EndStep::Interrupt, now),
                    EndPolicy::Signal => (EndStep::Interrupt, now),
                    EndPolicy::Eof => (EndStep::Eof, now),
                    EndPolicy::Silence => (EndStep::Interrupt, add_capped(now, timeout)),
                });
            }
            return Ok(());
        };
        if now < due {
            return Ok(());
        }
        let (signal, next) = match step {
            EndStep::Eof => {
                supervisor.delivery.end_input(world)?;
                (None, EndStep::Interrupt)
            }
            EndStep::Interrupt => (Some(Signal::INT), EndStep::Terminate),
            EndStep::Terminate => (Some(Signal::TERM), EndStep::Kill),
            EndStep::Kill => (Some(Signal::KILL), EndStep::Kill),
        };
        // A shell could start the program again and again.
        if let (EndStep::Kill, true) = (step, self.is_limit_reached) {
            supervisor.kill();
        }
        if let Some(signal) = signal {
            self.signal = Some(signal);
            // It fails if the program has ended; the next call of `serve` reports that.
            let _ = supervisor.signal(signal);
        }
        self.next = Some((next, add_capped(now, timeout)));
        Ok(())
    }

    fn is_asleep(&mut self, supervisor: &mut Supervisor) -> bool {
        let now = Instant::now();
        // A program that sleeps in another call may still handle the last event.
        let activity = supervisor.observer.observe_all();
        let has_untracked = supervisor.delivery.sockets.proxies.iter().any(SocketProxy::has_untracked_copy);
        let is_waiting = match activity {
            Activity::Receiving | Activity::Waiting => supervisor.delivery.has_received_all(),
            Activity::Asleep | Activity::Running => false,
        };
        self.asleep = if is_waiting { self.asleep + 1 } else { 0 };
        let long = match activity {
            Activity::Running => {
                self.asleep_since = None;
                return false;
            }
            Activity::Receiving | Activity::Waiting => LONG_WAIT,
            // It may receive from a copy that has no reserved number.
            Activity::Asleep if has_untracked => LONG_WAIT,
            Activity::Asleep => LONG_SLEEP,
        };
        let since =
            self.asleep_since.filter(|&(before, _)| before == activity).map_or(now, |(_, since)| since);
        self.asleep_since = Some((activity, since));
        self.asleep >= ASLEEP_OBSERVATIONS || now - since >= long
    }

    /// Returns whether a fault script has ended the input of all sockets, and the time-out after
    /// that has expired.
    fn is_at_end_of_file(&mut self, supervisor: &Supervisor, now: Instant) -> bool {
        // The program may open another socket, which receives events again.
        if !supervisor.delivery.sockets.are_all_at_end_of_file() {
            self.at_end_of_file_since = None;
            return false;
        }
        now - *self.at_end_of_file_since.get_or_insert(now) >= self.options.timeout
    }
}

/// Adds a time-out, limited to a year so that the sum does not overflow.
fn add_capped(now: Instant, timeout: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    now + timeout.min(YEAR)
}
