//! Newtypes for the numbers of process events, so that none can be taken for another.

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
    /// A thread's id: the kernel's `pid`, what `gettid(2)` returns, in the initial PID namespace.
    Tid(u32)
}
number! {
    /// A process's id: the kernel's `tgid`, what `getpid(2)` returns, in the initial PID namespace.
    Tgid(u32)
}
number! {
    /// A CPU's number, as in `/sys/devices/system/cpu/cpuN`.
    Cpu(u32)
}
number! {
    /// `cn_msg.seq`: a count per CPU that the kernel advances once for each event it emits; wraps at 2^32.
    Seq(u32)
}
number! {
    /// Nanoseconds of `CLOCK_MONOTONIC` in the initial time namespace, the clock of `proc_event.timestamp_ns`.
    MonoNs(u64)
}

impl Seq {
    /// The number that follows this one.
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// A thread and the process it belongs to; the two numbers are equal for a process's first thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Task {
    /// The thread (`process_pid` in the kernel's struct).
    pub tid: Tid,
    /// Its process (`process_tgid` in the kernel's struct).
    pub tgid: Tgid,
}

impl Task {
    /// A task from its two numbers.
    pub fn new(tid: u32, tgid: u32) -> Self {
        Self { tid: Tid(tid), tgid: Tgid(tgid) }
    }

    /// Whether this is the first thread of its process: its fork and exit are the process's own.
    pub fn is_leader(self) -> bool {
        self.tid.0 == self.tgid.0
    }
}
