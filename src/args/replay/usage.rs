//! Mistakes in the command line of `pmon replay` that the argument parser does not explain.

use std::ffi::OsString;
use std::fs;

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
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return };
    if word.starts_with('-') {
        return;
    }
    let tip = format!("to run a program on the replayed events, write `--` before it: `-- {word}`");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
}

/// Parses a user id, or a name in `/etc/passwd`.
pub(super) fn parse_user(text: &str) -> Result<u32, String> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a user id is a number from 0 to 4294967295".into());
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find_user(&users, text).ok_or_else(|| "there is no such user in /etc/passwd; give a number".into())
}

/// Returns the id of a user in the text of `/etc/passwd`.
fn find_user(users: &str, name: &str) -> Option<u32> {
    let mut ids = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let is_found = fields.next() == Some(name) && !name.is_empty();
        is_found.then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    ids.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_names() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\n+nis\nbroken:x:one\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(["root", "ada"].map(|name| find_user(users, name)), [Some(0), Some(1000)]);
        for unknown in ["", "roo", "x", "+nis", "broken", "0"] {
            assert_eq!(find_user(users, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_user_is_a_number_or_a_name() {
        assert_eq!((parse_user("65534"), parse_user("root")), (Ok(65534), Ok(0)));
        assert!(parse_user("4294967296").unwrap_err().contains("from 0 to"));
        assert!(parse_user("-1").unwrap_err().contains("no such user"));
    }
}
