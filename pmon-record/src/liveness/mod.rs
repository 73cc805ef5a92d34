//! Reveals losses, and times in which the kernel emits no events.

pub(crate) mod checkpoint;
pub(crate) mod fence;
pub(crate) mod fork_count;
pub(crate) mod fork_witness;
pub(crate) mod heartbeat;
pub(crate) mod monitor;
pub(crate) mod resubscribe;
