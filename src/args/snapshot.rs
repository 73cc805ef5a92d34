//! The arguments of `pmon snapshot`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pmon_store::control::SYSTEM_STORE;

use super::help::{ExitCode, of_other};

use crate::time_spec::parse_duration;

const EXAMPLES: &str = "\
Examples:
  pmon snapshot                          the last 30 s and the next 10 s
  pmon snapshot --before 5m --after 0s   what led to this moment
  pmon snapshot --name disk-full         in the clip's file name
  pmon print \"$(pmon snapshot --json | jq -r .path)\"";

const DETAILS: &str = "\
The recorder writes the clip into its store, and pmon waits until it is done.
The clip is a capture of its own: it has its own verdict, and every verb reads
it. Requests that overlap are merged into one clip. `kill -USR2 PID` requests a
clip with the defaults.

The exit code is 3 if the clip is not complete, 6 if no recorder runs or the
user may not use its socket, and 7 if the clip could not be written.
";

/// Further exit codes.
const CODES: &[ExitCode] = &[(3, "the clip is incomplete")];

#[derive(Debug, Args)]
#[command(after_help = of_other(&[EXAMPLES, DETAILS], CODES))]
pub(crate) struct SnapshotArgs {
    /// The store of the recorder.
    #[arg(long, value_name = "DIR", default_value = SYSTEM_STORE)]
    pub(crate) store: PathBuf,
    /// Time before now that the clip contains [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    pub(crate) before: Option<Duration>,
    /// Time from now on that the clip contains [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    pub(crate) after: Option<Duration>,
    /// Part of the clip's file name: letters, digits, `.`, `_` and `-` [default: snapshot].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Parses a duration that may be zero.
fn parse_span(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(Duration::from_nanos)
}
