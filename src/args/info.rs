//! The arguments of `pmon info`.

use std::path::PathBuf;

use clap::Args;

use crate::exit;

const EXAMPLES: &str = "\
Examples:
  pmon info night.pmon                            for people
  pmon info night.pmon --json | jq .events        for programs
  ssh host cat night.pmon | pmon info -           through a pipe";

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub(crate) struct InfoArgs {
    /// The capture to summarize; `-` is standard input.
    pub(crate) file: PathBuf,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}
