//! The processes that a question names.

use pmon_analysis::filter::{Regex, command_line};
use pmon_analysis::life::{Life, Program};

use crate::args::parse_regex;
use crate::exit::{self, Failure};

/// The processes that a question names: by ID, or by their command lines.
#[derive(Debug)]
pub(crate) enum QueryTarget {
    /// The processes that had this ID, one after the other.
    Pid(u32),
    /// The processes that executed a matching command line.
    Pattern(Regex),
}

impl QueryTarget {
    /// Parses the argument: a number is a process ID, everything else a regular expression.
    ///
    /// # Errors
    /// Fails if the regular expression is invalid.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if let Ok(pid) = text.parse() {
            return Ok(Self::Pid(pid));
        }
        let regex = parse_regex(text);
        let regex = regex.map_err(|why| Failure::new(exit::USAGE, format_args!("`{text}` is {why}")))?;
        Ok(Self::Pattern(regex))
    }

    /// Returns whether the question names this process.
    pub(crate) fn matches(&self, life: &Life) -> bool {
        match self {
            Self::Pid(pid) => life.pid == *pid,
            // Without an exec, the process runs the program of the one that forked it.
            Self::Pattern(regex) if life.execs.is_empty() => is_match(regex, life.program.get(), life.comm()),
            Self::Pattern(regex) => {
                life.execs.iter().any(|exec| is_match(regex, exec.program.get(), life.comm()))
            }
        }
    }
}

fn is_match(regex: &Regex, program: &Program, comm: Option<&[u8]>) -> bool {
    match program.args.as_deref().filter(|args| !args.is_empty()) {
        Some(args) => regex.is_match(&command_line(args)),
        None => comm.is_some_and(|comm| regex.is_match(comm)),
    }
}
