//! The `pmon` command: a flight recorder for Linux processes.
#![forbid(unsafe_code)]

mod args;
mod child;
mod cmd;
mod contrast;
mod control;
mod details;
mod exit;
mod input;
mod meter;
mod render;
mod selection;
mod sheet;
mod summary;
mod tape;
mod term;
mod verdict;
mod view;
mod when;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use pmon_record::startup;

use args::{Cli, Command};
use exit::Failure;

fn main() -> ExitCode {
    if let Err(error) = startup::prepare() {
        return report(&Failure::new(exit::INTERNAL, format_args!("cannot take signals: {error}")));
    }
    let Some(command) = Cli::parse().command else {
        return match Cli::command().print_help() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report(&Failure::output(error)),
        };
    };
    let result = match command {
        Command::Record(args) => cmd::record::run(&args),
        Command::Watch(args) => cmd::watch::run(&args),
        Command::Print(args) => cmd::print::run(&args),
        Command::Replay(args) => cmd::replay::run(&args),
        Command::Diff(args) => cmd::diff::run(&args),
        Command::Info(args) => cmd::info::run(&args),
        Command::Synth(args) => cmd::synth::run(&args),
        Command::Verify(args) => cmd::verify::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    failure.say();
    ExitCode::from(failure.code)
}
