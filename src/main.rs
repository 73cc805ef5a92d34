//! The `pmon` command: records the process events of a Linux host, prints and replays them.
#![forbid(unsafe_code)]

mod args;
mod captures;
mod child;
mod commands;
mod config;
mod control;
mod counting_sink;
mod exit;
mod input;
mod interruptible;
mod output;
mod prescan;
mod progress;
mod query;
mod read_ahead;
mod report;
mod selection;
mod sql;
mod terminal;
mod time_spec;
mod users;
mod view;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use pmon_record::startup;

use args::{Cli, Command};
use exit::Failure;
use output::harmless;

fn main() -> ExitCode {
    if let Err(error) = startup::prepare() {
        return report(&Failure::new(exit::INTERNAL, format_args!("cannot handle signals: {error}")));
    }
    let line: Vec<_> = std::env::args_os().collect();
    let mut parser = Cli::command();
    let parsed = parser.try_get_matches_from_mut(&line).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut parser))?;
        Ok((cli, matches))
    });
    let command = match parsed {
        Ok((cli, matches)) => match args::replay_usage::check(&matches, &line) {
            Ok(()) => cli.command,
            Err(failure) => return report(&failure),
        },
        // The parser also returns help and version as an error.
        Err(mut message) => {
            args::replay_usage::explain(&mut message, &line);
            return print_message(message.exit_code(), message.use_stderr(), || print_harmless(&message));
        }
    };
    let Some(command) = command else {
        return print_message(0, false, || Cli::command().print_help());
    };
    let result = match command {
        Command::Record(_) => commands::record::run(&line),
        Command::Watch(args) => commands::watch::run(&args),
        Command::Print(args) => commands::print::run(&args),
        Command::Prove(args) => commands::prove::run(&args),
        Command::Ps(args) => commands::ps::run(&args),
        Command::Tree(args) => commands::tree::run(&args),
        Command::Why(args) => commands::why::run(&args),
        Command::Find(args) => commands::find::run(&args),
        Command::Stats(args) => commands::stats::run(&args),
        Command::Top(args) => commands::top::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Cut(args) => commands::cut::run(&args),
        Command::Info(args) => commands::info::run(&args),
        Command::Sql(args) => commands::sql::run(&args),
        Command::Snapshot(args) => commands::snapshot::run(&args),
        Command::Vacuum(args) => commands::vacuum::run(&args),
        Command::Control(args) => commands::control::run(&args),
        Command::Config(args) => commands::config::run(&args),
        Command::Synth(args) => commands::synth::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report(&failure),
    }
}

/// Prints help, the version or a usage error with `print`, and returns the exit code.
fn print_message(code: i32, to_stderr: bool, print: impl FnOnce() -> io::Result<()>) -> ExitCode {
    let code = ExitCode::from(u8::try_from(code).unwrap_or(exit::USAGE));
    if to_stderr {
        // If standard error is closed, the message is lost.
        let _ = print();
        return code;
    }
    let printed = terminal::output()
        .and_then(|mut out| print().and_then(|()| out.flush()).or_else(Failure::unless_closed));
    printed.map_or_else(|failure| report(&failure), |()| code)
}

/// Prints a message of the argument parser, which may quote arguments that could control the
/// terminal.
fn print_harmless(message: &clap::Error) -> io::Result<()> {
    let text = message.render().to_string();
    if text.lines().all(|line| harmless(line) == line) {
        return message.print();
    }
    text.lines().for_each(|line| terminal::eprintln(harmless(line)));
    Ok(())
}

fn report(failure: &Failure) -> ExitCode {
    failure.print();
    ExitCode::from(failure.code)
}
