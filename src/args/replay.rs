//! The arguments of `pmon replay`.

pub(crate) mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pmon_interpose::{EndPolicy, SocketRequest};

use super::help::{ExitCode, STATUS_OF_COMMAND, of_reader};
use super::named::named;
use super::{ClockArg, FilesArgs, UserArg, ViewArgs};
use crate::exit::{self, Failure};
use crate::time_spec::{Moment, parse_std_duration};

/// The heading of the options that need a program.
const PROGRAM_OPTIONS: &str = "Options for PROGRAM";

const EXAMPLES: &str = "\
Examples:
  pmon replay night.pmon -- ./monitor -v       feed the events to a program
  pmon replay night.pmon --expect golden.txt --update -- ./monitor
  pmon replay night.pmon --expect golden.txt -- ./monitor
                                               write its output, then compare it
  pmon replay night.pmon --faults bad.toml --expect golden.txt -- ./monitor
                                               and lose events as bad.toml says
  pmon replay night.pmon --limit 60s --settle --report run.json -- ./monitor
                                               for CI: bounded, with a summary
  pmon replay night.pmon --speed 1x            print at the original pace";

const DETAILS: &str = include_str!("help/replay.txt");

/// Further exit codes.
const CODES: &[ExitCode] = &[
    (3, "`--expect`: the output differs"),
    (9, "`--expect`: the run tested nothing, or a fault never fired"),
    (10, "`--limit`: the limit was reached"),
];

#[derive(Debug, Args)]
#[command(
    after_help = of_reader(&[EXAMPLES, STATUS_OF_COMMAND], CODES),
    after_long_help = of_reader(&[EXAMPLES, DETAILS, STATUS_OF_COMMAND], CODES),
    // `--uid` is the user of the program under test.
    mut_arg("user", |arg| arg.long("select-user").visible_alias(None).visible_alias("select-uid")),
)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) source: FilesArgs,
    /// Record the replayed events to this capture instead of showing them.
    #[arg(long, value_name = "OUT", conflicts_with = "format")]
    pub(crate) record: Option<PathBuf>,
    /// Replace OUT if it exists.
    #[arg(long, requires = "record")]
    pub(crate) force: bool,
    /// Print a summary as one JSON object: on standard output with --record and --socket;
    /// otherwise, as PROGRAM or the events use standard output, as the last line of standard error.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the summary of --json to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Send the events to programs that connect to this socket (AF_UNIX, SOCK_SEQPACKET), as
    /// netlink datagrams.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["format", "record"])]
    pub(crate) socket: Option<PathBuf>,
    /// The pace: `instant`, a factor such as 0.5x or 10x, or `step`.
    #[arg(long, value_name = "SPEED", value_parser = parse_speed, default_value = "instant")]
    pub(crate) speed: SpeedArg,
    /// Replay only events from this time on, for example +2s, -30s, 03:04:05 or
    /// "2026-01-02 03:04:05" [default: the start].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) from: Option<Moment>,
    /// Replay only events up to this time [default: the end].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) to: Option<Moment>,
    /// Inject the faults of this script [default: none].
    #[arg(long, value_name = "SCRIPT")]
    pub(crate) faults: Option<PathBuf>,
    /// Seed for the random choices of the fault script.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// End the replay after this time, for example 60s, and exit with 10 [default: unlimited]. A
    /// program gets SIGINT, SIGTERM and SIGKILL, --timeout apart.
    #[arg(long, value_name = "DURATION", value_parser = parse_std_duration)]
    pub(crate) limit: Option<Duration>,
    /// The same as --format classic.
    #[arg(long, hide = true, conflicts_with_all = ["format", "record", "socket"])]
    pub(crate) classic: bool,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
    /// The time at the start of each line of text; with PROGRAM, the program's clocks, `real` or
    /// `capture` [default: wall; with PROGRAM, real].
    #[arg(long)]
    pub(crate) clock: Option<ReplayClockArg>,
    /// Run this program on the replayed events: a program that listens to process events, and its
    /// arguments.
    #[arg(last = true, value_name = "PROGRAM", conflicts_with_all = ["record", "socket", "format", "classic"])]
    pub(crate) program: Vec<OsString>,
    /// The processes in the program's /proc.
    #[arg(long, value_name = "WHOSE", default_value = "capture", help_heading = PROGRAM_OPTIONS)]
    pub(crate) proc: ProcArg,
    /// Give the program a private, empty and writable directory in the place of each of these
    /// existing ones; its contents vanish at the end.
    #[arg(long, value_name = "DIR,..", value_delimiter = ',', help_heading = PROGRAM_OPTIONS)]
    pub(crate) tmpfs: Vec<PathBuf>,
    /// The user that the program sees as itself: an id, or a name in /etc/passwd.
    #[arg(long, value_name = "USER", default_value = "0", help_heading = PROGRAM_OPTIONS)]
    pub(crate) uid: UserArg,
    /// How the program receives events.
    #[arg(long, value_name = "HOW", value_parser = named(SOCKETS), default_value = "auto", help_heading = PROGRAM_OPTIONS)]
    pub(crate) sockets: SocketRequest,
    /// What happens when the program waits for an event after the last one.
    #[arg(long, value_name = "HOW", value_parser = named(ENDS), default_value = "signal", help_heading = PROGRAM_OPTIONS)]
    pub(crate) at_end: EndPolicy,
    /// Time that the program has to exit after the last event and after each signal: SIGINT,
    /// SIGTERM, then SIGKILL.
    #[arg(long, value_name = "DURATION", value_parser = parse_std_duration, default_value = "10s", help_heading = PROGRAM_OPTIONS)]
    pub(crate) timeout: Duration,
    /// Emit the first event when all threads of the program wait, so that each of its listeners
    /// receives it; at the latest --timeout after the first subscription.
    #[arg(long, help_heading = PROGRAM_OPTIONS)]
    pub(crate) settle: bool,
    /// Compare the program's standard output with this file; if they differ, print the difference
    /// and exit with 3.
    #[arg(long, value_name = "FILE", help_heading = PROGRAM_OPTIONS)]
    pub(crate) expect: Option<PathBuf>,
    /// Write the program's standard output to the file of --expect.
    #[arg(long, requires = "expect", help_heading = PROGRAM_OPTIONS)]
    pub(crate) update: bool,
}

