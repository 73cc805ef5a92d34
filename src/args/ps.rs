//! The arguments of `pmon ps`.

use clap::Args;

use super::help::of_reader;
use super::{ProcessArgs, QuerySourceArgs};
use crate::commands::ps::PsColumn;
use crate::time_spec::Moment;

const EXAMPLES: &str = "\
Examples:
  pmon ps night.pmon --at 02:03             all processes at 02:03
  pmon ps /var/lib/pmon --at -1h            one hour before the end
  pmon ps night.pmon -o pid,user,unit,args  other columns, named as in ps
  pmon ps night.pmon --at 02:03 --user 1000 the processes of a user
  pmon ps night.pmon --json | jq .comm      one JSON object per process";

const DETAILS: &str = include_str!("help/ps.txt");

#[derive(Debug, Args)]
#[command(
    after_help = of_reader(&[EXAMPLES], &[]),
    after_long_help = of_reader(&[EXAMPLES, DETAILS], &[]),
)]
pub(crate) struct PsArgs {
    #[command(flatten)]
    pub(crate) source: QuerySourceArgs,
    /// The moment, for example 02:03, +10s after the start or -30s before the end [default: the
    /// end].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) at: Option<Moment>,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    /// Columns, separated by commas, for example pid,ppid,etime,args [default: user, pid, ppid,
    /// start, etime, args].
    #[arg(short = 'o', long = "columns", value_name = "COLUMN", value_delimiter = ',', value_parser = PsColumn::parse, conflicts_with = "json")]
    pub(crate) columns: Vec<PsColumn>,
    /// Print no header line.
    #[arg(long, conflicts_with = "json")]
    pub(crate) no_headers: bool,
    /// Print one JSON object per process, and then one about the completeness.
    #[arg(long)]
    pub(crate) json: bool,
}
