//! The arguments of `pmon sql`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::QueryTimeArgs;
use super::help::{ExitCode, of_reader};
use crate::sql::OutputFormat;
use crate::time_spec::parse_std_duration;

const EXAMPLES: &str = "\
Examples:
  pmon sql night.pmon                     an interactive shell
  pmon sql night.pmon 'SELECT comm, count(*) FROM processes GROUP BY 1'
  pmon sql /var/lib/pmon --since 02:00 --until 02:10 --format csv \\
    'SELECT start_time, pid, args FROM processes WHERE term_signal = 9'
  pmon sql night.pmon < report.sql        statements from a file
  pmon sql --schema                       all tables and columns";

const DETAILS: &str = include_str!("help/sql.txt");

/// Further exit codes.
const CODES: &[ExitCode] = &[(10, "`--timeout`: the limit was reached")];

#[derive(Debug, Args)]
#[command(
    after_help = of_reader(&[EXAMPLES], CODES),
    after_long_help = of_reader(&[EXAMPLES, DETAILS], CODES),
)]
pub(crate) struct SqlArgs {
    /// The capture, or the directory of a store; `-` is standard input.
    #[arg(value_name = "FILE|DIR", required_unless_present = "schema")]
    pub(crate) file: Option<PathBuf>,
    /// The statements [default: those of standard input; on a terminal, a shell].
    #[arg(value_name = "SQL")]
    pub(crate) sql: Option<String>,
    /// Read only the segments of this host.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    #[command(flatten)]
    pub(crate) time: QueryTimeArgs,
    /// Format of the results.
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) format: OutputFormat,
    /// Give `start_time` of `processes` the value that it has in osquery: seconds since 1970.
    #[arg(long)]
    pub(crate) osquery: bool,
    /// End a statement after this time, for example 30s.
    #[arg(long, value_name = "DURATION", value_parser = parse_std_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print all tables, columns, views and functions in Markdown.
    #[arg(long, exclusive = true)]
    pub(crate) schema: bool,
}
