//! Runs a program on the fake kernel (`replay -- PROGRAM`), and reports its end.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pmon_fake::{Fault, Kernel};
use pmon_interpose::{
    ClockSource, EndPolicy, FallbackReason, LaunchOptions, NextEvent, ProcessView, ReplayWorld, RunOptions,
    RunReport, ServeError, SignalDispositions, SocketKind, SocketSummary, Supervisor,
};
use pmon_record::{Signals, WakeReason, startup};
use pmon_replay::{CaptureWorld, ReplayError};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, getpgrp};
use rustix::stdio;
use rustix::termios::tcgetpgrp;

use super::Playback;
use super::expected_output::{ExpectResult, ExpectedOutput};
use super::refusal::refused;
use super::report::{JsonStream, ProgramRun};
use super::warnings::{Replayed, Warning, WarningCode, print_warnings, socket_warnings};
use crate::args::{ProcArg, SpeedArg};
use crate::control;
use crate::exit::{self, Failure, OrFail as _};
use crate::input::{CaptureRecording, CaptureReplay};
use crate::output::shell_word;
use crate::terminal;
use crate::view::report_incomplete;

/// Number of times Ctrl-C must be pressed to kill the program.
const INTERRUPTS_TO_KILL: u32 = 3;
/// Maximum bytes of output that are compared.
const MAX_OUTPUT_BYTES: u64 = 256 << 20;