impl ReplayArgs {
    /// Returns the clock of shown events.
    ///
    /// # Errors
    /// When `--clock` is for a program.
    pub(crate) fn shown_clock(&self) -> Result<ClockArg, Failure> {
        self.clock.map_or(Some(ClockArg::Wall), ReplayClockArg::shown).ok_or_else(|| {
            let why = "--clock real and capture are clocks of a program; add one, for example `-- ./monitor`, or use wall, mono, relative or delta";
            Failure::new(exit::USAGE, why)
        })
    }

    /// Returns whether the program has the clocks of the capture.
    ///
    /// # Errors
    /// When `--clock` is for shown events.
    pub(crate) fn has_capture_clock(&self) -> Result<bool, Failure> {
        match self.clock {
            None | Some(ReplayClockArg::Real) => Ok(false),
            Some(ReplayClockArg::Capture) => Ok(true),
            Some(_) => {
                let why = "--clock wall, mono, relative and delta are for shown events; a program has the clocks `real` or `capture`";
                Err(Failure::new(exit::USAGE, why))
            }
        }
    }

    /// Whether the events are shown rather than recorded or sent to a program.
    pub(crate) fn shows(&self) -> bool {
        self.record.is_none() && self.socket.is_none() && self.program.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProcArg {
    /// Those of the capture, as of the event that the program received last.
    Capture,
    /// Those of this system.
    Real,
}

/// The clock of shown events, or that of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayClockArg {
    /// Local time.
    Wall,
    /// Seconds of the kernel's monotonic clock.
    Mono,
    /// Seconds since the start.
    Relative,
    /// Seconds since the line before.
    Delta,
    /// The program has this system's clocks.
    Real,
    /// The program has the recorded machine's clocks, at the event that it received last.
    Capture,
}

impl ReplayClockArg {
    /// Returns the clock of shown events; `None` for a clock of a program.
    fn shown(self) -> Option<ClockArg> {
        match self {
            Self::Wall => Some(ClockArg::Wall),
            Self::Mono => Some(ClockArg::Mono),
            Self::Relative => Some(ClockArg::Relative),
            Self::Delta => Some(ClockArg::Delta),
            Self::Real | Self::Capture => None,
        }
    }
}

const SOCKETS: &[(&str, SocketRequest, &str)] = &[
    (
        "auto",
        SocketRequest::Auto,
        "From native sockets where they are possible; the end of the run says why if they are not",
    ),
    (
        "native",
        SocketRequest::Native,
        "From netlink sockets of the kernel, with less CPU time per event unless the program reads /proc",
    ),
    ("seccomp", SocketRequest::Seccomp, "From emulated sockets: pmon intercepts each of its calls"),
];

const ENDS: &[(&str, EndPolicy, &str)] = &[
    ("signal", EndPolicy::Signal, "The program gets SIGINT"),
    ("eof", EndPolicy::Eof, "The program's calls return 0, the end of a file"),
    ("silence", EndPolicy::Silence, "The program waits"),
];

/// The pace of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SpeedArg {
    /// As fast as possible.
    Instant,
    /// A factor of the recorded speed.
    Times(f64),
    /// One event for each line of standard input.
    Step,
}

fn parse_speed(text: &str) -> Result<SpeedArg, String> {
    let wrong = || "expected `instant`, `step`, or a factor such as `1x`, `10x` or `0.5x`".to_owned();
    match text {
        "instant" => Ok(SpeedArg::Instant),
        "step" => Ok(SpeedArg::Step),
        text => {
            let factor = text.strip_suffix('x').and_then(|factor| factor.parse::<f64>().ok());
            factor.filter(|factor| (1e-6..=1e6).contains(factor)).map(SpeedArg::Times).ok_or_else(wrong)
        }
    }
}
