//! Selects the events to show.

mod condition;
mod diagnosis;
mod exit_index;
mod glob;
mod pid_set;
mod process_tree;

use pmon_core::capture::SelfGenerated;
use pmon_core::wire::{Event, EventBody, EventKind};
use pmon_core::{MonoNs, Task, Tgid};

use crate::process::{ProcessExit, ProcessTable};
use crate::timeline::OwnedRecord;
use crate::wall_clock::WallClock;

pub use condition::{EventCondition, EventView, ProcessView};
pub use diagnosis::FilterDiagnosis;
pub use exit_index::ExitIndex;
pub use glob::{Glob, GlobError};
pub use process_tree::ProcessTree;

/// Start or end of a time range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBound {
    /// Monotonic time, as in events.
    Mono(MonoNs),
    /// Wall-clock time in nanoseconds since 1970-01-01T00:00Z.
    Wall(i64),
}

/// Conditions on events. An event must satisfy all of them; an empty or `None` field is no
/// condition.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Event kinds.
    pub kinds: Vec<EventKind>,
    /// Process or thread IDs. A fork concerns both parent and child.
    pub pids: Vec<u32>,
    /// A process and its descendants. If the ID of the process is reused, the new process counts
    /// too.
    pub tree: Option<ProcessTree>,
    /// Name of the process after the event.
    pub name: Option<Vec<u8>>,
    /// Earliest time.
    pub since: Option<TimeBound>,
    /// Latest time.
    pub until: Option<TimeBound>,
    /// Whether to hide the forks and exits of threads, except the exit that ends a process.
    pub hide_threads: bool,
    /// Process ID of the recorder, to hide the events that it generates to check the reception.
    pub hide_self_generated: Option<Tgid>,
}

impl Filter {
    /// Returns whether [`Filter::matches`] uses its argument `processes`.
    pub fn needs_processes(&self) -> bool {
        self.name.is_some() || self.hide_threads
    }

    /// Returns whether the filter uses the details of records passed to [`Filter::observe`].
    pub fn needs_details(&self) -> bool {
        self.name.is_some() || self.tree.is_some()
    }

    /// Applies the next record, whether it is shown or not. Call this before [`Filter::matches`].
    pub fn observe(&mut self, record: &OwnedRecord) {
        if let Some(tree) = &mut self.tree {
            tree.observe(record);
        }
    }

    /// Returns whether an event satisfies all conditions. The record of the event must have been
    /// applied to `processes`. `None` is a datagram without a readable event, which has the kind
    /// `unknown`, no process and no time.
    pub fn matches(&self, event: Option<&Event>, processes: &ProcessTable, wall: &WallClock) -> bool {
        let kind = event.map_or(EventKind::Unknown, Event::kind);
        if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
            return false;
        }
        let Some(event) = event else {
            let about_processes = !self.pids.is_empty() || self.tree.is_some() || self.name.is_some();
            return !about_processes && self.since.is_none() && self.until.is_none();
        };
        (!self.hide_threads || !is_thread_only(event, processes.last_exit()))
            && self.hide_self_generated.is_none_or(|recorder| SelfGenerated::of(event, recorder).is_none())
            && self.has_pid(event)
            && self.has_tree(event)
            && self.has_name(event, processes)
            && self.matches_time(event.time, wall)
    }

    /// Returns whether a time span without a process, such as a loss, overlaps the time range. A
    /// loss is always shown then, because any event may have been lost.
    pub fn matches_span(&self, from: MonoNs, until: MonoNs, wall: &WallClock) -> bool {
        self.since.is_none_or(|since| !is_before(until, since, wall))
            && self.until.is_none_or(|last| !is_after(from, last, wall))
    }

    /// Returns whether a time is within the time range.
    pub fn matches_time(&self, time: MonoNs, wall: &WallClock) -> bool {
        self.matches_span(time, time, wall)
    }

    fn has_pid(&self, event: &Event) -> bool {
        let is_selected = |task: Task| self.pids.contains(&task.tid.0) || self.pids.contains(&task.tgid.0);
        self.pids.is_empty() || tasks(event).any(is_selected)
    }

    fn has_tree(&self, event: &Event) -> bool {
        self.tree.as_ref().is_none_or(|tree| tasks(event).any(|task| tree.contains(task.tgid)))
    }

    fn has_name(&self, event: &Event, processes: &ProcessTable) -> bool {
        let Some(name) = &self.name else { return true };
        event.task().is_some_and(|task| processes.name(task.tgid) == Some(name))
    }
}

/// Returns the tasks that an event concerns: parent and child of a process's fork, otherwise the
/// task of the event.
fn tasks(event: &Event) -> impl Iterator<Item = Task> {
    let parent = match event.body {
        EventBody::Fork { parent, child } if child.is_leader() => Some(parent),
        _ => None,
    };
    event.task().into_iter().chain(parent)
}

/// Returns whether an event is the fork or the exit of a thread and does not end its process.
/// `exit` is the effect of an exit event on its process.
fn is_thread_only(event: &Event, exit: Option<ProcessExit>) -> bool {
    match event.body {
        EventBody::Fork { child, .. } => !child.is_leader(),
        EventBody::Exit { task, .. } => match exit {
            Some(ProcessExit::Ended { .. }) => false,
            Some(ProcessExit::GoesOn) => true,
            Some(ProcessExit::Unknown) | None => !task.is_leader(),
        },
        _ => false,
    }
}

