//! The tracee's `/proc` and the system calls that look at it.

pub(crate) mod file_status;
pub(crate) mod listing;
pub(crate) mod paths;
pub(crate) mod tree;
