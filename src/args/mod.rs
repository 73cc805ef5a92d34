//! The command line as it is written; [`crate::commands`] interprets it.

mod config;
mod control;
mod cut;
mod diff;
mod find;
mod help;
mod info;
mod named;
mod print;
mod process;
mod prove;
mod ps;
mod query;
mod record;
mod replay;
mod size;
mod snapshot;
mod sql;
mod stats;
mod store;
mod synth;
mod top;
mod tree;
mod user;
mod vacuum;
mod verify;
mod view;
mod watch;
mod why;

use clap::{Parser, Subcommand};

pub(crate) use config::{ConfigArgs, ConfigCommand};
pub(crate) use control::{ControlArgs, ControlRequestArg};
pub(crate) use cut::CutArgs;
pub(crate) use diff::DiffArgs;
pub(crate) use find::FindArgs;
pub(crate) use info::InfoArgs;
pub(crate) use print::PrintArgs;
pub(crate) use process::{ProcessArgs, parse_regex};
pub(crate) use prove::ProveArgs;
pub(crate) use ps::PsArgs;
pub(crate) use query::{FilesArgs, QuerySourceArgs, QueryTimeArgs, RangeOrMomentArgs};
pub(crate) use record::RecordArgs;
pub(crate) use replay::usage as replay_usage;
pub(crate) use replay::{ProcArg, ReplayArgs, SpeedArg};
pub(crate) use snapshot::SnapshotArgs;
pub(crate) use sql::SqlArgs;
pub(crate) use stats::{SortArg, StatsArgs};
pub(crate) use store::StoreArgs;
pub(crate) use synth::SynthArgs;
pub(crate) use top::{TopArgs, TopSortArg};
pub(crate) use tree::TreeArgs;
pub(crate) use user::UserArg;
pub(crate) use vacuum::VacuumArgs;
pub(crate) use verify::VerifyArgs;
pub(crate) use view::{ClockArg, FormatArg, SelectionArgs, TextArgs, ViewArgs};
pub(crate) use watch::WatchArgs;
pub(crate) use why::WhyArgs;

const EXAMPLES: &str = "\
Examples:
  pmon record -o build.pmon -- make    record all events while `make` runs
  pmon tree build.pmon                 show which process started which
  pmon stats build.pmon --sort cpu     show which programs used the CPU
  pmon why build.pmon 4711             explain who started a process
  pmon verify build.pmon               check that nothing is missing
  pmon watch                           show processes as they start and end
  pmon replay build.pmon -- ./monitor  feed the events to a program under test

`pmon COMMAND --help` has more examples and all details.";

/// Record all process events of a Linux host, then query, verify or replay them.
#[derive(Debug, Parser)]
#[command(name = "pmon", version, after_help = help::of_command(&[EXAMPLES, help::STATUS_OF_COMMAND]), max_term_width = 80)]
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
    /// Show which groups of processes start, fail and use the CPU, live or at any time.
    Top(Box<TopArgs>),
    /// Print the events of a capture.
    Print(PrintArgs),
    /// List the processes that were running at a moment.
    Ps(PsArgs),
    /// Show the processes of a range of time below their parents.
    Tree(TreeArgs),
    /// Explain why a process was running: who started it, when and as whom.
    Why(WhyArgs),
    /// Search for processes by command line, program or name, and by how they ended.
    Find(FindArgs),
    /// Sum up processes by name, command, unit, parent or ancestor: count, failures, CPU.
    Stats(StatsArgs),
    /// Prove that no process of a kind ran, or state why that is unknown.
    Prove(Box<ProveArgs>),
    /// Run SQL on the processes and events of a recording.
    Sql(SqlArgs),
    /// Summarize what a capture contains and how complete it is.
    Info(InfoArgs),
    /// Check a capture for completeness.
    Verify(VerifyArgs),
    /// Write an excerpt of a capture or a store, which is a capture of its own.
    Cut(CutArgs),
    /// Compare the events and losses of two captures.
    Diff(DiffArgs),
    /// Replay a capture, for example into a program under test.
    Replay(Box<ReplayArgs>),
    /// Generate a synthetic capture for tests and benchmarks.
    Synth(SynthArgs),
    /// Write a clip of what the recorder of a store has just recorded.
    Snapshot(SnapshotArgs),
    /// Remove the oldest segments of a store.
    Vacuum(VacuumArgs),
    /// Control the recorder of a store.
    Control(ControlArgs),
    /// Check the configuration of a recorder.
    Config(ConfigArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::process::SELECTION;
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_options_that_select_processes_are_the_same_in_every_verb() {
        let mut command = Cli::command();
        command.build();
        let longs = |verb: &clap::Command| {
            let selecting = verb.get_arguments().filter(|arg| arg.get_help_heading() == Some(SELECTION));
            selecting.filter_map(|arg| arg.get_long()).map(str::to_owned).collect::<Vec<_>>()
        };
        let expected = [
            "args",
            "cgroup",
            "comm",
            "container",
            "exe",
            "exit",
            "longer-than",
            "pid",
            "tree",
            "unit",
            "user",
        ];
        for name in ["print", "watch", "ps", "tree", "why", "find", "stats", "top", "prove", "cut", "replay"]
        {
            let verb = command.find_subcommand(name).expect("a verb");
            let mut longs: Vec<_> = longs(verb).into_iter().map(|long| long.replace("select-", "")).collect();
            longs.sort();
            assert_eq!(longs, expected, "{name}");
            let selects_users = |arg: &&clap::Arg| arg.get_id() == "user";
            let user = verb.get_arguments().find(selects_users).expect("--user");
            let aliases = user.get_visible_aliases().expect("an alias");
            assert_eq!(aliases, [if name == "replay" { "select-uid" } else { "uid" }], "{name}");
        }
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
