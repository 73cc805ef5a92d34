//! Selects rows of processes.

use pmon_core::MonoNs;

use super::{ProcessCondition, ProcessView};
use crate::life::Life;

/// Conditions on a [`Life`]. It must satisfy all of them; an empty or `None` field is no condition.
#[derive(Clone, Debug, Default)]
pub struct LifeFilter {
    /// Process IDs.
    pub pids: Vec<u32>,
    /// Process ID of a process, which is selected with its descendants.
    pub tree: Option<u32>,
    /// Conditions on the process at its end, or at the end of the recording.
    pub process: ProcessCondition,
}

impl LifeFilter {
    /// Returns whether a process satisfies all conditions. `now` is the end of the recording.
    pub fn matches(&self, life: &Life, now: MonoNs) -> bool {
        self.has_id(life)
            && (self.process.is_empty()
                || self.process.matches(&ProcessView::of_life(life, now), life.status()))
    }

    /// Returns whether a process that does not match may satisfy all conditions, because properties
    /// on which they depend are unknown.
    pub fn may_match(&self, life: &Life, now: MonoNs) -> bool {
        if self.process.is_empty() || !self.has_id(life) {
            return false;
        }
        let view = ProcessView::of_life(life, now);
        let none = life.program.get().is_kernel_thread().then_some(&b""[..]);
        let view = ProcessView { exe: view.exe.or(none), args: view.args.or(none), ..view };
        self.process.decide(&view, Some(life.end)).is_none()
    }

    fn has_id(&self, life: &Life) -> bool {
        (self.pids.is_empty() || self.pids.contains(&life.pid))
            && self
                .tree
                .is_none_or(|root| life.pid == root || life.ancestors().any(|ancestor| ancestor.pid == root))
    }
}
