//! The arguments of `pmon prove`.

use clap::Args;

use super::help::{ExitCode, of_other};
use super::{ProcessArgs, QuerySourceArgs, QueryTimeArgs};

const EXAMPLES: &str = "\
Examples:
  pmon prove night.pmon --never --exe nc         no process ran nc
  pmon prove /var/lib/pmon --never --args 'curl .*evil' --since yesterday
  pmon prove night.pmon --never --exe '/tmp/**' --json > proof.json";

const DETAILS: &str = include_str!("help/prove.txt");

/// Further exit codes.
const CODES: &[ExitCode] = &[
    (0, "proven"),
    (1, "it ran; also an internal error"),
    (3, "cannot tell, for example because the recording is damaged"),
    (5, "the input is not a capture, or its format is too new"),
];

#[derive(Debug, Args)]
#[command(
    after_help = of_other(&[EXAMPLES], CODES),
    after_long_help = of_other(&[EXAMPLES, DETAILS], CODES),
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
