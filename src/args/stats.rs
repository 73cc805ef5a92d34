//! The arguments of `pmon stats`.

use clap::{Args, ValueEnum};
use pmon_analysis::groups::GroupBy;

use super::help::of_reader;
use super::named::named;
use super::{ProcessArgs, QuerySourceArgs, QueryTimeArgs};

const EXAMPLES: &str = "\
Examples:
  pmon stats night.pmon                            per name of processes
  pmon stats night.pmon --by args --sort cpu       the most expensive commands
  pmon stats night.pmon --by parent --comm ls      who keeps starting ls
  pmon stats night.pmon --by subtree               which ancestor is to blame
  pmon stats /var/lib/pmon --by unit --since -1h   per service, in an hour
  pmon stats night.pmon --exit failed --json       one JSON object per group";

const DETAILS: &str = "\
With --by subtree, each process counts for all of its ancestors. The count of
the first lines is nearly the same, down to the process that is to blame: it is
the last line before the count drops.

CPU time, memory and durations are those of processes that have ended. p50 and
p95 are exact to 1.6 %. The rate is that of starts. In the group `-`, the
property is unknown, or the processes have none. docs/query.md has details.
";

#[derive(Debug, Args)]
#[command(
    after_help = of_reader(&[EXAMPLES], &[]),
    after_long_help = of_reader(&[EXAMPLES, DETAILS], &[]),
)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) source: QuerySourceArgs,
    /// The property that the processes of a group have in common.
    #[arg(long, value_parser = named(GROUPS), default_value = "comm")]
    pub(crate) by: GroupBy,
    /// Sort by this column, the largest first; `key` sorts by the group.
    #[arg(long, value_enum, default_value_t = SortArg::Count)]
    pub(crate) sort: SortArg,
    /// Maximum number of groups; 0 is all [default: a screenful in text, all in JSON].
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) time: QueryTimeArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    /// Print one JSON object per group, and then one about the completeness.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) const GROUPS: &[(&str, GroupBy, &str)] = &[
    (GroupBy::Comm.name(), GroupBy::Comm, "Name of the process"),
    (GroupBy::Exe.name(), GroupBy::Exe, "Path of the executable"),
    (GroupBy::Args.name(), GroupBy::Args, "Command line"),
    (GroupBy::User.name(), GroupBy::User, "Real user ID"),
    (GroupBy::Unit.name(), GroupBy::Unit, "Unit of systemd"),
    (GroupBy::Container.name(), GroupBy::Container, "Container"),
    (GroupBy::Parent.name(), GroupBy::Parent, "The process that started it"),
    (GroupBy::Subtree.name(), GroupBy::Subtree, "Each of its ancestors"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortArg {
    /// Number of processes.
    Count,
    /// Number of processes that failed.
    Failed,
    /// Sum of the CPU times.
    Cpu,
    /// Median of the durations.
    P50,
    /// 95th percentile of the durations.
    P95,
    /// Longest duration.
    Max,
    /// Largest peak memory.
    Memory,
    /// Processes started per second.
    Rate,
    /// The group.
    Key,
}
