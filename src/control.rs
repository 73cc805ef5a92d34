//! Controls a running recording: signals, the deadline, the end of the command, and the progress
//! display.

use std::fmt::Display;
use std::fs::File;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pmon_core::capture::End;
use pmon_record::{Counters, RecordError, Recording, ScopeError, Signals, Sink, SubscribeError, WakeReason};
use pmon_store::{CaptureFileError, CaptureTarget};

use crate::child::CommandProcess;
use crate::exit::{self, Failure, OrFail};
use crate::progress::StatusLine;
use crate::terminal::{self, counted};

/// Interval between two updates of the status line.
const UPDATE_INTERVAL: Duration = Duration::from_millis(200);

/// Time that a recording has to end. After it, the output has stalled, and another signal ends
/// pmon.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// The conditions that end a recording, and its progress display.
pub(crate) struct RecordingControl<'a> {
    pub(crate) signals: &'a mut Signals,
    pub(crate) deadline: Option<Instant>,
    pub(crate) child: Option<&'a mut CommandProcess>,
    pub(crate) display: ProgressDisplay<'a>,
    /// Whether the events are only shown. The reader may then close the pipe early.
    pub(crate) is_shown: bool,
    /// Handles requests to the recorder of a store.
    pub(crate) service: Option<&'a mut dyn RecorderService>,
}

/// Handles requests to a running recorder on the controlling thread.
pub(crate) trait RecorderService {
    /// Handles requests after each wake-up and at the returned time. Must not wait.
    fn handle(&mut self, wakeup: WakeReason, counters: &Counters, display: &ProgressDisplay<'_>) -> Instant;

    /// Whether the recording shall be handed over to another process.
    fn is_handover_requested(&self) -> bool;
}

/// Why [`RecordingControl::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// The recording has ended, or shall end.
    Stop,
    /// A signal other than Ctrl-C shall end the recorder, and another one may continue.
    Terminate,
    /// The recording shall be handed over to another process.
    HandOver,
}

/// The progress display of a recording.
pub(crate) struct ProgressDisplay<'a> {
    bar: ProgressBar,
    status_line: StatusLine,
    /// Describes the output, such as its size, if there is one.
    output: Option<&'a dyn Fn() -> String>,
    blind_periods: u64,
    blind: bool,
    /// Number of blind times recorded so far.
    blind_records: u64,
}

impl<'a> ProgressDisplay<'a> {
    /// Creates a display, with a status line if it is enabled and standard error is a terminal.
    pub(crate) fn new(is_enabled: bool, output: Option<&'a dyn Fn() -> String>) -> Self {
        Self {
            bar: terminal::status_bar(is_enabled),
            status_line: StatusLine::new(),
            output,
            blind_periods: 0,
            blind: false,
            blind_records: 0,
        }
    }

    /// Reports the start and end of blind times, and the status line if `is_requested`.
    fn update(&mut self, counters: &Counters, is_requested: bool) {
        if counters.blind_periods > self.blind_periods {
            self.print(
                "the kernel emits no events at the moment, so none are recorded; pmon subscribes again",
            );
        }
        let was_blind = self.blind || counters.blind_periods > self.blind_periods;
        if !counters.blind && was_blind {
            self.print("the kernel emits events again; the capture states the blind time");
        }
        if counters.totals.blind_records > self.blind_records && !was_blind {
            self.print("the kernel emitted no events for a time; the capture states the blind time");
        }
        (self.blind_periods, self.blind, self.blind_records) =
            (counters.blind_periods, counters.blind, counters.totals.blind_records);
        if is_requested || !self.bar.is_hidden() {
            let output = self.output.map(|output| output());
            if is_requested {
                let line = self.status_line.long(counters, output.as_deref());
                self.print(line);
            }
            self.bar.set_message(self.status_line.short(counters, output.as_deref()) + "; Ctrl-C ends it");
        }
    }

    /// Prints a message without disturbing the status line.
    pub(crate) fn print(&self, line: impl Display) {
        self.bar.suspend(|| terminal::eprintln(format_args!("pmon: {line}")));
    }
}

