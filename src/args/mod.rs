//! The command line as it is written; [`crate::commands`] interprets it.

mod config;
mod control;
mod cut;
mod diff;
mod info;
mod print;
mod record;
mod replay;
mod size;
mod snapshot;
mod store;
mod synth;
mod vacuum;
mod verify;
mod view;
mod watch;

use clap::{Parser, Subcommand};

pub(crate) use config::{ConfigArgs, ConfigCommand};
pub(crate) use control::{ControlArgs, ControlRequestArg};
pub(crate) use cut::CutArgs;
pub(crate) use diff::DiffArgs;
pub(crate) use info::InfoArgs;
pub(crate) use print::PrintArgs;
pub(crate) use record::{RecordArgs, TransportArg};
pub(crate) use replay::usage as replay_usage;
pub(crate) use replay::{AtEndArg, ProcArg, ReplayArgs, SocketsArg, SpeedArg};
pub(crate) use snapshot::SnapshotArgs;
pub(crate) use store::StoreArgs;
pub(crate) use synth::SynthArgs;
pub(crate) use vacuum::VacuumArgs;
pub(crate) use verify::VerifyArgs;
pub(crate) use view::{ClockArg, FormatArg, SelectionArgs, ViewArgs};
pub(crate) use watch::WatchArgs;

use crate::exit;

const EXAMPLES: &str = "\
Examples:
  pmon watch                           show programs as they start and end
  pmon record -o build.pmon -- make    record all events while `make` runs
  pmon print build.pmon --kind exec    list the programs that ran
  pmon verify build.pmon               check that nothing is missing
  pmon replay build.pmon -- ./monitor  feed the events to a program under test

`pmon COMMAND --help` has more examples and all details.";

/// Record every process event of a Linux host, then print, verify or replay it.
#[derive(Debug, Parser)]
#[command(name = "pmon", version, after_help = format!("{EXAMPLES}\n\n{}", exit::HELP), max_term_width = 80)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Record process events to a file or a store, until Ctrl-C or while a command runs.
    Record(Box<RecordArgs>),
    /// Show process events as they happen.
    Watch(WatchArgs),
    /// Print the events of a capture.
    Print(PrintArgs),
    /// Replay a capture, for example into a program under test.
    Replay(Box<ReplayArgs>),
    /// Compare the events and losses of two captures.
    Diff(DiffArgs),
    /// Write an excerpt of a capture or a store, which is a capture of its own.
    Cut(CutArgs),
    /// Summarize what a capture contains and how complete it is.
    Info(InfoArgs),
    /// Check a capture for completeness.
    Verify(VerifyArgs),
    /// Write a clip of what the recorder of a store has just recorded.
    Snapshot(SnapshotArgs),
    /// Remove the oldest segments of a store.
    Vacuum(VacuumArgs),
    /// Control the recorder of a store.
    Control(ControlArgs),
    /// Check the configuration of a recorder.
    Config(ConfigArgs),
    /// Generate a synthetic capture for tests and benchmarks.
    Synth(SynthArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_80_columns() {
        let mut command = Cli::command();
        command.build();
        let verbs: Vec<_> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        let mut texts = vec![command.render_help(), command.render_long_help()];
        for verb in verbs {
            let verb = command.find_subcommand_mut(&verb).expect("a verb");
            texts.extend([verb.render_help(), verb.render_long_help()]);
        }
        for text in texts {
            for line in text.to_string().lines() {
                assert!(line.chars().count() <= 80, "{line:?}");
            }
        }
    }
}
