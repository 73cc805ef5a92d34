//! The arguments of `pmon info`.

use clap::Args;

use super::FilesArgs;
use super::help::of_reader;

const EXAMPLES: &str = "\
Examples:
  pmon info night.pmon                            for people
  pmon info night.pmon --json | jq .events        for programs
  pmon info /var/lib/pmon                         a store and its segments
  ssh host cat night.pmon | pmon info -           through a pipe";

#[derive(Debug, Args)]
#[command(after_help = of_reader(&[EXAMPLES], &[]))]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) source: FilesArgs,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}
