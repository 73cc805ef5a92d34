//! The arguments of `pmon record`.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pmon_core::wire::EventKind;
use pmon_record::{MAX_RING_BYTES, Redact, TransportChoice};

use super::help::{ExitCode, STATUS_OF_COMMAND, of_other};
use super::named::named;
use super::size::parse_size;
use super::store::StoreArgs;
use crate::time_spec::{parse_duration, parse_std_duration};

/// Maximum value of `--args-max` in bytes.
const MAX_ARGS_BYTES: usize = 128 << 10;
/// Range of `--latency`: short enough to read details from `/proc`, long enough to save work.
const LATENCIES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
/// Minimum heartbeat interval, which keeps heartbeats cheap.
const MIN_HEARTBEAT: Duration = Duration::from_millis(10);

/// Maximum value of `--socket-buffer` in bytes: the kernel's, which has 31 bits.
const MAX_SOCKET_BUFFER: usize = i32::MAX as usize - 1;
/// Value of `--tree` without PID: the tree of CMD.
const CMD_TREE: &str = "CMD";

const EXAMPLES: &str = "\
Examples:
  pmon record                            until Ctrl-C, to pmon-HOST-TIME.pmon
  pmon record -- make -j8                while `make` runs
  pmon record --tree -- make -j8         only `make` and its descendants
  pmon record --for 10m -o night.pmon    for ten minutes
  pmon record --store /var/lib/pmon --max-use 10G   for months, in segments
  ssh host pmon record --for 10s -o - | pmon print -    through a pipe";

const DETAILS: &str = include_str!("help/record.txt");

/// Further exit codes.
const CODES: &[ExitCode] = &[(3, "`--strict`: events were lost, or the recording was blind for a time")];

#[derive(Debug, Args)]
#[command(
    after_help = of_other(&[EXAMPLES, STATUS_OF_COMMAND], CODES),
    after_long_help = of_other(&[EXAMPLES, DETAILS, STATUS_OF_COMMAND], CODES),
)]
pub(crate) struct RecordArgs {
    /// Write the capture to this file; `-` is standard output [default: pmon-HOST-TIME.pmon].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// End the recording after this time, for example 500ms, 10s or 1h30m [default: no limit].
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_std_duration)]
    pub(crate) duration: Option<Duration>,
    /// Replace FILE, and FILE.partial of a killed recorder, if they exist; overwrite a block
    /// device.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print no status line and no summary (--json still prints its summary).
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print the summary as one JSON object: on standard output, or on standard error if CMD or
    /// the capture uses standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with 3 if events were lost or the recording was blind for a time, unless CMD itself
    /// fails.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Memory for events that wait to be written, 224 bytes per event; when it is full, events are
    /// dropped and counted.
    #[arg(long, value_name = "SIZE", value_parser = parse_buffer, default_value = "32M")]
    pub(crate) buffer: usize,
    /// Kernel memory for the socket's queue, 832 bytes per event; without root it is limited by
    /// net.core.rmem_max.
    #[arg(long, value_name = "SIZE", value_parser = parse_socket_buffer, default_value = "64M")]
    pub(crate) socket_buffer: usize,
    /// How to receive events: through a BPF ring, which needs CAP_BPF and CAP_PERFMON, or through
    /// the netlink socket alone.
    #[arg(long, value_parser = named(TRANSPORTS), default_value = "auto")]
    pub(crate) transport: TransportChoice,
    /// Kernel memory for the BPF ring, 88 bytes per event and at least 4 KiB per exec, rounded up
    /// to a power of two; when it is full, events go to the socket.
    #[arg(long, value_name = "SIZE", value_parser = parse_ring, default_value = "16M")]
    pub(crate) ring: usize,
    /// Interval between receptions while events arrive, from 1ms to 1s; a shorter one costs CPU
    /// time, a longer one memory.
    #[arg(long, value_name = "DURATION", value_parser = parse_latency, default_value = "10ms")]
    pub(crate) latency: Duration,
    /// Record only events of these kinds: fork, exec, uid, gid, sid, ptrace, comm, coredump, exit
    /// [default: all].
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = parse_recorded_kind, hide_possible_values = true)]
    pub(crate) only: Vec<EventKind>,
    /// Record only events of processes with these real user ids [default: all].
    #[arg(long, value_name = "UID,..", value_delimiter = ',', value_parser = parse_uid)]
    pub(crate) uid: Vec<u32>,
    /// Record only events of processes in this cgroup (version 2) or below it [default: all].
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Record only this process and its descendants; without PID, CMD and its descendants.
    #[arg(long, value_name = "PID", num_args = 0..=1, default_missing_value = CMD_TREE, value_parser = parse_tree, hide_default_value = true)]
    pub(crate) tree: Option<u32>,
    /// Maximum bytes recorded of each command line, up to 128K; longer ones are truncated and
    /// marked.
    #[arg(long, value_name = "SIZE", value_parser = parse_args_max, default_value = "4K")]
    pub(crate) args_max: usize,
    /// Record no command lines.
    #[arg(long, conflicts_with = "args_max")]
    pub(crate) no_args: bool,
    /// Replace matches in command lines, paths, names, cgroups and names of containers with
    /// `[redacted]`.
    #[arg(long, value_name = "REGEX", value_parser = parse_redact, allow_hyphen_values = true)]
    pub(crate) redact: Option<Redact>,
    /// Read the names of containers from the bundles of their runtimes below this directory, for
    /// example /host if pmon runs in a container; `none` reads no names.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) container_root: PathBuf,
    /// Exit with 6 if the kernel grants the socket a smaller buffer than this [default: no check].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) require_buffer: Option<usize>,
    /// Heartbeat interval, at least 10ms, or `off`; a missed heartbeat marks the recording as
    /// blind.
    #[arg(long, value_name = "DURATION", value_parser = parse_heartbeat, default_value = "1s")]
    pub(crate) heartbeat: Duration,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Run this command, and end the recording when it ends.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

