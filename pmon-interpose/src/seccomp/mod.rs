//! Interception of system calls: the seccomp filter and its listener.

pub(crate) mod fd_numbers;
pub(crate) mod filter;
pub(crate) mod listener;