impl RecordingControl<'_> {
    /// Waits until a signal, the deadline, the end of the command or a failure ends `recording`.
    pub(crate) fn run<S: Sink + 'static>(mut self, recording: Recording<S>) -> Result<(S, End), Failure> {
        self.wait(&recording)?;
        self.stop(recording)
    }

    /// Waits until a signal, the deadline, the end of the command, a failure or a request ends
    /// `recording`.
    pub(crate) fn wait<S: Sink + 'static>(&mut self, recording: &Recording<S>) -> Result<WaitEnd, Failure> {
        recording.wake_on_change(self.signals.wake());
        let mut interrupted = false;
        let mut service_due = self.service.is_some().then(Instant::now);
        while !recording.is_finished() && !self.has_child_ended()? {
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            let update = (!self.display.bar.is_hidden()).then_some(UPDATE_INTERVAL);
            let service = service_due.map(|due| due.saturating_duration_since(Instant::now()));
            let timeout = left.into_iter().chain(update).chain(service).min();
            let wakeup = wait(self.signals, timeout)?;
            match (wakeup, &self.child) {
                // A terminal sends SIGINT to the command as well, whose end is still recorded.
                (WakeReason::Interrupt, Some(_)) if !interrupted => interrupted = true,
                (WakeReason::Terminate, Some(child)) => child.terminate(),
                (WakeReason::Interrupt, _) => break,
                (WakeReason::Terminate, None) => return Ok(WaitEnd::Terminate),
                _ => {}
            }
            let counters = recording.counters();
            self.display.update(&counters, wakeup == WakeReason::Report);
            if let Some(service) = &mut self.service {
                service_due = Some(service.handle(wakeup, &counters, &self.display));
                if service.is_handover_requested() {
                    return Ok(WaitEnd::HandOver);
                }
            }
        }
        Ok(WaitEnd::Stop)
    }

    /// Ends `recording`, and returns its sink.
    pub(crate) fn stop<S: Sink + 'static>(self, recording: Recording<S>) -> Result<(S, End), Failure> {
        recording.stopper().stop();
        self.join(recording)
    }

    /// Waits until `recording`, which was stopped, has ended.
    pub(crate) fn join<S: Sink + 'static>(self, recording: Recording<S>) -> Result<(S, End), Failure> {
        let stopped = Instant::now();
        while !recording.is_finished() {
            if let WakeReason::Interrupt | WakeReason::Terminate = wait(self.signals, None)?
                && stopped.elapsed() > STOP_TIMEOUT
            {
                return Err(Failure::new(
                    exit::STORAGE,
                    "ended without completing the capture: the output has stalled",
                ));
            }
        }
        self.display.bar.finish_and_clear();
        match recording.join() {
            Err(error) if self.is_shown && error.is_closed_pipe() => {
                Err(Failure { code: exit::DONE, error: None })
            }
            result => result.map_err(failure),
        }
    }

    fn has_child_ended(&mut self) -> Result<bool, Failure> {
        self.child
            .as_mut()
            .map_or(Ok(false), |child| child.has_ended())
            .or_fail(exit::INTERNAL, "cannot wait for the command")
    }
}

/// Waits for a signal, at most for `timeout`.
pub(crate) fn wait(signals: &mut Signals, timeout: Option<Duration>) -> Result<WakeReason, Failure> {
    signals.wait(timeout).or_fail(exit::INTERNAL, "cannot wait for signals")
}

/// Reports the listeners that were added before the kernel emitted events, if any.
pub(crate) fn report_added_listeners(added: u64) {
    if added > 0 {
        let listeners = counted(added, "listener");
        terminal::eprintln(format_args!(
            "pmon: the kernel emitted no events, because another process had lowered its count of listeners; \
             pmon added {listeners}"
        ));
    }
}

/// Waits for a command that outlives its recording, and returns its exit code. Ctrl-C leaves the
/// command running.
pub(crate) fn wait_for(child: &mut CommandProcess, signals: &mut Signals) -> Result<u8, Failure> {
    loop {
        child.has_ended().or_fail(exit::INTERNAL, "cannot wait for the command")?;
        if let Some(code) = child.exit_code() {
            return Ok(code);
        }
        match wait(signals, None)? {
            WakeReason::Terminate => child.terminate(),
            WakeReason::Interrupt => {
                terminal::eprintln(format_args!("pmon: process {} keeps running", child.pid()));
                return Ok(exit::INTERRUPTED);
            }
            _ => {}
        }
    }
}

/// Waits until the FIFO for a capture has a reader, at most until `deadline` or a signal that ends
/// pmon. The result keeps the FIFO open until the capture is created.
pub(crate) fn wait_for_reader(
    target: &CaptureTarget,
    signals: &mut Signals,
    deadline: Option<Instant>,
) -> Result<Option<File>, Failure> {
    let mut failed = None;
    let waiting = target.wait_for_reader(|time| {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match wait(signals, Some(left.map_or(time, |left| left.min(time)))) {
            Ok(WakeReason::Interrupt | WakeReason::Terminate) => false,
            Ok(_) => left != Some(Duration::ZERO),
            Err(failure) => {
                failed = Some(failure);
                false
            }
        }
    });
    match failed {
        Some(failure) => Err(failure),
        None => Ok(waiting?),
    }
}

/// Starts to handle signals, before any thread or command is started.
pub(crate) fn signals() -> Result<Signals, Failure> {
    Signals::new()
        .or_fail(exit::ENVIRONMENT, "cannot handle signals; check the limit on open files (ulimit -n)")
}

impl From<SubscribeError> for Failure {
    fn from(error: SubscribeError) -> Self {
        let code = match &error {
            // A cgroup that cannot be read is like any other unreadable input.
            SubscribeError::InvalidScope(ScopeError::Cgroup { .. }) => exit::ENVIRONMENT,
            SubscribeError::InvalidScope(_) => exit::USAGE,
            _ => exit::ENVIRONMENT,
        };
        Self::new(code, error)
    }
}

impl From<CaptureFileError> for Failure {
    fn from(error: CaptureFileError) -> Self {
        Self::new(exit::STORAGE, error)
    }
}

/// Converts the error of a recording into an exit code and a message.
pub(crate) fn failure(error: RecordError) -> Failure {
    let code = match &error {
        RecordError::Sink(_) => exit::STORAGE,
        RecordError::Socket(_) | RecordError::Start(_) => exit::ENVIRONMENT,
        _ => exit::INTERNAL,
    };
    Failure::new(code, error)
}
