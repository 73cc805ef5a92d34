//! Mistakes in the command line of `pmon replay` that the argument parser does not explain.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, Command};

use super::{PROGRAM_OPTIONS, ReplayArgs};
use crate::exit::{self, Failure};

/// Name of the verb on the command line.
const VERB: &str = "replay";

/// Checks the parsed arguments of the command, whose words are `line`.
///
/// # Errors
/// When the program is missing, although options or a `--` announce it.
pub(crate) fn check(matches: &ArgMatches, line: &[OsString]) -> Result<(), Failure> {
    let Some(replay) = matches.subcommand_matches(VERB) else { return Ok(()) };
    if replay.contains_id("program") && replay.get_many::<OsString>("program").is_some() {
        return Ok(());
    }
    if line.last().is_some_and(|word| word == "--") {
        let why = "no program follows `--`; name one, for example `-- ./monitor`, or remove the `--`";
        return Err(Failure::new(exit::USAGE, why));
    }
    let files = replay.get_many::<PathBuf>("files").into_iter().flatten();
    let mut others = files.skip(1).filter(|file| !is_capture_name(file.as_os_str()));
    if let Some(program) = others.next() {
        return Err(Failure::new(exit::USAGE, program_tip(&program.to_string_lossy())));
    }
    let is_given = |id: &str| replay.value_source(id) == Some(ValueSource::CommandLine);
    let options = ReplayArgs::augment_args(Command::new(VERB));
    let mut options = options.get_arguments().filter(|arg| arg.get_help_heading() == Some(PROGRAM_OPTIONS));
    let Some(option) = options.find(|arg| is_given(arg.get_id().as_str())).and_then(|arg| arg.get_long())
    else {
        return Ok(());
    };
    let other = ["record", "socket"].into_iter().find(|id| is_given(id));
    let remove = other.map(|other| format!(", and remove --{other}")).unwrap_or_default();
    Err(Failure::new(
        exit::USAGE,
        format_args!("--{option} needs a program; append one, for example `-- ./monitor`{remove}"),
    ))
}

/// Adds a tip to the error of the argument parser about a program without `--` before it.
pub(crate) fn explain(error: &mut clap::Error, line: &[OsString]) {
    if error.kind() != ErrorKind::UnknownArgument || line.get(1).is_none_or(|verb| verb != VERB) {
        return;
    }
    let Some(program) = program_word(line) else { return };
    let tip = program_tip(&program.to_string_lossy());
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
}

fn program_tip(program: &str) -> String {
    format!("to run a program on the replayed events, write `--` before it: `-- {program}`")
}

/// Returns the first word after the first capture that is neither an option nor a value of one, nor
/// the name of a capture.
fn program_word(line: &[OsString]) -> Option<&OsString> {
    let words = line.get(2..)?;
    let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-") && word != "-";
    let before = |at: usize| at.checked_sub(1).and_then(|at| words.get(at));
    let is_value =
        |at: usize| before(at).is_some_and(|word| is_option(word) && !word.to_string_lossy().contains('='));
    let mut files =
        (0..words.len()).filter(|&at| !is_option(&words[at]) && !is_value(at)).map(|at| &words[at]);
    files.next()?;
    files.find(|file| !is_capture_name(file))
}

/// Returns whether a file has the usual name of a capture.
fn is_capture_name(file: &OsStr) -> bool {
    let name = file.as_encoded_bytes();
    name.ends_with(b".pmon") || name.ends_with(b".partial")
}
