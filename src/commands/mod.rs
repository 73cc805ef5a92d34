//! The verbs: each parses its input, runs, and returns the exit code.

pub(crate) mod diff;
pub(crate) mod info;
pub(crate) mod print;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod synth;
pub(crate) mod verify;
pub(crate) mod watch;
