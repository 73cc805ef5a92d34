//! The arguments of `pmon verify`.

use clap::Args;

use super::FilesArgs;
use super::help::{ExitCode, of_reader};

const EXAMPLES: &str = "\
Examples:
  pmon verify night.pmon                          for people
  pmon verify night.pmon --json | jq .verdict     for programs
  pmon verify /var/lib/pmon                       a store, across its segments
  pmon verify night.pmon && ./evaluate night.pmon    only if it is complete";

const DETAILS: &str = include_str!("help/verify.txt");

/// Further exit codes.
const CODES: &[ExitCode] = &[(3, "the recording is incomplete: lossy, blind, or not ended cleanly")];

#[derive(Debug, Args)]
#[command(after_help = of_reader(&[EXAMPLES, DETAILS], CODES))]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) source: FilesArgs,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}
