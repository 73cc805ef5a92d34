//! The command line, as it is written. What it means is worked out in [`crate::commands`].

mod diff;
mod replay;
mod synth;

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pmon_core::wire::EventKind;
use pmon_record::{MAX_RING_BYTES, Redact};

pub(crate) use diff::DiffArgs;
pub(crate) use replay::{End, Proc, ReplayArgs, Speed};
pub(crate) use synth::SynthArgs;

use crate::exit;
use crate::time_spec::{Moment, parse_std_duration};

const EXAMPLES: &str = "\
Examples:
  pmon watch                           see programs start and end, live
  pmon record -- make                  record while `make` runs
  pmon record --for 10m -o night.pmon  record for ten minutes
  pmon print night.pmon --kind exec    what ran?
  pmon info night.pmon                 how much, of what?
  pmon verify night.pmon               is it complete?
  pmon replay night.pmon --record again.pmon   replay it through the recorder
  pmon diff night.pmon again.pmon      do they hold the same?
  pmon synth -o test.pmon -n 10M       ten million synthetic events";

/// A flight recorder for Linux processes: records every fork, exec and exit, and reads them back.
#[derive(Debug, Parser)]
#[command(name = "pmon", version, after_help = format!("{EXAMPLES}\n\n{}", exit::HELP), max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Record process events into a file, until Ctrl-C, for a time, or while a command runs
    Record(RecordArgs),
    /// Show process events as they happen
    Watch(WatchArgs),
    /// Show the events of a capture
    Print(PrintArgs),
    /// Replay a capture, also into a program under test
    Replay(ReplayArgs),
    /// Compare two captures: do they hold the same events and losses?
    Diff(DiffArgs),
    /// Summarize a capture and its completeness
    Info(InfoArgs),
    /// Check a capture for completeness
    Verify(VerifyArgs),
    /// Write a synthetic capture, for tests and benches
    Synth(SynthArgs),
}

/// Maximum size of a buffer in bytes.
const MORE_THAN_SENSE: usize = 64 << 30;
/// Maximum bytes of a command line.
const MOST_ARGS: usize = 128 << 10;
/// Range of `--latency`: short enough to read details from `/proc`, long enough to save work.
const LATENCIES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
/// Minimum heartbeat interval, which keeps heartbeats cheap.
const SHORTEST_BEAT: Duration = Duration::from_millis(10);

const RECORD_HELP: &str = "\
Examples:
  pmon record                          until Ctrl-C, into pmon-HOST-TIME.pmon
  pmon record --for 10m -o night.pmon  for ten minutes
  pmon record -- make -j8              while `make` runs; ends with its exit status
  pmon record --for 10s -o - | pmon print -    through a pipe

While it is written, the file is named FILE.partial. It can be read at any time, even after a
crash. pmon records all processes of the host, not only CMD; `--tree` without PID records only CMD
and its descendants.

Ctrl-C reaches CMD as well as pmon, which continues until CMD has ended. A second Ctrl-C ends the
recording; a third leaves CMD running. SIGTERM is passed on to CMD, and the recording ends with
CMD. If --for ends before CMD, the recording ends; pmon waits for CMD and ends with its status. The
live status line is shown if standard error is a terminal and CMD does not write there. SIGUSR1
prints it at any time.

--only, --uid, --cgroup and --tree together select what is recorded. The kernel leaves out and
counts all other events, so a missing number still means a loss. These options need the ring.

Command lines may hold secrets. --no-args leaves all of them out. --redact REGEX replaces matches
with `[redacted]` before anything reaches the disk: in arguments, paths, cgroups, thread names, the
header and the recorder's own command line. The pattern itself and the argument of any option
--redact are redacted, too. What identifies the host (kernel, machine, boot id) stays.

The pattern is matched against the arguments with a space between them, so `--password[= ]([^ ]+)`
finds both forms. If a pattern has groups, only their matches are replaced. A pattern with ^ or $
is also matched against each argument. A byte that is not UTF-8 counts as one character. Secrets
are replaced before --args-max truncates. If a command line is longer than 32K (128K if --args-max
is above 28K), its last argument that was read is replaced completely. The kernel cuts thread names
to 15 bytes, so the pattern should also match the beginning of a secret. Many matches in one
long command line replace the rest of it, too, so that no process keeps the recorder busy.

FILE may also be a FIFO or a device, or `-`. If the reader closes it before the end, or the disk is
full, the exit code is 7; a file keeps everything that was recorded before. pmon waits for the
reader of a FIFO no longer than --for. Without -o, the file is always a new one.

