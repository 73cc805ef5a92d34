//! The arguments of `pmon print`.

use clap::Args;

use super::help::of_reader;
use super::{FilesArgs, TextArgs, ViewArgs};
use crate::time_spec::Moment;

const EXAMPLES: &str = "\
Examples:
  pmon print night.pmon                   all events of processes
  pmon print night.pmon --tree 4711       one process and its descendants
  pmon print night.pmon --since 02:00 --until 02:10 --kind exec,exit
  pmon print night.pmon --since -30s      the last 30 seconds
  pmon print /var/lib/pmon --since 02:00 --until 02:10    a part of a store
  pmon print /var/lib/pmon --follow --kind exec           as it is recorded
  pmon print night.pmon --format json | jq -r 'select(.kind==\"exec\").exe'";

const DETAILS: &str = include_str!("help/print.txt");

#[derive(Debug, Args)]
#[command(
    after_help = of_reader(&[EXAMPLES], &[]),
    after_long_help = of_reader(&[EXAMPLES, DETAILS], &[]),
)]
pub(crate) struct PrintArgs {
    #[command(flatten)]
    pub(crate) source: FilesArgs,
    /// Print only events from this time on, for example +2s, -30s, 03:04:05 or
    /// "2026-01-02 03:04:05" [default: the start].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) since: Option<Moment>,
    /// Print only events up to this time [default: the end].
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, allow_hyphen_values = true)]
    pub(crate) until: Option<Moment>,
    /// Go on with what is recorded from now on, until Ctrl-C; without --since, begin with the last
    /// 10 events.
    #[arg(long, short, conflicts_with = "until")]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
    #[command(flatten)]
    pub(crate) text: TextArgs,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn a_time_may_begin_with_a_minus() {
        let cli = Cli::try_parse_from(["pmon", "print", "x", "--since", "-30s"]).expect("parses");
        let Some(Command::Print(args)) = cli.command else { panic!("print") };
        assert_eq!(args.since, Some(Moment::BeforeEnd(30_000_000_000)));
    }
}
