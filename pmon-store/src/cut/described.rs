//! Describes processes whose fork or exec an excerpt of selected events does not contain.

use std::collections::HashSet;

use pmon_analysis::OwnedRecord;
use pmon_analysis::process::{ProcessExit, ProcessModel};
use pmon_analysis::timeline::TimelineItem;
use pmon_core::Tgid;
use pmon_core::capture::Details;
use pmon_core::wire::EventBody;

/// The processes that a reader of the excerpt knows: from the process table at its start, from a
/// fork, or because they were described.
#[derive(Debug, Default)]
pub(super) struct DescribedProcesses {
    known: HashSet<Tgid>,
}

impl DescribedProcesses {
    /// Adds a process that the excerpt describes.
    pub(super) fn add(&mut self, pid: Tgid) {
        self.known.insert(pid);
    }

    /// Removes a process that has ended, if the latest record of `processes` is its exit.
    pub(super) fn remove_ended(&mut self, item: &TimelineItem, processes: &ProcessModel) {
        if let Some(EventBody::Exit { task, .. }) = item.event.map(|event| event.body)
            && let Some(ProcessExit::Ended { .. }) = processes.last_exit()
        {
            self.known.remove(&task.tgid);
        }
    }

    /// Follows an event within the range, before `processes` applies it. Returns descriptions of
    /// the processes that a selected event is about, and of their ancestors, which the excerpt has
    /// not described so far.
    pub(super) fn follow(
        &mut self,
        item: &TimelineItem,
        is_selected: bool,
        processes: &ProcessModel,
    ) -> Vec<OwnedRecord> {
        let Some(event) = &item.event else { return Vec::new() };
        let mut described = Vec::new();
        if is_selected {
            let (other, parent) = match event.body {
                EventBody::Fork { parent, .. } => (Some(parent), None),
                EventBody::Ptrace { tracer, .. } => (Some(tracer), None),
                EventBody::Exit { parent, .. } => (None, parent),
                _ => (None, None),
            };
            let named = [event.task(), other, parent].into_iter().flatten().map(|task| task.tgid);
            let of_details = item.details.as_ref().and_then(|details| details.ppid).map(Tgid);
            for pid in named.chain(of_details) {
                self.describe_line(pid, processes, &mut described);
            }
        }
        if let EventBody::Fork { child, .. } = event.body
            && child.is_leader()
        {
            self.known.remove(&child.tgid);
            if is_selected {
                self.add(child.tgid);
            }
        }
        described
    }

    /// Completes the description of a process that a scan has found: its fork, which precedes it,
    /// identifies the process.
    pub(super) fn complete(details: &mut Details, processes: &ProcessModel) {
        let Some(process) = processes.get(details.subject.tgid()) else { return };
        let starts = details.start_ticks.zip(process.start_ticks());
        if starts.is_some_and(|(found, known)| found.abs_diff(known) <= 1) {
            details.forked = details.forked.or(process.forked_at());
        }
    }

    /// Describes a process and its ancestors, the oldest first, up to one that the excerpt has
    /// described.
    fn describe_line(&mut self, pid: Tgid, processes: &ProcessModel, described: &mut Vec<OwnedRecord>) {
        let first = described.len();
        let mut next = Some(pid);
        while let Some(process) = next.and_then(|pid| processes.get(pid))
            && self.known.insert(process.pid())
        {
            described.push(OwnedRecord::Details(Box::new(process.details())));
            next = process.ppid();
        }
        described[first..].reverse();
    }
}
