//! The error of an invalid fault script.

use thiserror::Error;

/// Why a text is not a valid [`FaultScript`](crate::FaultScript), or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{message}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct FaultScriptError {
    line: Option<usize>,
    pub(super) message: String,
}

impl FaultScriptError {
    /// Creates an error, and writes its message on one line.
    pub(super) fn new(line: Option<usize>, message: &str) -> Self {
        let message = message.trim_end().replace('\n', "; ").replace(char::is_control, " ");
        Self { line, message }
    }

    /// Returns the line of the error, counted from 1, if it has one.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}