Losses are never silent: the capture and the summary state how many events were lost, and why. SIZE
is in bytes, or with K, M or G for powers of 1024.";

/// See [`Command::Record`].
#[derive(Debug, Args)]
#[command(after_help = format!("{RECORD_HELP}\n\n{}", exit::HELP))]
pub(crate) struct RecordArgs {
    /// The file to write, `-` for standard output [default: pmon-HOST-TIME.pmon in the current directory]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// End after this long: 500ms, 10s, 5m, 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_std_duration)]
    pub(crate) duration: Option<Duration>,
    /// Replace FILE and FILE.partial, which a killed recorder leaves, if they exist; overwrite a
    /// block device
    #[arg(long)]
    pub(crate) force: bool,
    /// Print no status, and no summary but with --json
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print the summary as one JSON object: on standard output, or on standard error if CMD or the capture goes there
    #[arg(long)]
    pub(crate) json: bool,
    /// End with 3 if events were lost or the recording was blind for a time, unless CMD itself
    /// fails
    #[arg(long)]
    pub(crate) strict: bool,
    /// Memory for events that wait to be written, 224 bytes each; beyond it, events are dropped and
    /// counted
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "32M")]
    pub(crate) buffer: usize,
    /// Kernel memory for events in the socket's queue, 832 bytes each; limited by net.core.rmem_max
    /// without privilege
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64M")]
    pub(crate) socket_buffer: usize,
    /// How to receive events: by a BPF ring, which needs CAP_BPF and CAP_PERFMON, or by the socket
    /// alone
    #[arg(long, value_enum, default_value_t = Transport::Auto)]
    pub(crate) transport: Transport,
    /// Kernel memory for the ring, 88 bytes per event, at least 4 KiB per exec; when it is full,
    /// events go to the socket
    #[arg(long, value_name = "SIZE", value_parser = parse_ring, default_value = "16M")]
    pub(crate) ring: usize,
    /// Interval between receptions while events arrive: shorter takes more CPU time, longer more
    /// memory
    #[arg(long, value_name = "DURATION", value_parser = parse_latency, default_value = "10ms")]
    pub(crate) latency: Duration,
    /// Record events of these kinds only: fork, exec, uid, gid, sid, ptrace, comm, coredump, exit
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = parse_kind, hide_possible_values = true)]
    pub(crate) only: Vec<EventKind>,
    /// Record only events of processes with these real user ids
    #[arg(long, value_name = "UID,..", value_delimiter = ',')]
    pub(crate) uid: Vec<u32>,
    /// Record only events of processes in this cgroup (version 2) or below it
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Record only this process and its descendants; without PID, CMD and its descendants
    #[arg(long, value_name = "PID", num_args = 0..=1, default_missing_value = "0", hide_default_value = true)]
    pub(crate) tree: Option<u32>,
    /// Maximum bytes recorded of each command line; longer ones are truncated and marked
    #[arg(long, value_name = "SIZE", value_parser = parse_args_max, default_value = "4K")]
    pub(crate) args_max: usize,
    /// Record no command lines
    #[arg(long, conflicts_with = "args_max")]
    pub(crate) no_args: bool,
    /// Replace matches in command lines, paths, names and cgroups with `[redacted]`
    #[arg(long, value_name = "REGEX", value_parser = parse_redact, allow_hyphen_values = true)]
    pub(crate) redact: Option<Redact>,
    /// Minimum size of the socket's buffer; end with 6 if it is smaller
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) require_buffer: Option<usize>,
    /// Heartbeat interval, or `off`: a heartbeat that is not received marks the recording as blind
    #[arg(long, value_name = "DURATION", value_parser = parse_heartbeat, default_value = "1s")]
    pub(crate) heartbeat: Duration,
    /// A command to run; the recording ends when it does
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

const WATCH_HELP: &str = "\
Examples:
  pmon watch                                every process, until Ctrl-C
  pmon watch --kind exec                    what is being run
  pmon watch --tree 4711 --threads          one process, its descendants and all their threads
  pmon watch --format json | jq .args       for programs; the fields are in docs/json.md";

/// See [`Command::Watch`].
#[derive(Debug, Args)]
#[command(after_help = format!("{WATCH_HELP}\n\n{}", exit::HELP))]
pub(crate) struct WatchArgs {
    /// End after this long: 500ms, 10s, 5m, 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_std_duration)]
    pub(crate) duration: Option<Duration>,
    /// What to show, and how.
    #[command(flatten)]
    pub(crate) view: ViewArgs,
}

