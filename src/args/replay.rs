//! The arguments of `pmon replay`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::ViewArgs;
use crate::exit;
use crate::time_spec::{Moment, parse_std_duration};

const EXAMPLES: &str = "\
Examples:
  pmon replay night.pmon -- ./monitor -v       feed it to a program, without root
  pmon replay night.pmon --expect golden.txt -- ./monitor
                                               and compare the program's output
  pmon replay night.pmon --faults bad.toml --seed 7 -- ./monitor
                                               and inject faults
  pmon replay night.pmon --speed 1x            show it at its original pace
  pmon replay night.pmon --record again.pmon   record it again";

const DETAILS: &str = "\
Replay: the recorded events happen on a fake kernel, with their times, CPUs and
sequence numbers. Listeners receive them as from a real kernel. Lost events are
lost again, and blind times have no events. Events that --kind, --pid, --tree
and --comm exclude are not shown. With --record, --socket or PROGRAM, such
events never happened: later numbers move up, so only a loss leaves a gap.

Programs: PROGRAM is any unmodified program that listens to process events. Its
sockets on the proc connector belong to the fake kernel, and its /proc shows the
recorded processes as of the event that it received last. The next event happens
when the program waits for one. After the last event the program gets SIGINT
(--at-end), and pmon exits with its status. Events that the recorder caused are
excluded, unless --own is given. docs/programs.md has the details.

Sockets: --socket waits for a program to connect, and ends when the program has
read everything. A loss is a gap in the numbers after an NLMSG_OVERRUN message,
because such a socket has no ENOBUFS. Requests (PROC_CN_MCAST_LISTEN, ..._IGNORE)
are answered; the program receives all events from the start.

Faults: a fault script is a TOML file with a `[[fault]]` table for each fault:
  [[fault]]
  at = 1000       # before event 1000; the first event is 0
  overrun = 12    # the fault: 12 events are dropped
  cpu = 1         # default: the CPU of the next event
The position is `at`, or `every = N` (with `from = N`), or `chance = 0.01`. The
fault is one of
  overrun, no_memory, burst, blind, hold, eintr, eagain   = count, or \"1..50\"
  truncate = bytes, step = ns, error = errno, unknown = kind
  foreign_ack, forge, noop, overflow, end                 = true
The same capture, script and seed give the same output, byte for byte. At other
speeds than `instant`, the blocks of a new capture differ.

Speed: `step` reads standard input; each line lets one event happen, or as many
as the number on the line.

Times: --from and --to take what `print` takes for --since and --until. They use
the clock as it was at the start of the capture.

If no event matches the selection, or a fault comes after the last event,
PROGRAM tests nothing, and the exit code is 2.";

#[derive(Debug, Args)]
#[command(
    after_help = format!("{EXAMPLES}\n\n{}", exit::HELP),
    after_long_help = format!("{EXAMPLES}\n\n{DETAILS}\n\n{}", exit::HELP),
)]
pub(crate) struct ReplayArgs {
    /// The capture to replay; `-` is standard input.
    pub(crate) file: PathBuf,
    /// Record the replayed events to this capture instead of showing them.
    #[arg(long, value_name = "OUT", conflicts_with = "format")]
    pub(crate) record: Option<PathBuf>,
    /// Replace OUT if it exists.
    #[arg(long, requires = "record")]
    pub(crate) force: bool,
    /// Print the summary of --record as one JSON object on standard output.
    #[arg(long, requires = "record")]
    pub(crate) json: bool,
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
    /// The same as --format classic.
    #[arg(long, hide = true, conflicts_with_all = ["format", "record", "socket"])]
    pub(crate) classic: bool,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
    /// Run this program on the replayed events: a program that listens to process events, and its
    /// arguments.
    #[arg(last = true, value_name = "PROGRAM", conflicts_with_all = ["record", "socket", "format", "classic"])]
    pub(crate) program: Vec<OsString>,
    /// The processes in the program's /proc.
    #[arg(long, value_name = "WHOSE", default_value = "capture", requires = "program")]
    pub(crate) proc: ProcArg,
    /// The user id that the program sees as its own.
    #[arg(long, value_name = "UID", default_value_t = 0, requires = "program")]
    pub(crate) uid: u32,
    /// What happens when the program waits for an event after the last one.
    #[arg(long, value_name = "HOW", default_value = "signal", requires = "program")]
    pub(crate) at_end: AtEndArg,
    /// Time that the program has to exit after the last event; then it gets SIGTERM, and after the
    /// same time SIGKILL.
    #[arg(long, value_name = "DURATION", value_parser = parse_std_duration, default_value = "10s", requires = "program")]
    pub(crate) timeout: Duration,
    /// Compare the program's standard output with this file; if they differ, print the difference
    /// and exit with 3.
    #[arg(long, value_name = "FILE", requires = "program")]
    pub(crate) expect: Option<PathBuf>,
    /// Write the program's standard output to the file of --expect.
    #[arg(long, requires = "expect")]
    pub(crate) update: bool,
}

impl ReplayArgs {
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AtEndArg {
    /// The program gets SIGINT.
    Signal,
    /// The program's calls return 0, the end of a file.
    Eof,
    /// The program waits.
    Silence,
}

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
