//! Fault scripts: their language, when a fault is due, and the effects that last.

pub(crate) mod injector;
pub(crate) mod script;
pub(crate) mod script_toml;
