//! A view of the recorded processes that notes whether it is used.

use std::cell::Cell;
use std::time::Duration;

use crate::world::{ClockTimes, ProcEntry, ProcEntryKind, ProcessView, TaskInfo};

/// Passes all calls to another view.
pub(crate) struct ObservedView<'a> {
    view: &'a dyn ProcessView,
    was_used: Cell<bool>,
}

impl<'a> ObservedView<'a> {
    pub(crate) fn new(view: &'a dyn ProcessView) -> Self {
        Self { view, was_used: Cell::new(false) }
    }

    /// Returns whether a call of the view has returned information on a process.
    pub(crate) fn was_used(&self) -> bool {
        self.was_used.get()
    }

    fn used(&self) -> &'a dyn ProcessView {
        self.was_used.set(true);
        self.view
    }
}

impl ProcessView for ObservedView<'_> {
    fn pids(&self) -> Vec<u32> {
        self.used().pids()
    }

    fn task(&self, id: u32) -> Option<TaskInfo> {
        self.used().task(id)
    }

    fn entries(&self, id: u32) -> Vec<(String, ProcEntry)> {
        self.used().entries(id)
    }

    fn entry(&self, id: u32, path: &str) -> Option<ProcEntry> {
        self.used().entry(id, path)
    }

    fn list(&self, id: u32, directory: &str) -> Vec<(String, ProcEntryKind)> {
        self.used().list(id, directory)
    }

    fn uptime(&self) -> Option<Duration> {
        self.view.uptime()
    }

    fn boot_time(&self) -> Option<u64> {
        self.view.boot_time()
    }

    fn clocks(&self) -> Option<ClockTimes> {
        self.view.clocks()
    }
}
