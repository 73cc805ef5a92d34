//! How the command ends: exit codes, and the error that carries one.

use std::fmt::Display;
use std::io;

use crate::output::harmless;
use crate::terminal;

/// Done.
pub(crate) const DONE: u8 = 0;
/// An error within pmon.
pub(crate) const INTERNAL: u8 = 1;
/// The command line makes no sense. The argument parser itself ends with this one too.
pub(crate) const USAGE: u8 = 2;
/// Done, but not with what was asked for: the capture is incomplete, or a program's output is another.
pub(crate) const INCOMPLETE: u8 = 3;
/// The input is torn or corrupt; its intact part was used.
pub(crate) const DAMAGED: u8 = 4;
/// The input was refused: not a capture, or of a future version.
pub(crate) const REFUSED: u8 = 5;
/// The environment does not allow it: permission, kernel support, an input that cannot be read.
pub(crate) const ENVIRONMENT: u8 = 6;
/// The output cannot be written.
pub(crate) const STORAGE: u8 = 7;
/// Two captures were compared, and differ, or are too far apart to tell.
pub(crate) const DIFFERENT: u8 = 8;
/// Ended by a Ctrl-C that leaves the command to itself, as shells have it.
pub(crate) const INTERRUPTED: u8 = 128 + 2;
/// What `--help` says of them.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done                               4  input damaged; intact part used
  1  internal error                     5  input refused: not a capture, or too new
  2  usage                              6  no permission, no kernel support, or unreadable input
  3  `verify`, `record --strict`:       7  output cannot be written, or exists already
     the capture is incomplete;         8  `diff`: the captures differ
     `replay --expect`: other output       (or are too far apart to tell)
  `record -- CMD` ends with CMD's own: 128+N if signal N killed it, 127 if it was not found, 126 if
  it could not be run; 130 if a third Ctrl-C left it to itself. `replay FILE -- PROGRAM` does the same.";

/// An error, and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// What to say; `None` if nothing, as for a reader that went away.
    pub(crate) error: Option<anyhow::Error>,
}

impl Failure {
    /// Says it on standard error, if there is something to say.
    pub(crate) fn say(&self) {
        if let Some(error) = &self.error {
            terminal::say(format_args!("pmon: {}", harmless(&format!("{error:#}"))));
        }
    }

    /// An error that says everything itself.
    pub(crate) fn new(code: u8, message: impl Display) -> Self {
        Self { code, error: Some(anyhow::anyhow!("{message}")) }
    }

    /// Handles an error at the end of a text output. A closed pipe is not a failure.
    pub(crate) fn unless_closed(error: io::Error) -> Result<(), Self> {
        if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(Self::output(error)) }
    }

    /// An error of the program's output: a reader that went away is a quiet, clean end.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { code: DONE, error: None },
            _ => Self {
                code: STORAGE,
                error: Some(anyhow::Error::new(error).context("cannot write the output")),
            },
        }
    }
}

/// Gives an error its exit code and says what was being done.
pub(crate) trait OrFail<T> {
    /// The value, or a failure that begins with `what`.
    fn or_fail(self, code: u8, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_fail(self, code: u8, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure { code, error: Some(error.into().context(what.to_string())) })
    }
}