const TRANSPORTS: &[(&str, TransportChoice, &str)] = &[
    ("auto", TransportChoice::Auto, "The first of the following that works here"),
    (
        "ring+details",
        TransportChoice::RingDetails,
        "The BPF ring, with process details at each exec and resource usage at each exit",
    ),
    ("ring", TransportChoice::Ring, "The BPF ring; details are read from /proc after each exec"),
    (
        "recvmmsg",
        TransportChoice::Recvmmsg,
        "The netlink socket, many events per system call; details are read from /proc",
    ),
];

fn parse_buffer(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("must be at least 1; the smallest buffer has room for 4096 events".into()),
        size => Ok(size),
    }
}

fn parse_socket_buffer(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("must be at least 1; the kernel raises small values to its minimum".into()),
        size @ ..=MAX_SOCKET_BUFFER => Ok(size),
        _ => Err("must be less than 2G".into()),
    }
}

/// Parses the kind of events that a recorder can select.
fn parse_recorded_kind(name: &str) -> Result<EventKind, String> {
    let is_allowed = |kind: &EventKind| !matches!(kind, EventKind::Ack | EventKind::Unknown);
    EventKind::from_name(name).filter(is_allowed).ok_or_else(|| {
        let names: Vec<_> =
            EventKind::ALL.iter().filter(|kind| is_allowed(kind)).map(|kind| kind.name()).collect();
        format!("`{name}` cannot be selected; use {}", names.join(", "))
    })
}

/// Parses a user id. The largest number is no user.
fn parse_uid(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|&uid| uid != u32::MAX).ok_or_else(|| {
        format!("`{text}` is no user id; expected a number from 0 to 4294967294 (`id -u NAME` prints that of a user)")
    })
}

/// Parses a process id; the tree of CMD is 0.
fn parse_tree(text: &str) -> Result<u32, String> {
    match text {
        CMD_TREE => Ok(0),
        text => text.parse().ok().filter(|&pid| pid > 0 && i32::try_from(pid).is_ok()).ok_or_else(|| {
            format!("`{text}` is no process id; expected a number from 1, or no value for the tree of CMD")
        }),
    }
}

fn parse_ring(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("must be at least 1; use --transport recvmmsg to record without a ring".into()),
        size @ ..=MAX_RING_BYTES => Ok(size),
        _ => Err("the maximum size of the ring is 2G".into()),
    }
}

fn parse_args_max(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("must be at least 1; use --no-args to record no command lines".into()),
        size @ 1..=MAX_ARGS_BYTES => Ok(size),
        _ => Err("must be at most 128K".into()),
    }
}

fn parse_redact(text: &str) -> Result<Redact, String> {
    Redact::new(text).map_err(|error| error.to_string())
}

fn parse_latency(text: &str) -> Result<Duration, String> {
    let latency = parse_std_duration(text)?;
    if LATENCIES.contains(&latency) { Ok(latency) } else { Err("must be from 1ms to 1s".into()) }
}

/// Parses a heartbeat interval; `off` gives zero.
fn parse_heartbeat(text: &str) -> Result<Duration, String> {
    match text {
        "off" => Ok(Duration::ZERO),
        text => match parse_duration(text)? {
            ns if Duration::from_nanos(ns) < MIN_HEARTBEAT => Err("must be at least 10ms, or `off`".into()),
            ns => Ok(Duration::from_nanos(ns)),
        },
    }
}

#[cfg(test)]
mod tests;
