//! The arguments of `pmon top`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pmon_analysis::groups::GroupBy;

use super::ProcessArgs;
use super::help::of_reader;
use super::named::named;
use super::stats::GROUPS;
use crate::time_spec::{Moment, parse_std_duration};

const EXAMPLES: &str = "\
Examples:
  pmon top                               what starts, fails and uses the CPU now
  pmon top --by unit --interval 5s       per service, every 5 seconds
  pmon top --by parent --sort starts     who keeps starting processes
  pmon top night.pmon --at 02:03         the second before 02:03; arrow keys
                                         move the time
  pmon top -n 10 --json > top.json       ten intervals, as lines of JSON";

const DETAILS: &str = "\
Each process counts, even if it lived for less than a millisecond between two
displays. STARTS and ENDS count starts and ends of processes in the interval,
RUN the processes at its end. P50, MAX and MEMORY are the median and maximum
duration and the maximum peak memory of the processes that ended.

Live, CPU is the CPU time used in the interval. For processes that ended it is
exact; for running ones, /proc shows it in steps of 10 ms. In a recording, CPU
is all CPU time of the processes that ended in the interval.

Keys: q quits, h shows all keys. If standard output is not a terminal, or TERM
is `dumb`, pmon prints plain text. docs/query.md has details.
";

#[derive(Debug, Args)]
#[command(
    after_help = of_reader(&[EXAMPLES], &[]),
    after_long_help = of_reader(&[EXAMPLES, DETAILS], &[]),
)]
pub(crate) struct TopArgs {
    /// The capture, or the directory of a store; `-` is standard input [default: this machine,
    /// live].
    #[arg(value_name = "FILE|DIR")]
    pub(crate) file: Option<PathBuf>,
    /// Read only the segments of this host.
    #[arg(long, value_name = "NAME", requires = "file")]
    pub(crate) host: Option<String>,
    /// Show the interval of the recording that ends at this time, for example 02:03 or -30s
    /// [default: its end].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true, requires = "file")]
    pub(crate) at: Option<Moment>,
    /// The property that the processes of a group have in common.
    #[arg(long, value_parser = named(GROUPS), default_value = "comm")]
    pub(crate) by: GroupBy,
    /// Sort by this column, the largest first; `key` sorts by the group.
    #[arg(long, value_enum, default_value_t = TopSortArg::Cpu)]
    pub(crate) sort: TopSortArg,
    /// Length of an interval, at least 100ms live.
    #[arg(long, value_name = "DURATION", value_parser = parse_std_duration, default_value = "1s")]
    pub(crate) interval: Duration,
    /// End after this number of intervals. In a recording, the last one ends at --at [default: no
    /// limit live, 1 in a recording].
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// End after this time, for example 10s or 1h30m [default: no limit].
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_std_duration, conflicts_with = "file")]
    pub(crate) duration: Option<Duration>,
    /// Maximum number of groups per interval in plain text and JSON; 0 is all [default: 20 in text,
    /// all in JSON].
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Also show groups without a start, an end or use of the CPU in the interval.
    #[arg(long)]
    pub(crate) idle: bool,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    /// Print one JSON object per group, and one per interval after its groups.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopSortArg {
    /// CPU time.
    Cpu,
    /// Number of processes that started.
    Starts,
    /// Number of processes that ended.
    Ends,
    /// Number of processes that failed.
    Failed,
    /// Number of running processes.
    Running,
    /// Median of the durations.
    P50,
    /// Longest duration.
    Max,
    /// Largest peak memory.
    Memory,
    /// The group.
    Key,
}
