//! The arguments of `pmon why`.

use clap::Args;

use super::help::of_reader;
use super::{ProcessArgs, QuerySourceArgs, RangeOrMomentArgs};

const EXAMPLES: &str = "\
Examples:
  pmon why night.pmon 4711                   the last process with this ID
  pmon why night.pmon 4711 --at 02:03        the one that ran at 02:03
  pmon why night.pmon 'curl .*example'       by command line
  pmon why night.pmon --comm ls              by name
  pmon why night.pmon --exit killed          the last one that a signal killed
  pmon why /var/lib/pmon sshd --since -1h --all
  pmon why night.pmon 4711 --json | jq '.ancestors[].args?'";

const DETAILS: &str = include_str!("help/why.txt");

#[derive(Debug, Args)]
#[command(
    after_help = of_reader(&[EXAMPLES], &[]),
    after_long_help = of_reader(&[EXAMPLES, DETAILS], &[]),
)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(crate) source: QuerySourceArgs,
    /// The process: its ID, or a regular expression over its command line. It can be left out if
    /// another option selects processes.
    #[arg(value_name = "PID|PATTERN")]
    pub(crate) target: Option<String>,
    #[command(flatten)]
    pub(crate) time: RangeOrMomentArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    /// Explain all matching processes, at most 1,000, and not only the newest.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON object per explained process, and then one about the completeness.
    #[arg(long)]
    pub(crate) json: bool,
}
