//! Describes processes whose fork or exec an excerpt of selected events does not contain.

use std::collections::HashSet;

use pmon_analysis::process::ProcessExit;
use pmon_analysis::timeline::TimelineItem;
use pmon_analysis::{OwnedRecord, ProcessTable};
use pmon_core::Tgid;
use pmon_core::capture::{Details, DetailsSubject, MissReason};
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

    /// Follows an event within the range, after `processes` has applied it. Returns descriptions of
    /// the processes that a selected event is about and that the excerpt has not described so far.
    pub(super) fn follow(
        &mut self,
        item: &TimelineItem,
        is_selected: bool,
        processes: &ProcessTable,
    ) -> Vec<OwnedRecord> {
        let Some(event) = &item.event else { return Vec::new() };
        let task = event.task();
        let mut pids: Vec<Tgid> = Vec::new();
        match event.body {
            EventBody::Fork { parent, child } if child.is_leader() => {
                pids.push(parent.tgid);
                self.known.remove(&child.tgid);
                if is_selected {
                    self.add(child.tgid);
                }
            }
            EventBody::Ptrace { tracer, .. } => pids.push(tracer.tgid),
            EventBody::Exit { task, .. } => {
                pids.extend(processes.live_process(task.tgid).and_then(|process| process.ppid));
            }
            _ => {}
        }
        pids.extend(task.map(|task| task.tgid));
        pids.extend(item.details.as_ref().and_then(|details| details.ppid).map(Tgid));
        let described = match is_selected {
            true => pids.into_iter().filter_map(|pid| self.describe(pid, processes)).collect(),
            false => Vec::new(),
        };
        if let (Some(task), Some(ProcessExit::Ended { .. })) = (task, processes.last_exit()) {
            self.known.remove(&task.tgid);
        }
        described
    }

    /// Describes a process from a [detailed](ProcessTable::detailed) table, unless the excerpt has
    /// done so.
    fn describe(&mut self, pid: Tgid, processes: &ProcessTable) -> Option<OwnedRecord> {
        let process = processes.process(pid).filter(|_| pid != Tgid(0))?;
        if !self.known.insert(pid) {
            return None;
        }
        let missed = Details::missed(DetailsSubject::Snapshot { tgid: pid }, MissReason::Gone);
        let comm = process.name.as_deref().map(<[u8]>::to_vec);
        let ppid = process.parent.map(|parent| parent.0);
        // A child that has executed nothing runs the program of its parent.
        let program = processes.live_process(pid).and_then(|live| live.details.as_deref()).unwrap_or(&missed);
        let Details { exe, filename, cwd, cgroup, args, args_len, .. } = program.clone();
        Some(OwnedRecord::Details(Box::new(Details {
            miss: None,
            comm,
            ppid,
            exe,
            filename,
            cwd,
            cgroup,
            args,
            args_len,
            forked: process.start,
            ..missed
        })))
    }
}
