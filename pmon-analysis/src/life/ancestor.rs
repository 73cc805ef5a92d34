//! The chain of processes that led to a process.

use std::sync::{Arc, OnceLock};

use pmon_core::MonoNs;

use super::{ProcessId, ProcessProgram};
use crate::process::Name;

/// Maximum length of a chain. Beyond it, the chain is cut, and the oldest ancestors are missing.
pub const MAX_ANCESTORS: u16 = 256;

/// A process as it was when it forked another one.
#[derive(Debug)]
pub struct Ancestor {
    /// Identity of the process.
    pub id: ProcessId,
    /// Process ID.
    pub pid: u32,
    /// Start of the process, if it is known.
    pub start: Option<MonoNs>,
    /// Name of the first thread.
    pub(super) name: Name,
    /// The program that the process ran.
    pub program: ProcessProgram,
    /// Real and effective user ID.
    pub uid: Option<(u32, u32)>,
    /// The process that forked this one, as it was then.
    pub parent: Option<Arc<Ancestor>>,
    /// Number of ancestors.
    pub(super) depth: u16,
    /// The process as a scan found it after this fork.
    pub(super) found: OnceLock<Arc<Ancestor>>,
}

impl Ancestor {
    /// Returns the name of the first thread.
    pub fn comm(&self) -> Option<&[u8]> {
        // The details of an exec can arrive after this process has forked.
        self.name.get().or_else(|| self.program.get().comm.as_deref())
    }

    /// Returns this process and its ancestors, the nearest first.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        self.links().take(usize::from(MAX_ANCESTORS))
    }

    /// Returns all that is known of the process: a process can fork before the scan at the start of
    /// the recording has found it.
    pub fn resolved(&self) -> &Self {
        let mut known = self;
        while let Some(found) = known.found.get() {
            known = found;
        }
        known
    }

    /// Returns the same as [`Ancestor::resolved`].
    pub(crate) fn into_resolved(mut self: Arc<Self>) -> Arc<Self> {
        while let Some(found) = self.found.get().cloned() {
            self = found;
        }
        self
    }

    /// Notes that a scan has found the process. In a forged recording, a process could become its
    /// own ancestor; then nothing changes.
    pub(super) fn set_found(&self, found: Arc<Self>) {
        if !found.links().any(|link| std::ptr::eq(link, self)) {
            let _ = self.found.set(found);
        }
    }

    fn links(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self.resolved()), |link| Some(link.parent.as_deref()?.resolved()))
    }
}

impl Drop for Ancestor {
    /// Drops a chain link by link: a recursion could exceed the stack.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        let mut rest: Vec<_> = self.found.take().into_iter().collect();
        while let Some(link) = next.or_else(|| rest.pop()) {
            next = Arc::into_inner(link).and_then(|mut link| {
                rest.extend(link.found.take());
                link.parent.take()
            });
        }
    }
}
