//! A process while the recording is read, without a copy.

use pmon_core::MonoNs;

use super::{Ancestor, LifeSignal, ProcessId, ProcessStart, Program, duration_ns};
use crate::process::Name;

/// A process as of the last record, as [`LifeTracker::last_life`](super::LifeTracker::last_life)
/// returns it. Unknown properties are `None`; [`Life`](super::Life) describes them.
#[derive(Clone, Copy, Debug)]
pub struct LifeRef<'a> {
    /// Identity of the process.
    pub id: ProcessId,
    pub(super) origin: ProcessStart,
    /// Start of the process.
    pub start: Option<MonoNs>,
    /// Time of the end, if the last record has ended the process.
    pub(super) end: Option<MonoNs>,
    pub(super) parent: Option<&'a Ancestor>,
    /// Process ID of the last known parent.
    pub ppid: Option<u32>,
    /// Whether `ppid` is only assumed to be 1.
    pub is_parent_assumed: bool,
    /// Identity of the process that `ppid` refers to.
    pub parent_id: Option<ProcessId>,
    pub(super) name: &'a Name,
    /// The signal that killed the process, if one did and the recorder observed it.
    pub signal: Option<&'a LifeSignal>,
    /// The program that the process runs.
    pub program: &'a Program,
}

impl<'a> LifeRef<'a> {
    /// Returns the name of the first thread.
    pub fn comm(&self) -> Option<&'a [u8]> {
        self.name.get().or(self.program.comm.as_deref())
    }

    /// Returns the time from the start to the end in ns, if both are known.
    pub fn duration_ns(&self) -> Option<u64> {
        Some(duration_ns(self.origin, self.start?, self.end?))
    }

    /// Returns the parent and all further ancestors, the parent first.
    pub fn ancestors(&self) -> impl Iterator<Item = &'a Ancestor> {
        self.parent.into_iter().flat_map(Ancestor::chain)
    }
}
