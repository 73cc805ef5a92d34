//! Parses a configuration file.

use std::error::Error as _;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};
use pmon_store::{Trigger, parse_triggers};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::exit::{self, Failure, OrFail as _};
use crate::input::shown;

/// Maximum size of a configuration file in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Options of the command line that have no place in a file.
pub(super) const EXCLUDED: [&str; 2] = ["config", "help"];

/// A parsed configuration file, whose options are valid one by one.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) triggers: Vec<Trigger>,
    /// Options in the order of their keys.
    pub(crate) options: Vec<ConfigOption>,
}

/// An option of a configuration file.
#[derive(Debug)]
pub(crate) struct ConfigOption {
    /// The option's long name.
    pub(crate) key: String,
    /// Line of the file, counted from 1.
    pub(crate) line: usize,
    /// The option as arguments of the command line; none for a flag that is off.
    pub(crate) arguments: Vec<OsString>,
}

impl ConfigFile {
    /// Reads and parses a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let what = || format!("cannot read the configuration {}", shown(path));
        let mut bytes = Vec::new();
        let file = File::open(path).or_fail(exit::ENVIRONMENT, what())?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).or_fail(exit::ENVIRONMENT, what())?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Failure::new(exit::USAGE, format_args!("{}: it is larger than 1 MiB", what())));
        }
        let text = String::from_utf8(bytes).or_fail(exit::USAGE, what())?;
        Self::parse(path, &text)
    }

    /// Parses the text of a file.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let failed = |span: Range<usize>, what: &str| {
            let line = line_of(text, span.start);
            Err(Failure::new(exit::USAGE, format_args!("{}:{line}: {what}", shown(path))))
        };
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let span = error.span().unwrap_or_default();
                return failed(span.clone(), &toml_error(text, span, error.message()));
            }
        };
        let command = super::record_command();
        let mut options = Vec::new();
        for (key, value) in &table {
            if key.get_ref() == "trigger" {
                continue;
            }
            match arguments(&command, key.get_ref(), value) {
                Ok(arguments) => {
                    let line = line_of(text, key.span().start);
                    options.push(ConfigOption { key: key.get_ref().to_string(), line, arguments });
                }
                Err(OptionError::Key(what)) => return failed(key.span(), &what),
                Err(OptionError::Value(what)) => {
                    return failed(value.span(), &format!("{}: {what}", key.get_ref()));
                }
            }
        }
        match parse_triggers(text) {
            Ok(triggers) => Ok(Self { path: path.to_owned(), triggers, options }),
            Err(error) => failed(error.span, &error.message),
        }
    }

    /// Returns the file's name for messages.
    pub(crate) fn shown(&self) -> String {
        shown(&self.path)
    }
}

/// What is wrong with an option.
enum OptionError {
    Key(String),
    Value(String),
}

/// Returns an option as arguments of the command line.
fn arguments(
    command: &Command,
    key: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<OsString>, OptionError> {
    let is_key = |arg: &&Arg| arg.get_long() == Some(key) && !EXCLUDED.contains(&key);
    let Some(arg) = command.get_arguments().find(is_key) else {
        return Err(OptionError::Key(unknown(command, key)));
    };
    let value = value.get_ref();
    let arguments = match (arg.get_action(), value) {
        (ArgAction::SetTrue, DeValue::Boolean(true)) => vec![format!("--{key}").into()],
        (ArgAction::SetTrue, DeValue::Boolean(false)) => vec![],
        (ArgAction::SetTrue, _) => return Err(OptionError::Value("expected true or false".into())),
        // An option whose value can be left out.
        (_, DeValue::Boolean(true)) if arg.get_num_args().is_some_and(|range| range.min_values() == 0) => {
            vec![format!("--{key}").into()]
        }
        (_, DeValue::Array(items)) if items.is_empty() => {
            return Err(OptionError::Value("the list is empty; remove the key, or add a value".into()));
        }
        (_, DeValue::Array(items)) if arg.get_value_delimiter().is_some() => {
            let items: Option<Vec<_>> = items.iter().map(|item| scalar(item.get_ref())).collect();
            let Some(items) = items else {
                return Err(OptionError::Value("expected a list of strings or numbers".into()));
            };
            if items.iter().any(String::is_empty) {
                return Err(OptionError::Value(empty(arg)));
            }
            items.into_iter().map(|item| format!("--{key}={item}").into()).collect()
        }
        (_, value) => match scalar(value) {
            Some(text) if text.is_empty() => return Err(OptionError::Value(empty(arg))),
            Some(text) => vec![format!("--{key}={text}").into()],
            None => return Err(OptionError::Value(expected(arg))),
        },
    };
    let line = [OsString::from("record")].into_iter().chain(arguments.iter().cloned());
    match command.clone().try_get_matches_from(line) {
        Ok(_) => Ok(arguments),
        Err(error) => Err(OptionError::Value(reason(&error))),
    }
}

/// Returns a string or an integer as an argument.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let number = i128::from_str_radix(&number.as_str().replace('_', ""), number.radix());
            number.ok().map(|number| number.to_string())
        }
        _ => None,
    }
}

