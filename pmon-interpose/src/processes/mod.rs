//! System calls about processes: ids, signals, pidfds.

pub(crate) mod ids;
pub(crate) mod pidfd;
