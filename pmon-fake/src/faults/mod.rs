//! Fault scripts, and the injector that runs them.

pub(crate) mod injector;
pub(crate) mod script;
