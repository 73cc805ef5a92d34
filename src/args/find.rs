//! The arguments of `pmon find`.

use clap::Args;
use pmon_analysis::filter::Regex;

use super::help::of_reader;
use super::process::parse_regex;
use super::{ProcessArgs, QuerySourceArgs, QueryTimeArgs};

const EXAMPLES: &str = "\
Examples:
  pmon find night.pmon 'curl.*example.com'       who called curl, and when
  pmon find /var/lib/pmon backup --since -1d     in the last day of a store
  pmon find night.pmon --exit failed             every process that failed
  pmon find night.pmon --exit oom                what the OOM killer killed
  pmon find night.pmon '^cc1' --longer-than 5s   slow compilations
  pmon find night.pmon ssh --json | jq .args     one JSON object per process";

const DETAILS: &str = "\
The expression is searched in the command line, the executable, the working
directory and the name, of every program that the process ran. The other options
select by the last program. docs/query.md has the columns and JSON fields.
";

#[derive(Debug, Args)]
#[command(
    after_help = of_reader(&[EXAMPLES], &[]),
    after_long_help = of_reader(&[EXAMPLES, DETAILS], &[]),
)]
pub(crate) struct FindArgs {
    #[command(flatten)]
    pub(crate) source: QuerySourceArgs,
    /// The regular expression to search for [default: every process].
    #[arg(value_name = "REGEX", value_parser = parse_regex)]
    pub(crate) pattern: Option<Regex>,
    #[command(flatten)]
    pub(crate) time: QueryTimeArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    /// Print one JSON object per process, and then one about the completeness.
    #[arg(long)]
    pub(crate) json: bool,
}
