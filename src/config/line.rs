//! The options that are in force, as text.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::file::{ConfigFile, ConfigOption, EXCLUDED};
use crate::output::json_text;

/// An option of `pmon record` and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionInForce {
    /// The option's long name.
    pub(crate) key: String,
    /// The values as given; none for a flag that is off, and for an option without a value.
    pub(crate) values: Vec<String>,
    pub(crate) is_flag: bool,
    pub(crate) origin: OptionOrigin,
}

/// Where the values of an option come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionOrigin {
    Default,
    /// A line of the configuration file.
    File(usize),
    CommandLine,
}

impl OptionInForce {
    /// Returns the option as messages name it.
    pub(crate) fn shown(&self, file: Option<&ConfigFile>) -> String {
        match (self.origin, file) {
            (OptionOrigin::File(line), Some(file)) => format!("{}:{line}: {}", file.shown(), self.key),
            _ => format!("--{}", self.key),
        }
    }

    /// Returns the option as a line of a configuration file, with its origin as a comment.
    pub(crate) fn toml(&self) -> String {
        let quoted = |text: &String| json_text(&text.as_str().into());
        let value = match &self.values[..] {
            [] if self.is_flag => "false".into(),
            [] => return format!("# {} is not set", self.key),
            _ if self.is_flag => "true".into(),
            [value] => quoted(value),
            values => format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        };
        let origin = match self.origin {
            OptionOrigin::Default => "default".into(),
            OptionOrigin::File(line) => format!("line {line}"),
            OptionOrigin::CommandLine => "command line".to_owned(),
        };
        format!("{:<32} # {origin}", format!("{} = {value}", self.key))
    }
}

/// Returns all options that can be in a configuration file, in the order of the help.
pub(super) fn options_in_force(
    command: &Command,
    matches: &ArgMatches,
    from_file: &[&ConfigOption],
) -> Vec<OptionInForce> {
    let option = |arg: &Arg| {
        let key = arg.get_long().filter(|key| !EXCLUDED.contains(key))?;
        let id = arg.get_id().as_str();
        let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
        let origin = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => from_file
                .iter()
                .find(|option| option.key == key)
                .map_or(OptionOrigin::CommandLine, |option| OptionOrigin::File(option.line)),
            _ => OptionOrigin::Default,
        };
        let values = if is_flag {
            if matches.get_flag(id) { vec!["true".to_owned()] } else { vec![] }
        } else {
            let raw = matches.get_raw(id).into_iter().flatten();
            raw.map(|value| value.to_string_lossy().into_owned()).collect()
        };
        Some(OptionInForce { key: key.to_owned(), values, is_flag, origin })
    };
    command.get_arguments().filter_map(option).collect()
}

/// Returns the keys of the options whose values differ.
pub(crate) fn differences(before: &[OptionInForce], after: &[OptionInForce]) -> Vec<String> {
    let differs = |option: &&OptionInForce| {
        before.iter().find(|other| other.key == option.key).is_none_or(|other| other.values != option.values)
    };
    after.iter().filter(differs).map(|option| option.key.clone()).collect()
}
