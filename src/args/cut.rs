//! The arguments of `pmon cut`.

use std::path::PathBuf;

use clap::Args;

use super::SelectionArgs;
use super::help::of_reader;
use crate::time_spec::Moment;

const EXAMPLES: &str = "\
Examples:
  pmon cut night.pmon --since 02:00 --until 02:10 -o incident.pmon
  pmon cut /var/lib/pmon --since -10m -o last.pmon
  pmon cut night.pmon --tree 4711 -o build.pmon      one process tree";

const DETAILS: &str = include_str!("help/cut.txt");

#[derive(Debug, Args)]
#[command(
    override_usage = "pmon cut [OPTIONS] -o FILE FILE|DIR...",
    after_help = of_reader(&[EXAMPLES], &[]),
    after_long_help = of_reader(&[EXAMPLES, DETAILS], &[]),
)]
pub(crate) struct CutArgs {
    /// The capture to cut, several of one host, or the directory of a store.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Read only the segments of this host.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// The excerpt to write; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// First time of the excerpt, for example +2s, -30s, 03:04:05 or "2026-01-02 03:04:05"
    /// [default: the start].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) since: Option<Moment>,
    /// Last time of the excerpt [default: the end].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) until: Option<Moment>,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// Replace an existing file.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one JSON object instead of text; docs/json.md has its fields.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print no summary and no progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
