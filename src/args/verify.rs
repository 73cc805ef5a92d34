//! The arguments of `pmon verify`.

use std::path::PathBuf;

use clap::Args;

use crate::exit;

const EXAMPLES: &str = "\
Examples:
  pmon verify night.pmon                          for people
  pmon verify night.pmon --json | jq .verdict     for programs
  pmon verify night.pmon && ./evaluate night.pmon    only if it is complete";

const DETAILS: &str = include_str!("help/verify.txt");

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{DETAILS}\n{}", exit::HELP))]
pub(crate) struct VerifyArgs {
    /// The capture to check; `-` is standard input.
    pub(crate) file: PathBuf,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}
