//! The configuration file of a recorder, and its merge with the command line.
//!
//! An option of the file becomes an argument before those of the command line, so that both have
//! the same parsers, limits and conflicts.

mod file;
mod line;

use std::ffi::OsString;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use pmon_store::Trigger;

use crate::args::{Cli, RecordArgs};
use crate::exit::{self, Failure};

pub(crate) use file::ConfigFile;
pub(crate) use line::{OptionInForce, OptionOrigin, differences};

/// Path of the configuration file that a recorder of a store reads if it exists.
pub(crate) const DEFAULT_PATH: &str = "/etc/pmon/pmon.toml";

/// Options that need `--store`.
const STORE_OPTIONS: [&str; 7] =
    ["rotate-size", "rotate-every", "max-use", "max-age", "keep-free", "flight", "flight-memory"];
/// Options that change while the recorder runs.
const RELOADABLE: [&str; 5] = ["rotate-size", "rotate-every", "max-use", "max-age", "keep-free"];

/// The options of `pmon record` from the command line and the configuration file.
pub(crate) struct RecordConfig {
    pub(crate) args: RecordArgs,
    /// The file, if one was read.
    pub(crate) file: Option<ConfigFile>,
    /// All options, in the order of the help.
    pub(crate) options: Vec<OptionInForce>,
}

impl RecordConfig {
    /// Reads the configuration file that this command line of `pmon record` names, or the default
    /// one if the recording goes to a store, and merges both.
    pub(crate) fn read(line: &[OsString]) -> Result<Self, Failure> {
        let (args, matches) = parse(line)?;
        let file = match (&args.store.config, &args.store.store) {
            (Some(path), _) => Some(ConfigFile::read(path)?),
            (None, Some(_)) if Path::new(DEFAULT_PATH).exists() => {
                Some(ConfigFile::read(Path::new(DEFAULT_PATH))?)
            }
            _ => None,
        };
        let config = Self::merge(line, &matches, file)?;
        config.check_store_options()?;
        Ok(config)
    }

    /// Reads a configuration file alone.
    pub(crate) fn check(path: &Path) -> Result<Self, Failure> {
        let line = ["pmon", "record"].map(OsString::from);
        let (_, matches) = parse(&line)?;
        Self::merge(&line, &matches, Some(ConfigFile::read(path)?))
    }

    fn merge(line: &[OsString], matches: &ArgMatches, file: Option<ConfigFile>) -> Result<Self, Failure> {
        let command = record_command();
        let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        // A flag takes precedence over the same option in the file, and over options that conflict
        // with it.
        let is_overridden = |long: &str| {
            let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(long)) else {
                return false;
            };
            given(arg.get_id().as_str())
                || command.get_arguments().filter(|other| given(other.get_id().as_str())).any(|other| {
                    let excludes = |a: &clap::Arg, b: &clap::Arg| {
                        command.get_arg_conflicts_with(a).iter().any(|arg| arg.get_id() == b.get_id())
                    };
                    excludes(arg, other) || excludes(other, arg)
                })
        };
        let from_file: Vec<_> =
            file.iter().flat_map(|file| &file.options).filter(|option| !is_overridden(&option.key)).collect();
        let arguments = from_file.iter().flat_map(|option| option.arguments.iter().cloned());
        let merged: Vec<_> =
            line.iter().take(2).cloned().chain(arguments).chain(line.iter().skip(2).cloned()).collect();
        let (args, matches) = parse(&merged).map_err(|failure| match &file {
            Some(file) => failure.prefixed(&file.shown()),
            None => failure,
        })?;
        let options = line::options_in_force(&command, &matches, &from_file);
        Ok(Self { args, file, options })
    }

    /// Returns the triggers of the file.
    pub(crate) fn triggers(&self) -> &[Trigger] {
        self.file.as_ref().map_or(&[], |file| &file.triggers)
    }

    /// Takes over what can change while the recorder runs from `new`. The other options keep their
    /// values until the recorder is restarted.
    pub(crate) fn take_reloadable(&mut self, new: Self) {
        for option in new.options {
            if is_reloadable(&option.key)
                && let Some(own) = self.options.iter_mut().find(|own| own.key == option.key)
            {
                *own = option;
            }
        }
        self.file = new.file;
    }

    /// Returns an error if an option needs `--store`, which is not given.
    fn check_store_options(&self) -> Result<(), Failure> {
        if self.args.store.store.is_some() {
            return Ok(());
        }
        let needs_store = |option: &&OptionInForce| {
            STORE_OPTIONS.contains(&option.key.as_str()) && !matches!(option.origin, OptionOrigin::Default)
        };
        match self.options.iter().find(needs_store) {
            None if !self.triggers().is_empty() => {
                let file = self.file.as_ref().map(ConfigFile::shown).unwrap_or_default();
                Err(Failure::new(exit::USAGE, format_args!("{file}: triggers need --store DIR")))
            }
            None => Ok(()),
            Some(option) => Err(Failure::new(
                exit::USAGE,
                format_args!(
                    "{} needs --store DIR; without it, pmon records to one file",
                    option.shown(self.file.as_ref())
                ),
            )),
        }
    }
}

/// Whether an option can change while the recorder runs.
pub(crate) fn is_reloadable(key: &str) -> bool {
    RELOADABLE.contains(&key)
}

/// Returns the definition of `pmon record`.
fn record_command() -> Command {
    let mut command = Cli::command();
    command.build();
    command.find_subcommand("record").cloned().unwrap_or_default()
}

/// Parses a command line of `pmon record`.
fn parse(line: &[OsString]) -> Result<(RecordArgs, ArgMatches), Failure> {
    let mut matches = Cli::command().try_get_matches_from(line).map_err(|error| usage(&error))?;
    let Some((_, matches)) = matches.remove_subcommand() else {
        return Err(Failure::new(exit::INTERNAL, "`record` is missing in its own command line"));
    };
    let args = RecordArgs::from_arg_matches(&matches).map_err(|error| usage(&error))?;
    Ok((args, matches))
}

/// Converts an error of the argument parser to its first line, which states the error.
fn usage(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    Failure::new(exit::USAGE, text.strip_prefix("error: ").unwrap_or(text))
}

#[cfg(test)]
mod tests;
