//! System calls that take the id or a pidfd of a process.

pub(crate) mod id_calls;
pub(crate) mod pidfd;
