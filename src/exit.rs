//! Exit codes, and the error type that carries one.

use std::fmt::Display;
use std::io::{self, Write as _};

use crate::output::harmless;

/// Success.
pub(crate) const DONE: u8 = 0;
/// An internal error of pmon.
pub(crate) const INTERNAL: u8 = 1;
/// `prove`: such a process ran.
pub(crate) const RAN: u8 = 1;
/// Wrong usage. The argument parser uses this code, too.
pub(crate) const USAGE: u8 = 2;
/// The requested completeness or output was not reached: the capture is incomplete, or the output
/// of a program is not the expected one.
pub(crate) const INCOMPLETE: u8 = 3;
/// The input is damaged; its intact part was used.
pub(crate) const DAMAGED: u8 = 4;
/// The input was refused: it is not a capture, or of a future version.
pub(crate) const REFUSED: u8 = 5;
/// The environment prevents the operation: permissions, kernel support, or an unreadable input.
pub(crate) const ENVIRONMENT: u8 = 6;
/// The output cannot be written.
pub(crate) const STORAGE: u8 = 7;
/// Two captures differ, or comparing them was given up.
pub(crate) const DIFFERENT: u8 = 8;
/// A test with `replay --expect` tested nothing, or less than requested.
pub(crate) const UNTESTED: u8 = 9;
/// The limit of `replay --limit` or `sql --timeout` was reached.
pub(crate) const LIMIT: u8 = 10;
/// Ended by a Ctrl-C that leaves the command running; the code that shells use for SIGINT.
pub(crate) const INTERRUPTED: u8 = 128 + 2;

/// An error and the exit code for it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// The message; `None` for a silent end, for example if the reader of a pipe closed it.
    pub(crate) error: Option<anyhow::Error>,
}

impl Failure {
    /// Prints the message to standard error, if there is one.
    pub(crate) fn print(&self) {
        if let Some(error) = &self.error {
            let _ = writeln!(io::stderr().lock(), "pmon: {}", harmless(&format!("{error:#}")));
        }
    }

    /// Creates an error whose message is complete.
    pub(crate) fn new(code: u8, message: impl Display) -> Self {
        Self { code, error: Some(anyhow::anyhow!("{message}")) }
    }

    /// Returns the message; empty for a silent end.
    pub(crate) fn message(&self) -> String {
        self.error.as_ref().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    /// Puts what to do next after the message.
    pub(crate) fn followed_by(self, next: &str) -> Self {
        Self::new(self.code, format_args!("{}; {next}", self.message()))
    }

    /// Puts a place, such as the name of a file, before the message.
    pub(crate) fn prefixed(self, place: &str) -> Self {
        Self::new(self.code, format_args!("{place}: {}", self.message()))
    }

    /// Handles an error at the end of a text output. A closed pipe is not a failure.
    pub(crate) fn unless_closed(error: io::Error) -> Result<(), Self> {
        if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(Self::output(error)) }
    }

    /// Converts an error of a text output. If the reader closed the pipe, pmon ends silently with
    /// success.
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

/// Converts errors to a [`Failure`].
pub(crate) trait OrFail<T> {
    /// Returns the value, or a failure with this exit code whose message begins with `what`.
    fn or_fail(self, code: u8, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_fail(self, code: u8, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure { code, error: Some(error.into().context(what.to_string())) })
    }
}
