//! The arguments of `pmon diff`.

use std::path::PathBuf;

use clap::Args;

use super::help::{ExitCode, of_reader};

const EXAMPLES: &str = "\
Examples:
  pmon diff night.pmon again.pmon                  a capture and its replay
  pmon diff --by-cpu one.pmon two.pmon             two recorders of one host
  pmon diff --renumbered night.pmon again.pmon     after a filtered replay
  pmon diff --json night.pmon again.pmon | jq .difference
  ssh host cat night.pmon | pmon diff - night.pmon";

const DETAILS: &str = include_str!("help/diff.txt");

/// Further exit codes.
const CODES: &[ExitCode] = &[(8, "the captures differ, or comparing them was given up")];

#[derive(Debug, Args)]
#[command(
    after_help = of_reader(&[EXAMPLES], CODES),
    after_long_help = of_reader(&[EXAMPLES, DETAILS], CODES),
)]
pub(crate) struct DiffArgs {
    /// The first capture, or the directory of a store; `-` is standard input.
    #[arg(value_name = "FILE|DIR")]
    pub(crate) a: PathBuf,
    /// The second capture, or the directory of a store; `-` is standard input.
    #[arg(value_name = "FILE|DIR")]
    pub(crate) b: PathBuf,
    /// Read only the segments of this host from directories.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Compare the events and losses of each CPU separately.
    #[arg(long)]
    pub(crate) by_cpu: bool,
    /// Ignore the sequence numbers of events.
    #[arg(long)]
    pub(crate) renumbered: bool,
    /// Print one JSON object; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
}