const PRINT_HELP: &str = "\
Examples:
  pmon print night.pmon                          everything but threads
  pmon print night.pmon --tree 4711              one process and its descendants
  pmon print night.pmon --since 02:00 --until 02:10 --kind exec,exit
  pmon print night.pmon --since -30s             the last half minute
  pmon print night.pmon --format json | jq -r 'select(.kind==\"exec\").exe'
  ssh host pmon record --for 10s -o - | pmon print -

Losses and blind times are shown where they happened; only --since and --until hide them. The
classic format has no line for losses; standard error then states how many events were lost. If the
capture is still being written, or its recorder was killed, everything so far is shown, with a note
at the end. Damage is reported on standard error, and the exit code is 4.

A capture of `record --only exec,exit` has no forks. --tree then uses the parents from execs and
exits, and reports on standard error if processes may be missing. --comm matches the name after the
event.

--since and --until take +DURATION from the start, -DURATION before the end, or a time. A time is
local unless it has an offset from UTC, as in 2026-10-25T02:30:00+01:00. A time without a date is
the first such time in the capture; for --until, the first after --since. Standard error states
which one is used, unless the capture is of one day. It also reports a time that occurs twice or
never because clocks are set; in text, times that occur twice show their offset. If no event
matches the selection, standard error states why.";

/// See [`Command::Print`].
#[derive(Debug, Args)]
#[command(after_help = format!("{PRINT_HELP}\n\n{}", exit::HELP))]
pub(crate) struct PrintArgs {
    /// The capture, `-` for standard input
    pub(crate) file: PathBuf,
    /// Only events from this time on: +2s, -30s, 03:04:05, "2026-01-02 03:04:05", 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) since: Option<Moment>,
    /// Only events up to this time
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) until: Option<Moment>,
    /// What to show, and how.
    #[command(flatten)]
    pub(crate) view: ViewArgs,
}

/// See [`Command::Info`].
#[derive(Debug, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct InfoArgs {
    /// The capture, `-` for standard input
    pub(crate) file: PathBuf,
    /// For programs: one JSON object; its fields are in docs/json.md
    #[arg(long)]
    pub(crate) json: bool,
}

const VERIFY_HELP: &str = "\
pmon checks the capture independently of its recorder. The events of each CPU are numbered without
a gap, so each gap is a loss, which the recorder must have recorded with its cause. The totals must
agree.

The verdict is the worst that applies:
  complete   every event from the start to the end is there                     exit code 0
  lossy      all but events that were lost, or may have been                               3
  blind      the kernel emitted no events for a time, so losses cannot be counted          3
  unsealed   still being written, or the recorder was killed; complete up to a moment      3
  damaged    parts cannot be read, are missing, or contradict each other                   4";

/// See [`Command::Verify`].
#[derive(Debug, Args)]
#[command(after_help = format!("{VERIFY_HELP}\n\n{}", exit::HELP))]
pub(crate) struct VerifyArgs {
    /// The capture, `-` for standard input
    pub(crate) file: PathBuf,
    /// For programs: one JSON object; its fields are in docs/json.md
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to show of a stream of events, and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct ViewArgs {
    /// How to write events
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Only these kinds: ack, fork, exec, uid, gid, sid, ptrace, comm, coredump, exit, unknown
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = parse_kind, hide_possible_values = true)]
    pub(crate) kind: Vec<EventKind>,
    /// Only these processes or threads; a fork counts for parent and child
    #[arg(long, value_name = "PID,..", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// Only this process and its descendants
    #[arg(long, value_name = "PID")]
    pub(crate) tree: Option<u32>,
    /// Only processes of exactly this name
    #[arg(long, value_name = "NAME")]
    pub(crate) comm: Option<OsString>,
    /// Show forks and exits of threads in text; the other formats always do
    #[arg(long)]
    pub(crate) threads: bool,
    /// Show the recorder's own fences and heartbeats, for which its threads rename themselves
    #[arg(long)]
    pub(crate) own: bool,
    /// The time in front of each line of text
    #[arg(long, value_enum, default_value_t = Clock::Wall)]
    pub(crate) clock: Clock,
}

