//! The arguments of `pmon info`.

use std::path::PathBuf;

use clap::Args;

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
    /// The capture to summarize, several of one host, or the directory of a store; `-` is standard
    /// input.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Read only the segments of this host.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}
