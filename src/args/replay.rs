//! `pmon replay` on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::ViewArgs;
use crate::exit;
use crate::time_spec::{Moment, parse_std_duration};

const REPLAY_HELP: &str = "\
Examples:
  pmon replay night.pmon                       show its events, as `print` does
  pmon replay night.pmon --speed 1x            at the pace at which they happened
  pmon replay night.pmon --record again.pmon   through the recorder, into another capture
  pmon diff night.pmon again.pmon              is it the same?
  pmon replay night.pmon --faults bad-day.toml --seed 7 --format json
  pmon replay night.pmon -- forkstat -l        into a program, as an ordinary user
  pmon replay night.pmon --expect golden.txt -- ./program    does it print what it did?

The events happen on a fake kernel with their recorded times, CPUs and numbers. Listeners receive
them as from the real kernel. Lost events are lost again, and blind times have no events. Events that
--kind, --pid, --tree and --comm leave out are not shown. With --record, --socket or a program, such
events never happened: later numbers move up, so only a loss is a gap.

A fault script defines faults and their positions, each in a `[[fault]]` of its own:
  [[fault]]
  at = 1000              # before event 1000 (the first is 0); or every = N, from = N;
                         # or chance = 0.01
  overrun = 12           # what: overrun, no_memory, burst, blind, hold, eintr, eagain = how many
                         # (or \"1..50\"), truncate = bytes, step = ns, error = errno,
                         # unknown = kind, or foreign_ack, forge, noop, overflow, end = true
  cpu = 1                # where; else on the CPU of the next event
With the same capture, script and seed, the output is the same, to the byte (at other speeds than
`instant`, the blocks of a capture that is recorded begin and end elsewhere).

After --, any unmodified program that listens to process events, in C, Go, Python or any other
language. Its sockets on the proc connector belong to the fake kernel. The next event happens when
the program waits for one, and its /proc shows the capture's processes as of the event that it
received last. After the last event the program gets SIGINT (--at-end); pmon ends with its exit
status. Events that the recorder itself caused are left out (--own passes them on). With --expect,
the program's standard output is compared with a file. docs/programs.md has the details.

--socket waits for a program to connect, and ends when the program has read everything. Lost events
are a gap in the numbers after an NLMSG_OVERRUN message, because such a socket has no ENOBUFS.
Requests of the program (PROC_CN_MCAST_LISTEN, ..._IGNORE) are answered; the program receives
everything from the start.

--speed is `instant`, a factor as `1x` or `0.5x`, or `step`: then each line on standard input lets
one thing happen, or as many as the number on it. --from and --to take what `print` takes for
--since and --until; wall-clock times are as of the clock at the capture's start. If no event
matches the selection, or a fault is placed after the last event, a program tests nothing, and the
exit code is 2.";

/// See [`Command::Replay`](super::Command::Replay).
#[derive(Debug, Args)]
#[command(after_help = format!("{REPLAY_HELP}\n\n{}", exit::HELP))]
pub(crate) struct ReplayArgs {
    /// The capture, `-` for standard input
    pub(crate) file: PathBuf,
    /// Record what is delivered into this capture, instead of showing it
    #[arg(long, value_name = "OUT", conflicts_with = "format")]
    pub(crate) record: Option<PathBuf>,
    /// Replace OUT if it exists
    #[arg(long, requires = "record")]
    pub(crate) force: bool,
    /// Print the summary of --record as one JSON object on standard output
    #[arg(long, requires = "record")]
    pub(crate) json: bool,
    /// Deliver it to programs that connect to this socket (AF_UNIX, SOCK_SEQPACKET), each datagram as netlink has it
    #[arg(long, value_name = "PATH", conflicts_with_all = ["format", "record"])]
    pub(crate) socket: Option<PathBuf>,
    /// How fast: `instant`, a factor as `1x` or `10x`, or `step`
    #[arg(long, value_name = "SPEED", value_parser = parse_speed, default_value = "instant")]
    pub(crate) speed: Speed,
    /// Only what happened from this time on: +2s, -30s, 03:04:05, "2026-01-02 03:04:05", 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) from: Option<Moment>,
    /// Only what happened up to this time
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) to: Option<Moment>,
    /// What is to go wrong: a fault script
    #[arg(long, value_name = "SCRIPT")]
    pub(crate) faults: Option<PathBuf>,
    /// What the script leaves to chance
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// The same as --format classic
    #[arg(long, conflicts_with_all = ["format", "record", "socket"])]
    pub(crate) classic: bool,
    /// What happens, and how it is shown.
    #[command(flatten)]
    pub(crate) view: ViewArgs,
    /// A program that listens to process events, and its arguments: it runs as on the recorded host, and gets the capture's events
    #[arg(last = true, value_name = "PROGRAM", conflicts_with_all = ["record", "socket", "format", "classic"])]
    pub(crate) program: Vec<OsString>,
    /// What the program sees in /proc: the processes of the capture, or those of this system
    #[arg(long, value_name = "WHOSE", default_value = "capture", requires = "program")]
    pub(crate) proc: Proc,
    /// As which user the program sees itself
    #[arg(long, value_name = "UID", default_value_t = 0, requires = "program")]
    pub(crate) uid: u32,
    /// When the program wants more and nothing more comes: it gets SIGINT, reads an end of file, or waits
    #[arg(long, value_name = "HOW", default_value = "signal", requires = "program")]
    pub(crate) at_end: End,
    /// How long it may take to end then; after that it gets SIGTERM, and as long after that SIGKILL
    #[arg(long, value_name = "DURATION", value_parser = parse_std_duration, default_value = "10s", requires = "program")]
    pub(crate) timeout: Duration,
    /// What it is to print on standard output: the content of this file; else exit code 3, and the difference
    #[arg(long, value_name = "FILE", requires = "program")]
    pub(crate) expect: Option<PathBuf>,
    /// Write what it prints into that file
    #[arg(long, requires = "expect")]
    pub(crate) update: bool,
}

impl ReplayArgs {
    /// Whether the events are shown, and go nowhere else.
    pub(crate) fn shows(&self) -> bool {
        self.record.is_none() && self.socket.is_none() && self.program.is_empty()
    }
}

/// Whose processes are in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proc {
    /// Those of the capture, as of the event that the program has received last.
    Capture,
    /// Those of this system.
    Real,
}

/// What happens when the program wants more than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum End {
    /// It gets a signal.
    Signal,
    /// Its calls return 0.
    Eof,
    /// Nothing.
    Silence,
}

/// How fast a replay goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    /// As fast as it can.
    Instant,
    /// A factor of the recorded speed.
    Times(f64),
    /// One thing for each line of standard input.
    Step,
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    let wrong = || "expected `instant`, `step`, or a factor as `1x`, `10x`, `0.5x`".to_owned();
    match text {
        "instant" => Ok(Speed::Instant),
        "step" => Ok(Speed::Step),
        text => {
            let factor = text.strip_suffix('x').and_then(|factor| factor.parse::<f64>().ok());
            factor.filter(|factor| (1e-6..=1e6).contains(factor)).map(Speed::Times).ok_or_else(wrong)
        }
    }
}
