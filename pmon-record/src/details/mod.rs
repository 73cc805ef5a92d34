//! Details of processes from `/proc`, after an exec or in a snapshot.

pub(crate) mod cgroups;
pub(crate) mod containers;
pub(crate) mod exec;
pub(crate) mod procfs;
pub(crate) mod redact;
pub(crate) mod settle;
pub(crate) mod snapshot;