impl Playback<'_> {
    /// Runs the program on the events of `replay`, and returns the exit code.
    pub(super) fn run_program(&self, replay: CaptureReplay) -> Result<u8, Failure> {
        let args = self.args;
        let [program, arguments @ ..] = &*args.program else {
            return Err(Failure::new(
                exit::USAGE,
                "no program after `--`; give one, for example `-- ./monitor`",
            ));
        };
        let golden = args.expect.as_deref().map(|path| ExpectedOutput::new(path, args.update)).transpose()?;
        let speed = match args.speed {
            SpeedArg::Instant => pmon_replay::Speed::Instant,
            SpeedArg::Times(times) => pmon_replay::Speed::Times(times),
            SpeedArg::Step => {
                let why = "--speed step cannot be used with a program, which reads standard input itself; use a factor such as 1x";
                return Err(Failure::new(exit::USAGE, why));
            }
        };
        let mut launch = LaunchOptions::new(program);
        launch.args = arguments.to_vec();
        launch.uid = args.uid.uid;
        launch.private_proc = args.proc == ProcArg::Capture;
        launch.tmpfs.clone_from(&args.tmpfs);
        if args.has_capture_clock()? {
            launch.clock = ClockSource::World;
        }
        launch.sockets = args.sockets;
        launch.native_obstacle = self.native_obstacle();
        let startup::StartSignals { ignored, blocked } = startup::signals();
        // These signals end the program after the last event, even if a script has put pmon into
        // the background.
        let others = !(bit(Signal::INT) | bit(Signal::TERM));
        launch.signals = SignalDispositions { ignored: ignored & others, blocked: blocked & others };
        let output = if golden.is_some() {
            let (from, to) =
                pipe_with(PipeFlags::CLOEXEC).or_fail(exit::ENVIRONMENT, "cannot create a pipe")?;
            launch.stdout = Some(to);
            Some(read_all(from))
        } else {
            None
        };
        let mut forwarder =
            SignalForwarder { signals: control::signals()?, pressed: 0, ending: None, timeout: args.timeout };
        let mut world = WorldWithProgress { live: CaptureWorld::new(replay, speed), bar: &self.bar };
        let name = shell_word(program.as_encoded_bytes());
        let started = Supervisor::start(&launch, world.processes());
        // Closes the write end here, so that the pipe ends with the last process of the program.
        drop(launch);
        let mut running = started.map_err(|error| refused(program, error))?;
        let mut conduct = RunOptions::default();
        (conduct.at_end, conduct.timeout, conduct.settle) = (args.at_end, args.timeout, args.settle);
        conduct.limit = args.limit.map(|limit| limit.saturating_sub(self.reporter.began().elapsed()));
        let ending = running.run(
            &mut world,
            &conduct,
            |running| forwarder.forward(running),
            |error| self.report(error),
        );
        let ending = match ending {
            Ok(ending) => ending,
            Err(ServeError::World(failure)) => return Err(failure),
            Err(ServeError::Interpose(error)) => return Err(refused(program, error)),
        };
        let sockets = running.sockets();
        let kind = running.socket_kind();
        let mut warnings = socket_warnings(&name, &sockets, running.has_foreign_abi());
        drop(running);
        self.bar.finish_and_clear();
        let is_over = matches!(world.live.next_event(), Ok(NextEvent::Never));
        let is_limit_reached = ending.is_limit_reached;
        let replayed = Replayed { is_limit_reached, ..Replayed::on(world.live.kernel(), is_over) };
        report_end(&name, &ending, (&sockets, kind), &replayed);
        report_incomplete(world.live.incomplete());
        // Explaining why nothing matched reads the capture again, with the memory that this frees.
        drop(world);
        if ending.has_settled == Some(false) {
            let why = "did not settle: a thread still ran after --timeout, when the first event was emitted";
            warnings.push(Warning::new(WarningCode::NotSettled, format!("{name} {why}")));
        }
        warnings.splice(0..0, self.request_warnings(&replayed));
        print_warnings(&warnings);
        let (code, expect) = match (golden, output) {
            (Some(golden), Some(output)) => {
                let output = output
                    .join()
                    .map_err(|_panic| Failure::new(exit::INTERNAL, "cannot read the output of the program"))?
                    .or_fail(exit::ENVIRONMENT, format_args!("cannot read the output of {name}"))?;
                let comparison = golden.check(&output, is_limit_reached || !warnings.is_empty())?;
                let code = if is_limit_reached {
                    exit::LIMIT
                } else if !warnings.is_empty() {
                    terminal::eprintln("pmon: with --expect, these warnings are a failure");
                    exit::UNTESTED
                } else if comparison == ExpectResult::Differs {
                    exit::INCOMPLETE
                } else if ending.is_interrupted() {
                    // A program without a handler ends by this signal, which is the normal end.
                    self.exit_code()
                } else {
                    self.program_exit_code(&ending)
                };
                (code, Some((golden, comparison)))
            }
            _ if is_limit_reached => (exit::LIMIT, None),
            _ if self.tested_nothing(&replayed) => (exit::USAGE, None),
            _ => (self.program_exit_code(&ending), None),
        };
        let mut fields = self.program_json(&ProgramRun {
            ending: &ending,
            is_interrupted: forwarder.has_interrupted(),
            sockets: &sockets,
            socket_kind: kind,
            expect: expect.as_ref().map(|(golden, comparison)| (golden.path(), *comparison)),
            exit_code: code,
        });
        fields.extend(self.common_json(&replayed, &warnings));
        // Standard output belongs to the program.
        self.reporter.write(fields, JsonStream::Stderr)?;
        Ok(code)
    }

    /// Returns the option or fault that rules out native sockets.
    fn native_obstacle(&self) -> Option<FallbackReason> {
        let needs_emulation = |fault: &Fault| {
            matches!(fault, Fault::Eintr(_) | Fault::Eagain(_) | Fault::Truncate(_) | Fault::End)
        };
        match self.args.at_end {
            EndPolicy::Eof => Some(FallbackReason::EndOfFile),
            _ if self.script.rules().iter().any(|rule| needs_emulation(&rule.fault)) => {
                Some(FallbackReason::FaultScript)
            }
            _ => None,
        }
    }

    /// Returns the exit code for the end of a program.
    fn program_exit_code(&self, ending: &RunReport) -> u8 {
        if ending.status == 0 { self.exit_code() } else { ending.exit_code() }
    }
}

