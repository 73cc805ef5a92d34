//! A task of the model, as `/proc` has to show it.

use pmon_analysis::{LiveProcess, RunState, Thread};
use pmon_core::Tid;
use pmon_core::capture::{Details, Meta, Usage};

/// What a kernel shows for an id of a user that it cannot express (`overflowuid`).
const NOBODY: u32 = 65_534;

/// A thread of a process.
pub(super) struct Shown<'a> {
    pub(super) life: &'a LiveProcess,
    pub(super) tid: u32,
    /// If it is not the first one.
    thread: Option<&'a Thread>,
    pub(super) meta: &'a Meta,
}

/// What kind of task it is: it decides what there is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One with an address space.
    User,
    /// The kernel's own.
    Kernel,
    /// One that has ended.
    Zombie,
}

impl<'a> Shown<'a> {
    pub(super) fn of(life: &'a LiveProcess, tid: u32, meta: &'a Meta) -> Self {
        Self { life, tid, thread: life.threads.get(&Tid(tid)), meta }
    }

    pub(super) fn kind(&self) -> Kind {
        if self.thread.is_none() && self.life.state() != RunState::Running {
            Kind::Zombie
        } else if self.life.is_kernel_thread() {
            Kind::Kernel
        } else {
            Kind::User
        }
    }

    pub(super) fn is_first(&self) -> bool {
        self.tid == self.life.pid.0
    }

    pub(super) fn pid(&self) -> u32 {
        self.life.pid.0
    }

    pub(super) fn ppid(&self) -> u32 {
        self.life.ppid.map_or(0, |ppid| ppid.0)
    }

    pub(super) fn name(&self) -> &'a [u8] {
        let name = self.thread.map_or(&self.life.name, |thread| &thread.name);
        name.as_deref().unwrap_or(b"?")
    }

    /// Real and effective.
    pub(super) fn uid(&self) -> (u32, u32) {
        self.life.uid.unwrap_or((NOBODY, NOBODY))
    }

    /// Real and effective.
    pub(super) fn gid(&self) -> (u32, u32) {
        self.life.gid.unwrap_or((NOBODY, NOBODY))
    }

    pub(super) fn session(&self) -> u32 {
        self.life.session.unwrap_or(0)
    }

    pub(super) fn group(&self) -> u32 {
        self.life.group.unwrap_or(0)
    }

    pub(super) fn start_ticks(&self) -> u64 {
        let ticks = self.thread.and_then(|thread| thread.start_ticks).or(self.life.start_ticks);
        ticks.unwrap_or(0)
    }

    /// Its threads, with a first one that has ended.
    pub(super) fn threads(&self) -> usize {
        1 + self.life.threads.len()
    }

    /// What it has used; of what goes on, nothing is known.
    pub(super) fn usage(&self) -> Usage {
        self.life.usage.as_deref().filter(|_| self.is_first()).copied().unwrap_or_default()
    }

    /// So many us in clock ticks.
    pub(super) fn ticks(&self, us: u64) -> u64 {
        (u128::from(us) * u128::from(self.meta.ticks_per_second) / 1_000_000) as u64
    }

    pub(super) fn details(&self) -> Option<&'a Details> {
        self.life.details.as_deref()
    }
}