fn is_before(time: MonoNs, bound: TimeBound, wall: &WallClock) -> bool {
    match bound {
        TimeBound::Mono(bound) => time < bound,
        TimeBound::Wall(bound) => wall.at(time).is_none_or(|time| time < bound),
    }
}

fn is_after(time: MonoNs, bound: TimeBound, wall: &WallClock) -> bool {
    match bound {
        TimeBound::Mono(bound) => time > bound,
        TimeBound::Wall(bound) => wall.at(time).is_none_or(|time| time > bound),
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::capture::{Details, DetailsSubject, MissReason, Snapshot, SnapshotReason};
    use pmon_core::{Cpu, Seq};

    use super::*;
    use crate::timeline::TimelineItem;

    fn event(time: u64, body: EventBody) -> Event {
        Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body }
    }

    fn fork(parent: u32, child: (u32, u32)) -> Event {
        event(1, EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child.0, child.1) })
    }

    fn sid(pid: u32) -> Event {
        event(1, EventBody::Sid { task: Task::new(pid, pid) })
    }

    fn entry(event: Event) -> OwnedRecord {
        OwnedRecord::Event(TimelineItem { event: Some(event), raw: None, details: None, usage: None })
    }

    fn scanned(pid: u32, ppid: u32) -> OwnedRecord {
        let subject = DetailsSubject::Snapshot { tgid: Tgid(pid) };
        OwnedRecord::Details(Box::new(Details {
            ppid: Some(ppid),
            ..Details::missed(subject, MissReason::Denied)
        }))
    }

    fn matches(filter: &Filter, event: Event) -> bool {
        filter.matches(Some(&event), &ProcessTable::new(), &WallClock::new())
    }

    #[test]
    fn pids_match_threads_and_both_sides_of_a_fork() {
        let filter = Filter { pids: vec![20, 31], ..Filter::default() };
        assert!(matches(&filter, fork(20, (25, 25))));
        assert!(matches(&filter, fork(10, (20, 20))));
        assert!(matches(&filter, event(1, EventBody::Sid { task: Task::new(31, 30) })));
        assert!(matches(&filter, event(1, EventBody::Sid { task: Task::new(22, 20) })));
        assert!(!matches(&filter, fork(10, (25, 25))));
    }

    #[test]
    fn the_fork_of_a_thread_does_not_concern_the_parent_it_names() {
        let filter = Filter { pids: vec![10], ..Filter::default() };
        assert!(!matches(&filter, fork(10, (21, 20))));
    }

    #[test]
    fn a_tree_includes_scanned_and_forked_descendants() {
        let mut filter = Filter { tree: Some(ProcessTree::new(Tgid(10))), ..Filter::default() };
        let scan = Snapshot {
            started: MonoNs(0),
            ended: MonoNs(0),
            processes: 3,
            reason: SnapshotReason::Start,
            atomic: false,
        };
        for record in [scanned(7, 9), scanned(9, 10), scanned(8, 1), OwnedRecord::Snapshot(scan)] {
            filter.observe(&record);
        }
        assert!(matches(&filter, sid(7)));
        assert!(!matches(&filter, sid(8)));

        filter.observe(&entry(fork(7, (50, 50))));
        assert!(matches(&filter, sid(50)));
        // A process outside the tree reuses the ID.
        filter.observe(&entry(fork(8, (50, 50))));
        assert!(!matches(&filter, sid(50)));
    }

    #[test]
    fn a_tree_can_have_millions_of_processes() {
        for root in [10, u32::MAX] {
            let mut tree = ProcessTree::new(Tgid(root));
            for child in (1..2_000_000).chain([1 << 22, u32::MAX - 1]) {
                tree.observe(&entry(fork(root, (child, child))));
            }
            assert!(tree.contains(Tgid(root)) && tree.contains(Tgid(1_999_999)));
            assert!(!tree.contains(Tgid(2_000_000)) && !tree.contains(Tgid(1 << 22)));
            tree.observe(&entry(fork(2_000_000, (7, 7))));
            assert!(!tree.contains(Tgid(7)));
        }
    }

    #[test]
    fn threads_can_be_hidden() {
        let filter = Filter { hide_threads: true, ..Filter::default() };
        assert!(!matches(&filter, fork(10, (21, 20))));
        assert!(matches(&filter, fork(10, (20, 20))));
    }

    #[test]
    fn time_bounds_are_inclusive_for_both_clocks() {
        let mut wall = WallClock::new();
        wall.observe(pmon_core::capture::ClockAnchor { mono: MonoNs(0), boot_ns: 0, real_ns: 1_000 });
        let filter = Filter {
            since: Some(TimeBound::Mono(MonoNs(5))),
            until: Some(TimeBound::Wall(1_007)),
            ..Filter::default()
        };
        let shown = |time| {
            filter.matches(Some(&event(time, EventBody::Unknown { what: 1 })), &ProcessTable::new(), &wall)
        };
        assert_eq!((4..=8).map(shown).collect::<Vec<_>>(), [false, true, true, true, false]);
    }

    #[test]
    fn an_unreadable_datagram_has_the_kind_unknown_and_no_process() {
        let filter = Filter { kinds: vec![EventKind::Unknown], ..Filter::default() };
        assert!(filter.matches(None, &ProcessTable::new(), &WallClock::new()));
        assert!(!matches(&filter, sid(1)));
        let filter = Filter { pids: vec![1], ..Filter::default() };
        assert!(!filter.matches(None, &ProcessTable::new(), &WallClock::new()));
    }
}