/// How events come from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// The first of the others that can be had
    Auto,
    /// The ring, with the details of processes at each exec, and what they used at each exit
    #[value(name = "ring+details")]
    RingDetails,
    /// The ring; details are read from /proc afterwards
    Ring,
    /// The socket, many events with one system call; details from /proc
    Recvmmsg,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// As the well-known C example prints them, without losses
    Classic,
    /// One JSON object a line
    Json,
    /// Comma-separated values, with a header line
    Csv,
}

/// Which time text shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Clock {
    /// Local time
    Wall,
    /// Seconds of the kernel's monotonic clock
    Mono,
    /// Since the start
    Relative,
    /// Since the line before
    Delta,
}

/// Bytes: `4096`, `64K`, `64M`, `64MiB`.
fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_suffix("iB").unwrap_or(unit);
    let shift = ["", "K", "M", "G"].iter().position(|name| name.eq_ignore_ascii_case(unit));
    let bytes = shift.zip(number.parse::<usize>().ok());
    let bytes = bytes.and_then(|(shift, number)| number.checked_mul(1 << (10 * shift)));
    match bytes {
        None => Err("expected bytes, as in 4096, 512K, 64M or 1G".into()),
        Some(MORE_THAN_SENSE..) => Err("that is more memory than makes sense".into()),
        Some(bytes) => Ok(bytes),
    }
}

/// Parses the size of the ring in bytes.
fn parse_ring(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        size @ ..=MAX_RING_BYTES => Ok(size),
        _ => Err("the maximum size of the ring is 2G".into()),
    }
}

/// Bytes of arguments.
fn parse_args_max(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("for none at all, there is --no-args".into()),
        1..=MOST_ARGS => parse_size(text),
        _ => Err("at most 128K can be recorded of a command line".into()),
    }
}

fn parse_redact(text: &str) -> Result<Redact, String> {
    Redact::new(text).map_err(|error| error.to_string())
}

/// How long events may wait.
fn parse_latency(text: &str) -> Result<Duration, String> {
    let latency = parse_std_duration(text)?;
    if LATENCIES.contains(&latency) { Ok(latency) } else { Err("between 1ms and 1s makes sense".into()) }
}

/// The time between heartbeats; none for `off`.
fn parse_heartbeat(text: &str) -> Result<Duration, String> {
    match text {
        "off" => Ok(Duration::ZERO),
        text => parse_std_duration(text).map(|interval| interval.max(SHORTEST_BEAT)),
    }
}

fn parse_kind(name: &str) -> Result<EventKind, String> {
    EventKind::from_name(name).ok_or_else(|| {
        let names: Vec<_> = EventKind::ALL.into_iter().map(EventKind::name).collect();
        format!("no such kind; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(
            (parse_size("2k"), parse_size("64M"), parse_size("1GiB")),
            (Ok(2048), Ok(64 << 20), Ok(1 << 30))
        );
        for bad in ["", "M", "1T", "-1", "1.5M", "99999999999999999G", "99999999G", "16iBs"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tree_is_that_of_a_process_or_of_the_command() {
        let tree = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["pmon", "record"], args].concat()).expect("parses");
            let Some(Command::Record(args)) = cli.command else { panic!("record") };
            (args.tree, args.command.len())
        };
        assert_eq!(tree(&["--tree", "4711"]), (Some(4711), 0));
        assert_eq!(tree(&["--tree", "--", "make", "-j8"]), (Some(0), 2));
        assert_eq!(tree(&[]), (None, 0));
    }

    #[test]
    fn arguments_and_latency_have_bounds() {
        assert_eq!(parse_args_max("128K"), Ok(128 << 10));
        assert!(parse_args_max("0").is_err() && parse_args_max("129K").is_err());
        assert!(parse_latency("500us").is_err() && parse_latency("2s").is_err());
        assert_eq!(parse_latency("5ms"), Ok(Duration::from_millis(5)));
        assert!(parse_redact("(").is_err() && parse_redact("").is_err());
        assert_eq!(parse_ring("2G"), Ok(2 << 30));
        for large in ["2147483649", "3G", "64G", "18446744073709551615"] {
            assert!(parse_ring(large).is_err(), "{large}");
        }
    }

    #[test]
    fn a_moment_may_begin_with_a_minus() {
        let cli = Cli::try_parse_from(["pmon", "print", "x", "--since", "-30s"]).expect("parses");
        let Some(Command::Print(args)) = cli.command else { panic!("print") };
        assert_eq!(args.since, Some(Moment::BeforeEnd(30_000_000_000)));
    }
}
