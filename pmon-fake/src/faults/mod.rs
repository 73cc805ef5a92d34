//! Fault scripts: their language, when a fault is due, and the effects that last.

pub(crate) mod amount;
mod errno_names;
pub(crate) mod injector;
pub(crate) mod losses;
mod nearest;
pub(crate) mod place;
pub(crate) mod script;
pub(crate) mod script_error;
mod script_toml;
mod toml_values;
