//! The arguments of `pmon vacuum`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::help::{ExitCode, of_other};
use super::size::parse_bytes;
use super::store::parse_max_age;

const EXAMPLES: &str = "\
Examples:
  pmon vacuum /var/lib/pmon --max-use 1G             remove the oldest segments
  pmon vacuum /var/lib/pmon --max-age 7d --dry-run   show what would be removed
  pmon vacuum /var/lib/pmon --keep-free 10G";

const DETAILS: &str = "\
Whole segments are removed, oldest first, until every given limit is met. The
newest segment, those that a recorder is writing, clips and foreign files are
kept. For a limit that cannot be met without them, no segment is removed. The
exit code is 7 if a segment cannot be removed or a limit cannot be met.
";

/// Further exit codes.
const CODES: &[ExitCode] = &[(7, "a segment cannot be removed, or a limit cannot be met")];

#[derive(Debug, Args)]
#[command(
    override_usage = "pmon vacuum [OPTIONS] DIR",
    after_help = of_other(&[EXAMPLES, DETAILS], CODES),
    group = ArgGroup::new("limit").required(true).multiple(true).args(["max_use", "max_age", "keep_free"]),
)]
pub(crate) struct VacuumArgs {
    /// The store.
    #[arg(value_name = "DIR")]
    pub(crate) store: PathBuf,
    /// Maximum size of the store, everything included.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) max_use: Option<u64>,
    /// Age at which a segment is removed, counted from its end, at least 1s.
    #[arg(long, value_name = "DURATION", value_parser = parse_max_age)]
    pub(crate) max_age: Option<Duration>,
    /// Space of the filesystem that shall be free.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) keep_free: Option<u64>,
    /// Show what would be removed, and remove nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}