/// Reports how the program ended.
fn report_end(
    name: &str,
    ending: &RunReport,
    (sockets, kind): (&SocketSummary, SocketKind),
    replayed: &Replayed,
) {
    let happened = terminal::counted(replayed.events, "event");
    let how = match (ending.status & 0x7F, ending.signal) {
        (0, _) => format!("ended with {}", ending.exit_code()),
        (signal, Some(sent)) if sent.as_raw() == signal => {
            let when = if ending.is_limit_reached { "at the end of --limit" } else { "after the last event" };
            format!("ended by signal {signal}, which pmon sent {when}")
        }
        (signal, _) => format!("was killed by signal {signal}"),
    };
    if ending.is_limit_reached {
        terminal::eprintln(format_args!(
            "pmon: {name} was made to end, because it ran for longer than --limit"
        ));
    }
    match sockets.opened {
        0 => terminal::eprintln(format_args!("pmon: {name} {how}")),
        _ => {
            let sockets = match kind {
                SocketKind::Native => "on native sockets".to_owned(),
                SocketKind::Seccomp { why } => format!("on emulated sockets ({why})"),
            };
            terminal::eprintln(format_args!("pmon: replayed {happened} to {name} {sockets}, which {how}"));
        }
    }
}

/// A replay that updates a progress bar.
struct WorldWithProgress<'a> {
    live: CaptureWorld<CaptureRecording>,
    bar: &'a ProgressBar,
}

impl ReplayWorld for WorldWithProgress<'_> {
    type Error = ReplayError;

    fn kernel(&mut self) -> &mut Kernel {
        self.live.kernel()
    }

    fn next_event(&mut self) -> Result<NextEvent, ReplayError> {
        self.live.next_event()
    }

    fn step(&mut self) -> Result<(), ReplayError> {
        self.bar.set_position(self.live.offset());
        self.live.step()
    }

    fn position(&self) -> u64 {
        self.live.position()
    }

    fn mark_received(&mut self, position: u64) {
        self.live.mark_received(position);
    }

    fn processes(&mut self) -> &dyn ProcessView {
        self.live.processes()
    }
}

/// Forwards the signals of this process to the program.
struct SignalForwarder {
    signals: Signals,
    /// Number of times Ctrl-C was pressed.
    pressed: u32,
    /// Time at which SIGTERM was sent to the program.
    ending: Option<Instant>,
    timeout: Duration,
}

impl SignalForwarder {
    /// Whether a signal to this process has been passed to the program.
    fn has_interrupted(&self) -> bool {
        self.pressed > 0 || self.ending.is_some()
    }

    /// Forwards a signal that the program has not received itself, and kills a program that does
    /// not end in time.
    fn forward(&mut self, program: &Supervisor) -> Result<(), Failure> {
        // If a signal cannot be sent, the program has ended, which the supervisor notices.
        match control::wait(&mut self.signals, Some(Duration::ZERO))? {
            WakeReason::Interrupt => {
                self.pressed += 1;
                // A terminal sends SIGINT to the program as well.
                if !is_in_foreground() {
                    let _ = program.signal(Signal::INT);
                }
            }
            WakeReason::Terminate if self.ending.is_none() => {
                self.ending = Some(Instant::now());
                let _ = program.signal_all(Signal::TERM);
            }
            WakeReason::Terminate => program.kill(),
            _ => {}
        }
        if self.pressed >= INTERRUPTS_TO_KILL
            || self.ending.is_some_and(|since| since.elapsed() >= self.timeout)
        {
            program.kill();
        }
        Ok(())
    }
}

/// Whether this process is in the foreground of its terminal, and so receives its signals.
fn is_in_foreground() -> bool {
    // rustix does not accept group 0, which a process without a controlling terminal can have.
    let is_own = |group| group == getpgrp();
    [stdio::stdin(), stdio::stdout(), stdio::stderr()].into_iter().any(|fd| tcgetpgrp(fd).is_ok_and(is_own))
}

/// Reads everything from a pipe, in a thread.
fn read_all(from: OwnedFd) -> JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        File::from(from).take(MAX_OUTPUT_BYTES).read_to_end(&mut all)?;
        // The program gets SIGPIPE or EPIPE for further output.
        if all.len() as u64 == MAX_OUTPUT_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(all) }
    })
}

/// Returns the bit of a signal in a set.
fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}
