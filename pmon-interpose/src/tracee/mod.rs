//! Reads and writes the state of the tracee: memory, file descriptors, process status.

pub(crate) mod abi;
pub(crate) mod fds;
pub(crate) mod memory;
pub(crate) mod processes;
pub(crate) mod scattered_copy;
