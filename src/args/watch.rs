//! The arguments of `pmon watch`.

use std::time::Duration;

use clap::Args;

use super::help::of_other;
use super::{TextArgs, ViewArgs};
use crate::time_spec::parse_std_duration;

const EXAMPLES: &str = "\
Examples:
  pmon watch                               all processes, until Ctrl-C
  pmon watch --kind exec                   only programs that start
  pmon watch --comm nginx --for 1m         processes named nginx, for a minute
  pmon watch --tree 4711 --threads         a process tree, with its threads
  pmon watch --format json | jq .args      JSON; docs/json.md has the fields";

#[derive(Debug, Args)]
#[command(after_help = of_other(&[EXAMPLES], &[]))]
pub(crate) struct WatchArgs {
    /// End after this time, for example 500ms, 10s or 1h30m [default: no limit].
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_std_duration)]
    pub(crate) duration: Option<Duration>,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
    #[command(flatten)]
    pub(crate) text: TextArgs,
}
