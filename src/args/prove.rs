//! The arguments of `pmon prove`.

use clap::Args;

use super::{ProcessArgs, QuerySourceArgs, QueryTimeArgs};
use crate::exit;

const EXAMPLES: &str = "\
Examples:
  pmon prove night.pmon --never --exe nc         no process ran nc
  pmon prove /var/lib/pmon --never --args 'curl .*evil' --since yesterday
  pmon prove night.pmon --never --exe '/tmp/**' --json > proof.json";

const DETAILS: &str = include_str!("help/prove.txt");

#[derive(Debug, Args)]
#[command(
    after_help = format!("{EXAMPLES}\n\n{}", exit::HELP),
    after_long_help = format!("{EXAMPLES}\n\n{DETAILS}\n{}", exit::HELP),
)]
pub(crate) struct ProveArgs {
    #[command(flatten)]
    pub(crate) source: QuerySourceArgs,
    /// Prove that no such process ran.
    #[arg(long, required = true)]
    pub(crate) never: bool,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    pub(crate) time: QueryTimeArgs,
    /// Print one JSON object, with the SHA-256 digests of the files.
    #[arg(long)]
    pub(crate) json: bool,
}
