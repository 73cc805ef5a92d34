//! The verbs: each parses its input, runs, and returns the exit code.

pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod cut;
pub(crate) mod diff;
pub(crate) mod info;
pub(crate) mod print;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod snapshot;
pub(crate) mod synth;
pub(crate) mod vacuum;
pub(crate) mod verify;
pub(crate) mod watch;
