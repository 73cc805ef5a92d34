//! Which system calls are intercepted.

pub(crate) mod filter;
pub(crate) mod reserved;
