//! Controls a running recording: signals, the deadline, the end of the command, and the progress
//! display.

use std::fs::File;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pmon_core::capture::End;
use pmon_record::{Counters, RecordError, Recording, ScopeError, Signals, Sink, SubscribeError, WakeReason};
use pmon_store::{CaptureTarget, StoreError};

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
}

/// The progress display of a recording.
pub(crate) struct ProgressDisplay<'a> {
    bar: ProgressBar,
    status_line: StatusLine,
    /// Returns the current size of the capture in bytes, if there is one.
    bytes: Option<&'a dyn Fn() -> u64>,
    blind_periods: u64,
    blind: bool,
    /// Number of blind times recorded so far.
    blind_records: u64,
}

impl<'a> ProgressDisplay<'a> {
    /// Creates a display, with a status line if it is enabled and standard error is a terminal.
    pub(crate) fn new(is_enabled: bool, bytes: Option<&'a dyn Fn() -> u64>) -> Self {
        Self {
            bar: terminal::status_bar(is_enabled),
            status_line: StatusLine::new(),
            bytes,
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
            let bytes = self.bytes.map(|bytes| bytes());
            if is_requested {
                let line = self.status_line.long(counters, bytes);
                self.print(&line);
            }
            self.bar.set_message(self.status_line.short(counters, bytes) + "; Ctrl-C ends it");
        }
    }

    fn print(&self, line: &str) {
        self.bar.suspend(|| terminal::eprintln(format_args!("pmon: {line}")));
    }
}

impl RecordingControl<'_> {
    /// Waits until a signal, the deadline, the end of the command or a failure ends `recording`.
    pub(crate) fn run<S: Sink + 'static>(mut self, recording: Recording<S>) -> Result<(S, End), Failure> {
        recording.wake_on_change(self.signals.wake());
        let mut interrupted = false;
        while !recording.is_finished() && !self.has_child_ended()? {
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            let update = (!self.display.bar.is_hidden()).then_some(UPDATE_INTERVAL);
            let timeout = left.into_iter().chain(update).min();
            let wakeup = wait(self.signals, timeout)?;
            match (wakeup, &self.child) {
                // A terminal sends SIGINT to the command as well, whose end is still recorded.
                (WakeReason::Interrupt, Some(_)) if !interrupted => interrupted = true,
                (WakeReason::Terminate, Some(child)) => child.terminate(),
                (WakeReason::Interrupt | WakeReason::Terminate, _) => break,
                _ => {}
            }
            self.display.update(&recording.counters(), wakeup == WakeReason::Report);
        }
        recording.stopper().stop();
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

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
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
