//! Interception of system calls: the seccomp filter and its listener.

pub(crate) mod calls;
pub(crate) mod fd_numbers;
pub(crate) mod filter;
#[cfg(target_arch = "x86_64")]
pub(crate) mod i386;
pub(crate) mod listener;