/// Describes the type of an option's value.
fn expected(arg: &Arg) -> String {
    let name = arg.get_value_names().and_then(|names| names.first()).map_or("VALUE", |name| name.as_str());
    let choices: Vec<_> = arg.get_possible_values();
    if !choices.is_empty() {
        let names: Vec<_> = choices.iter().map(|choice| choice.get_name()).collect();
        return format!("expected one of {}", names.join(", "));
    }
    let default = arg.get_default_values().first().and_then(|value| value.to_str());
    let example = |usual| default.unwrap_or(usual);
    match name {
        "SIZE" => format!("expected a size, for example \"{}\"", example("10G")),
        "DURATION" => format!("expected a duration, for example \"{}\"", example("7d")),
        "FILE" | "DIR" | "PATH" => "expected a path as a string".into(),
        "PID" => "expected a process id as a number".into(),
        "REGEX" => "expected a regular expression as a string".into(),
        name if arg.get_value_delimiter().is_some() => {
            format!("expected a list of {}, for example [..]", name.trim_end_matches(",.."))
        }
        name => format!("expected a {name} as a string or a number"),
    }
}

/// Describes an empty value.
fn empty(arg: &Arg) -> String {
    format!("the value is empty; {}, or remove the key", expected(arg))
}

/// Describes why a text is no TOML.
fn toml_error(text: &str, span: Range<usize>, message: &str) -> String {
    match (message, text.get(span)) {
        ("duplicate key", Some(key)) if !key.is_empty() => {
            format!("the key `{key}` is given twice; remove one of both")
        }
        _ => message.to_owned(),
    }
}

/// Returns what is wrong with a value, without the name of the option.
fn reason(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::InvalidValue
        && let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue)
    {
        return format!("expected one of {}", valid.join(", "));
    }
    let text = super::usage(error);
    error.source().map_or_else(|| text.message(), ToString::to_string)
}

/// Describes an unknown key, with the most similar option.
fn unknown(command: &Command, key: &str) -> String {
    if EXCLUDED.contains(&key) {
        return format!("`{key}` cannot be set in a file");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let similar = || {
        let line = ["record".to_owned(), format!("--{key}")];
        let error = command.clone().try_get_matches_from(line).err()?;
        match error.get(ContextKind::SuggestedArg)? {
            ContextValue::String(option) => Some(option.trim_start_matches('-').to_owned()),
            _ => None,
        }
    };
    if !key.contains('-') && key.to_lowercase().starts_with("trig") {
        return format!("there is no option `{key}`; a trigger is written as [[trigger]]");
    }
    let similar = if key.starts_with(is_plain) && key.chars().all(is_plain) { similar() } else { None };
    match similar {
        Some(option) => format!("there is no option `{key}`; a similar one is `{option}`"),
        None => format!("there is no option `{key}`; `pmon record --help` lists all"),
    }
}

/// Returns the line of a byte, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}
