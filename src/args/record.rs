//! The arguments of `pmon record`.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pmon_core::wire::EventKind;
use pmon_record::{MAX_RING_BYTES, Redact};

use super::size::parse_size;
use super::store::StoreArgs;
use super::view::parse_kind;
use crate::exit;
use crate::time_spec::parse_std_duration;

/// Maximum value of `--args-max` in bytes.
const MAX_ARGS_BYTES: usize = 128 << 10;
/// Range of `--latency`: short enough to read details from `/proc`, long enough to save work.
const LATENCIES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
/// Minimum heartbeat interval, which keeps heartbeats cheap.
const MIN_HEARTBEAT: Duration = Duration::from_millis(10);

const EXAMPLES: &str = "\
Examples:
  pmon record                            until Ctrl-C, to pmon-HOST-TIME.pmon
  pmon record -- make -j8                while `make` runs
  pmon record --tree -- make -j8         only `make` and its descendants
  pmon record --for 10m -o night.pmon    for ten minutes
  pmon record --store /var/lib/pmon --max-use 10G   for months, in segments
  ssh host pmon record --for 10s -o - | pmon print -    through a pipe";

const DETAILS: &str = include_str!("help/record.txt");

#[derive(Debug, Args)]
#[command(
    after_help = format!("{EXAMPLES}\n\n{}", exit::HELP),
    after_long_help = format!("{EXAMPLES}\n\n{DETAILS}\n{}", exit::HELP),
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
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "32M")]
    pub(crate) buffer: usize,
    /// Kernel memory for the socket's queue, 832 bytes per event; without root it is limited by
    /// net.core.rmem_max.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64M")]
    pub(crate) socket_buffer: usize,
    /// How to receive events: through a BPF ring, which needs CAP_BPF and CAP_PERFMON, or through
    /// the netlink socket alone.
    #[arg(long, value_enum, default_value_t = TransportArg::Auto)]
    pub(crate) transport: TransportArg,
    /// Kernel memory for the BPF ring, 88 bytes per event and at least 4 KiB per exec; when it is
    /// full, events go to the socket.
    #[arg(long, value_name = "SIZE", value_parser = parse_ring, default_value = "16M")]
    pub(crate) ring: usize,
    /// Interval between receptions while events arrive, from 1ms to 1s; a shorter one costs CPU
    /// time, a longer one memory.
    #[arg(long, value_name = "DURATION", value_parser = parse_latency, default_value = "10ms")]
    pub(crate) latency: Duration,
    /// Record only events of these kinds: fork, exec, uid, gid, sid, ptrace, comm, coredump, exit
    /// [default: all].
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', value_parser = parse_kind, hide_possible_values = true)]
    pub(crate) only: Vec<EventKind>,
    /// Record only events of processes with these real user ids [default: all].
    #[arg(long, value_name = "UID,..", value_delimiter = ',')]
    pub(crate) uid: Vec<u32>,
    /// Record only events of processes in this cgroup (version 2) or below it [default: all].
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Record only this process and its descendants; without PID, CMD and its descendants.
    #[arg(long, value_name = "PID", num_args = 0..=1, default_missing_value = "0", hide_default_value = true)]
    pub(crate) tree: Option<u32>,
    /// Maximum bytes recorded of each command line, up to 128K; longer ones are truncated and
    /// marked.
    #[arg(long, value_name = "SIZE", value_parser = parse_args_max, default_value = "4K")]
    pub(crate) args_max: usize,
    /// Record no command lines.
    #[arg(long, conflicts_with = "args_max")]
    pub(crate) no_args: bool,
    /// Replace matches in command lines, paths, names and cgroups with `[redacted]`.
    #[arg(long, value_name = "REGEX", value_parser = parse_redact, allow_hyphen_values = true)]
    pub(crate) redact: Option<Redact>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportArg {
    /// The first of the following that works here.
    Auto,
    /// The BPF ring, with process details at each exec and resource usage at each exit.
    #[value(name = "ring+details")]
    RingDetails,
    /// The BPF ring; details are read from /proc after each exec.
    Ring,
    /// The netlink socket, many events per system call; details are read from /proc.
    Recvmmsg,
}

fn parse_ring(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
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
        text => parse_std_duration(text).map(|interval| interval.max(MIN_HEARTBEAT)),
    }
}

#[cfg(test)]
mod tests;
