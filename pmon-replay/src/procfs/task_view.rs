//! The data of a task in the form that the files in `/proc` need.

use pmon_analysis::{LiveProcess, RunState, Thread};
use pmon_core::Tid;
use pmon_core::capture::{Details, Meta, Usage};

/// ID that the kernel shows for a user or group that has no mapping (`overflowuid`).
const OVERFLOW_ID: u32 = 65_534;

/// A thread of a process, which may be the first one.
pub(super) struct TaskView<'a> {
    pub(super) process: &'a LiveProcess,
    pub(super) tid: u32,
    /// The thread, unless it is the first one.
    thread: Option<&'a Thread>,
    pub(super) meta: &'a Meta,
}

/// Kind of a task, which determines the available files and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskKind {
    /// A task with an address space.
    User,
    /// A kernel thread.
    Kernel,
    /// A process that has ended.
    Zombie,
}

impl<'a> TaskView<'a> {
    pub(super) fn new(process: &'a LiveProcess, tid: u32, meta: &'a Meta) -> Self {
        Self { process, tid, thread: process.threads.get(&Tid(tid)), meta }
    }

    pub(super) fn kind(&self) -> TaskKind {
        if self.thread.is_none() && self.process.state() != RunState::Running {
            TaskKind::Zombie
        } else if self.process.is_kernel_thread() {
            TaskKind::Kernel
        } else {
            TaskKind::User
        }
    }

    pub(super) fn is_first(&self) -> bool {
        self.tid == self.process.pid.0
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid.0
    }

    pub(super) fn ppid(&self) -> u32 {
        self.process.ppid.map_or(0, |ppid| ppid.0)
    }

    pub(super) fn name(&self) -> &'a [u8] {
        let name = self.thread.map_or(&self.process.name, |thread| &thread.name);
        name.as_deref().unwrap_or(b"?")
    }

    /// Returns the real and the effective user ID.
    pub(super) fn uid(&self) -> (u32, u32) {
        self.process.uid.unwrap_or((OVERFLOW_ID, OVERFLOW_ID))
    }

    /// Returns the real and the effective group ID.
    pub(super) fn gid(&self) -> (u32, u32) {
        self.process.gid.unwrap_or((OVERFLOW_ID, OVERFLOW_ID))
    }

    pub(super) fn session(&self) -> u32 {
        self.process.session.unwrap_or(0)
    }

    pub(super) fn group(&self) -> u32 {
        self.process.group.unwrap_or(0)
    }

    pub(super) fn start_ticks(&self) -> u64 {
        let ticks = self.thread.and_then(|thread| thread.start_ticks).or(self.process.start_ticks);
        ticks.unwrap_or(0)
    }

    /// Returns the number of threads, including a first thread that has exited.
    pub(super) fn threads(&self) -> usize {
        1 + self.process.threads.len()
    }

    /// Returns the resource usage, which is known only after the exit.
    pub(super) fn usage(&self) -> Usage {
        self.process.usage.as_deref().filter(|_| self.is_first()).copied().unwrap_or_default()
    }

    /// Converts microseconds to clock ticks.
    pub(super) fn ticks(&self, us: u64) -> u64 {
        (u128::from(us) * u128::from(self.meta.ticks_per_second) / 1_000_000) as u64
    }

    pub(super) fn details(&self) -> Option<&'a Details> {
        self.process.details.as_deref()
    }
}
