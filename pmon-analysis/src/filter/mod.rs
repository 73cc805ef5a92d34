//! Which events somebody wants to see.

mod diagnosis;
mod pid_set;
mod process_tree;

use pmon_core::capture::SelfGenerated;
use pmon_core::wire::{Event, EventBody, EventKind};
use pmon_core::{MonoNs, Task, Tgid};

use crate::process::{ProcessExit, ProcessTable};
use crate::timeline::OwnedRecord;
use crate::wall_clock::WallClock;

pub use diagnosis::FilterDiagnosis;
pub use process_tree::{ExitIndex, ProcessTree};

/// An end of a range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBound {
    /// By the clock of events.
    Mono(MonoNs),
    /// By the wall clock: nanoseconds since 1970-01-01T00:00Z.
    Wall(i64),
}

/// What an event must be to be shown. All of it must hold; what is empty or `None` always holds.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One of these kinds.
    pub kinds: Vec<EventKind>,
    /// It concerns one of these processes or threads; a fork concerns parent and child.
    pub pids: Vec<u32>,
    /// It concerns this process or a descendant. Whoever has this id counts, if it is used again.
    pub tree: Option<ProcessTree>,
    /// The process has this name, after the event.
    pub name: Option<Vec<u8>>,
    /// Not earlier than this.
    pub since: Option<TimeBound>,
    /// Not later than this.
    pub until: Option<TimeBound>,
    /// Whether to hide the forks and exits of threads, except the exit that ends a process.
    pub hide_threads: bool,
    /// The recorder whose own events, which it caused in order to hear them, are left out.
    pub hide_self_generated: Option<Tgid>,
}

impl Filter {
    /// Whether [`Filter::matches`] looks at the processes given to it.
    pub fn needs_processes(&self) -> bool {
        self.name.is_some() || self.hide_threads
    }

    /// Whether it looks at [`Filter::observe`]d entries or their details.
    pub fn needs_details(&self) -> bool {
        self.name.is_some() || self.tree.is_some()
    }

    /// Learns from the next entry, shown or not, before [`Filter::matches`] is asked about it.
    pub fn observe(&mut self, record: &OwnedRecord) {
        if let Some(tree) = &mut self.tree {
            tree.observe(record);
        }
    }

    /// Whether the event is to be shown. `processes` have learned of it already. `None` is a datagram without a
    /// readable event: of kind unknown, of no process, at no time.
    pub fn matches(&self, event: Option<&Event>, processes: &ProcessTable, wall: &WallClock) -> bool {
        let kind = event.map_or(EventKind::Unknown, Event::kind);
        if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
            return false;
        }
        let Some(event) = event else {
            let about_processes = !self.pids.is_empty() || self.tree.is_some() || self.name.is_some();
            return !about_processes && self.since.is_none() && self.until.is_none();
        };
        (!self.hide_threads || !is_threads_own(event, processes.last_exit()))
            && self.hide_self_generated.is_none_or(|recorder| SelfGenerated::of(event, recorder).is_none())
            && self.has_pid(event)
            && self.tree.as_ref().is_none_or(|tree| tasks(event).any(|task| tree.contains(task.tgid)))
            && self.has_name(event, processes)
            && self.since.is_none_or(|since| !is_before(event.time, since, wall))
            && self.until.is_none_or(|until| !is_after(event.time, until, wall))
    }

    /// Whether something between two times, of no process, is to be shown. A loss is: what was lost may have been
    /// anything.
    pub fn matches_span(&self, from: MonoNs, until: MonoNs, wall: &WallClock) -> bool {
        self.since.is_none_or(|since| !is_before(until, since, wall))
            && self.until.is_none_or(|last| !is_after(from, last, wall))
    }

    /// Whether something at that time, of no process, is to be shown.
    pub fn matches_time(&self, time: MonoNs, wall: &WallClock) -> bool {
        self.matches_span(time, time, wall)
    }

    fn has_pid(&self, event: &Event) -> bool {
        let wanted = |task: Task| self.pids.contains(&task.tid.0) || self.pids.contains(&task.tgid.0);
        self.pids.is_empty() || tasks(event).any(wanted)
    }

    fn has_name(&self, event: &Event, processes: &ProcessTable) -> bool {
        let Some(name) = &self.name else { return true };
        event.task().is_some_and(|task| processes.name(task.tgid) == Some(name))
    }
}

/// The tasks that an event concerns: for a fork both, for any other the one that it happened to.
fn tasks(event: &Event) -> impl Iterator<Item = Task> {
    let parent = match event.body {
        EventBody::Fork { parent, child } if child.is_leader() => Some(parent),
        _ => None,
    };
    event.task().into_iter().chain(parent)
}

/// Returns whether an event is the fork or the exit of a thread and does not end its process.
/// `exit` is the effect of an exit event on its process.
fn is_threads_own(event: &Event, exit: Option<ProcessExit>) -> bool {
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
    fn the_parent_in_a_threads_fork_did_not_fork() {
        let filter = Filter { pids: vec![10], ..Filter::default() };
        assert!(!matches(&filter, fork(10, (21, 20))));
    }

    #[test]
    fn a_tree_has_those_from_the_scan_and_those_forked_since() {
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
        // The id passes to a process outside.
        filter.observe(&entry(fork(8, (50, 50))));
        assert!(!matches(&filter, sid(50)));
    }

    #[test]
    fn a_tree_of_any_number_of_processes_takes_a_bit_for_each() {
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
    fn threads_are_hidden_on_wish() {
        let filter = Filter { hide_threads: true, ..Filter::default() };
        assert!(!matches(&filter, fork(10, (21, 20))));
        assert!(matches(&filter, fork(10, (20, 20))));
    }

    #[test]
    fn times_are_inclusive_by_either_clock() {
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
    fn kinds_and_unreadable_datagrams() {
        let filter = Filter { kinds: vec![EventKind::Unknown], ..Filter::default() };
        assert!(filter.matches(None, &ProcessTable::new(), &WallClock::new()));
        assert!(!matches(&filter, sid(1)));
        let filter = Filter { pids: vec![1], ..Filter::default() };
        assert!(!filter.matches(None, &ProcessTable::new(), &WallClock::new()));
    }
}
