//! The error of an invalid fault script.

use thiserror::Error;

/// Why a text is not a valid [`FaultScript`](crate::FaultScript), or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{message}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct FaultScriptError {
    pub(super) line: Option<usize>,
    pub(super) message: String,
}

impl FaultScriptError {
    /// Returns the line of the error, counted from 1, if it has one.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}
