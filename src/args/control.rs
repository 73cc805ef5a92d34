//! The arguments of `pmon control`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pmon_store::control::SYSTEM_STORE;

use super::help::of_other;

const EXAMPLES: &str = "\
Examples:
  pmon control status                    what the recorder does
  pmon control status --json | jq .lost
  pmon control rotate                    begin the next segment
  pmon control reload                    read the configuration file again
  pmon control upgrade                   replace the recorder without a gap";

const DETAILS: &str = "\
The exit code is 6 if no recorder runs or the user may not use its socket, and 1
if the recorder refused the request.
";

#[derive(Debug, Args)]
#[command(after_help = of_other(&[EXAMPLES, DETAILS], &[]))]
pub(crate) struct ControlArgs {
    /// What the recorder shall do.
    #[arg(value_enum)]
    pub(crate) request: ControlRequestArg,
    /// The store of the recorder.
    #[arg(long, value_name = "DIR", default_value = SYSTEM_STORE)]
    pub(crate) store: PathBuf,
    /// Print the reply as JSON; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ControlRequestArg {
    /// Print the recorder's state.
    Status,
    /// Begin the next segment.
    Rotate,
    /// Read the configuration file again.
    Reload,
    /// Replace the recorder by the program that is installed now, without a gap.
    Upgrade,
}
