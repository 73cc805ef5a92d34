//! The arguments of `pmon tree`.

use clap::Args;

use super::help::of_reader;
use super::{ProcessArgs, QuerySourceArgs, RangeOrMomentArgs};
use crate::time_spec::parse_duration;

const EXAMPLES: &str = "\
Examples:
  pmon tree build.pmon                 all processes, each below its parent
  pmon tree build.pmon make            only below processes that match `make`
  pmon tree night.pmon 4711            only below the processes with this ID
  pmon tree night.pmon --since 02:00 --until 02:10 --failed
  pmon tree /var/lib/pmon --at 02:03   the processes that ran at 02:03
  pmon tree build.pmon --exe cc1 --longer-than 1s --depth 4";

const DETAILS: &str = include_str!("help/tree.txt");

#[derive(Debug, Args)]
#[command(
    after_help = of_reader(&[EXAMPLES], &[]),
    after_long_help = of_reader(&[EXAMPLES, DETAILS], &[]),
)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    pub(crate) source: QuerySourceArgs,
    /// Begin with the processes that have this ID, or whose command line matches this regular
    /// expression [default: the oldest known ancestors].
    #[arg(value_name = "PID|PATTERN")]
    pub(crate) target: Option<String>,
    #[command(flatten)]
    pub(crate) time: RangeOrMomentArgs,
    /// Show at most this many levels.
    #[arg(long, value_name = "LEVELS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) depth: Option<u32>,
    /// Show only processes that ran at least this long, for example 500ms, and their ancestors.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) min_duration: Option<u64>,
    /// Show only processes that failed or were killed, and their ancestors.
    #[arg(long)]
    pub(crate) failed: bool,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    /// Fold more siblings of the same name than this into one line; 0 folds none.
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    pub(crate) fold: usize,
    /// Print one JSON object per line of the tree, and then one about the completeness.
    #[arg(long)]
    pub(crate) json: bool,
}
