//! Newtypes for the numbers in process events, so that one cannot be passed as another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Thread id in the initial PID namespace: the kernel's `pid`, which `gettid(2)` returns.
    Tid(u32)
}
number! {
    /// Process id in the initial PID namespace: the kernel's `tgid`, which `getpid(2)` returns.
    Tgid(u32)
}
number! {
    /// Number of a CPU, as in `/sys/devices/system/cpu/cpuN`.
    Cpu(u32)
}
number! {
    /// Sequence number of an event on its CPU (`cn_msg.seq`). The kernel increments it for each
    /// event that the CPU emits; it wraps at 2^32.
    Seq(u32)
}
number! {
    /// Time in ns of `CLOCK_MONOTONIC` in the initial time namespace, the clock of
    /// `proc_event.timestamp_ns`.
    MonoNs(u64)
}

impl Seq {
    /// Returns the number after this one.
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// A thread and its process. For the first thread of a process, the two ids are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Task {
    /// Id of the thread (`process_pid` in the kernel's structs).
    pub tid: Tid,
    /// Id of the process (`process_tgid` in the kernel's structs).
    pub tgid: Tgid,
}

impl Task {
    /// Creates a task from its two ids.
    pub fn new(tid: u32, tgid: u32) -> Self {
        Self { tid: Tid(tid), tgid: Tgid(tgid) }
    }

    /// Returns whether this is the first thread of its process.
    pub fn is_leader(self) -> bool {
        self.tid.0 == self.tgid.0
    }
}
