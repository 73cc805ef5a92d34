//! The verbs: each parses its input, runs, and returns the exit code.

pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod cut;
pub(crate) mod diff;
pub(crate) mod find;
pub(crate) mod info;
pub(crate) mod print;
pub(crate) mod prove;
pub(crate) mod ps;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod snapshot;
pub(crate) mod sql;
pub(crate) mod stats;
pub(crate) mod synth;
pub(crate) mod top;
pub(crate) mod tree;
pub(crate) mod vacuum;
pub(crate) mod verify;
pub(crate) mod watch;
pub(crate) mod why;
