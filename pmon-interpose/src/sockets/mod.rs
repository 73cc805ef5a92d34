//! The tracee's proc connector sockets and the system calls on them.

pub(crate) mod address;
pub(crate) mod delivery;
pub(crate) mod emitter;
pub(crate) mod native;
pub(crate) mod options;
pub(crate) mod poll;
pub(crate) mod proxy;
pub(crate) mod receive;
pub(crate) mod send;
pub(crate) mod table;
pub(crate) mod untracked;
pub(crate) mod usage;
pub(crate) mod wait_arguments;
pub(crate) mod wait_errors;
