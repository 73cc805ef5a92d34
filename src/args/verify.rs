//! The arguments of `pmon verify`.

use std::path::PathBuf;

use clap::Args;

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
    /// The capture to check, several of one host, or the directory of a store; `-` is standard
    /// input.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Check only the segments of this host.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}
