//! Applies scans of `/proc`, and the descriptions of processes in openings and excerpts.

use std::sync::Arc;

use pmon_core::capture::Details;
use pmon_core::wire::{Event, EventBody};
use pmon_core::{Task, Tgid};

use super::LifeTracker;
use crate::life::program::ProcessProgram;
use crate::life::{Ancestor, MAX_ANCESTORS};
use crate::process::{ProcessFacts, ProcessModel, Slot};

impl LifeTracker {
    pub(super) fn scanned_details(&mut self, pid: Tgid, details: &Details) {
        let now = self.model.now();
        let Some(slot) = self.model.slot(pid) else { return };
        self.touch(slot, now);
        let is_found_early = details.forked.is_some() && self.model.facts(slot).is_only_scanned;
        let state = &mut self.states[slot as usize];
        if is_found_early {
            // In an excerpt without forks, this stands for the fork event of a process that a scan
            // has found before that event.
            state.identity = None;
        }
        if !state.program.is_awaited() && state.program.get().args.is_none() {
            let program = state.program.get().with(details, &mut self.texts);
            state.program = ProcessProgram::known(program);
        }
        if details.forked.is_some() {
            // An excerpt describes a process after its ancestors.
            self.link_found(slot);
        }
        self.scanned.push(slot);
    }

    /// Notes the parents of the processes that a scan has found, as the scan has found them.
    pub(super) fn link_scanned(&mut self) {
        for slot in std::mem::take(&mut self.scanned) {
            self.link_found(slot);
        }
    }

    /// Notes the current parent of a process without a fork event.
    fn link_found(&mut self, slot: Slot) {
        if self.states[slot as usize].parent.is_none() {
            self.states[slot as usize].parent = self.found_parent(slot, 0);
            self.complete_ancestor(slot);
        }
    }

    /// Returns the current parent of a process that was older than the recording.
    fn found_parent(&mut self, slot: Slot, depth: u16) -> Option<Arc<Ancestor>> {
        let parent = self.model.parent_slot(slot).filter(|_| depth < MAX_ANCESTORS)?;
        self.touch(parent, self.model.now());
        if self.states[parent as usize].parent.is_none() {
            self.states[parent as usize].parent = self.found_parent(parent, depth + 1);
            self.complete_ancestor(parent);
        }
        Some(self.ancestor(parent))
    }

    /// Completes the chains of the children that a process forked before a scan found it.
    fn complete_ancestor(&mut self, slot: Slot) {
        let state = &mut self.states[slot as usize];
        if state.parent.is_none() {
            return;
        }
        let mut before = std::mem::take(&mut state.as_earlier_parent);
        before.extend(state.as_parent.take());
        for before in before {
            before.set_found(self.ancestor(slot));
        }
    }
}

/// Whether a scan found a process before its fork event, which is the latest event.
pub(super) fn is_found_early(model: &ProcessModel, facts: &ProcessFacts, event: Option<&Event>) -> bool {
    let is_fork = event.is_some_and(|event| match event.body {
        EventBody::Fork { child, .. } => child == Task::new(facts.pid, facts.pid),
        _ => false,
    });
    is_fork && facts.is_only_scanned && facts.start_ticks.is_some_and(|ticks| model.starts_at(ticks))
}
