//! The tracee's `/proc` and the system calls that refer to it.
//!
//! The content of the files comes from a [`ProcessView`](crate::ProcessView); during a replay,
//! `pmon_replay` generates it.

pub(crate) mod directory_listing;
pub(crate) mod file_pool;
pub(crate) mod path_calls;
mod path_walk;
mod proc_path;
pub(crate) mod stat_structs;
pub(crate) mod tree;
