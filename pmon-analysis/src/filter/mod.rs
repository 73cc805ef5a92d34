//! Selects the events to show.

mod condition;
mod diagnosis;
mod end_condition;
mod exit_index;
mod glob;
mod life_filter;
mod pid_set;
mod process_tree;
mod process_view;

use pmon_core::capture::{Meta, SelfGenerated};
use pmon_core::wire::{Event, EventBody, EventKind};
use pmon_core::{MonoNs, Task, Tgid};

use crate::process::{ProcessExit, ProcessTable};
use crate::timeline::OwnedRecord;
use crate::wait_status::WaitStatus;
use crate::wall_clock::WallClock;

pub use condition::{EventCondition, EventView, ProcessCondition, compile_regex};
pub use diagnosis::FilterDiagnosis;
pub use end_condition::{EndCondition, EndConditionError};
pub use exit_index::ExitIndex;
pub use glob::{Glob, GlobError};
pub use life_filter::LifeFilter;
pub use process_tree::ProcessTree;
pub use process_view::{ProcessLookup, ProcessView, command_line};
pub use regex::bytes::Regex;

/// Start or end of a time range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBound {
    /// Monotonic time, as in events.
    Mono(MonoNs),
    /// Wall-clock time in nanoseconds since 1970-01-01T00:00Z.
    Wall(i64),
}

impl TimeBound {
    /// Returns whether a time is earlier than this one. A time is earlier than any of a clock that
    /// does not show it.
    pub fn is_after(self, time: MonoNs, wall: &WallClock) -> bool {
        match self {
            Self::Mono(bound) => time < bound,
            Self::Wall(bound) => wall.at(time).is_none_or(|time| time < bound),
        }
    }

    /// Returns whether a time is later than this one. A time is later than any of a clock that does
    /// not show it.
    pub fn is_before(self, time: MonoNs, wall: &WallClock) -> bool {
        match self {
            Self::Mono(bound) => time > bound,
            Self::Wall(bound) => wall.at(time).is_none_or(|time| time > bound),
        }
    }
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
    /// Conditions on the process after the event; for an exit, before it. Those on its end select
    /// the exit that ends it.
    pub process: ProcessCondition,
    /// Earliest time.
    pub since: Option<TimeBound>,
    /// Latest time.
    pub until: Option<TimeBound>,
    /// Whether to hide the forks and exits of threads, except the exit that ends a process, and the
    /// names that the recorder gives to its own threads.
    pub hide_threads: bool,
    /// Process ID of the recorder, to hide the events that it generates to check the reception.
    pub hide_self_generated: Option<Tgid>,
}

impl Filter {
    /// Returns whether [`Filter::matches`] uses its argument `processes`.
    pub fn needs_processes(&self) -> bool {
        !self.process.is_empty() || self.hide_threads
    }

    /// Returns whether the filter uses the details of records passed to [`Filter::observe`].
    pub fn needs_details(&self) -> bool {
        self.process.needs_properties() || self.needs_live_processes() || self.tree.is_some()
    }

    /// Returns a process table for [`Filter::matches`]. It is [detailed](ProcessTable::detailed) if
    /// the filter needs that. `meta` is that of the capture, if its header is known.
    pub fn process_table(&self, meta: Option<&Meta>) -> ProcessTable {
        match (self.needs_live_processes(), meta) {
            (false, _) => ProcessTable::new(),
            (true, Some(meta)) => ProcessTable::detailed(meta),
            (true, None) => ProcessTable::detailed(&Meta::default()),
        }
    }

    /// Returns whether the filter needs a [detailed](ProcessTable::detailed) table.
    pub fn needs_live_processes(&self) -> bool {
        self.process.needs_live_process()
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
    pub fn matches(&self, event: Option<&Event>, processes: &impl ProcessLookup, wall: &WallClock) -> bool {
        let kind = event.map_or(EventKind::Unknown, Event::kind);
        if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
            return false;
        }
        let Some(event) = event else {
            let about_processes = !self.pids.is_empty() || self.tree.is_some() || !self.process.is_empty();
            return !about_processes && self.since.is_none() && self.until.is_none();
        };
        !self.hides_thread(event, processes)
            && self.hide_self_generated.is_none_or(|recorder| SelfGenerated::of(event, recorder).is_none())
            && self.has_pid(event)
            && self.has_tree(event)
            && self.has_process(event, processes)
            && self.matches_time(event.time, wall)
    }

    /// Returns whether a time span without a process, such as a loss, overlaps the time range. A
    /// loss is always shown then, because any event may have been lost.
    pub fn matches_span(&self, from: MonoNs, until: MonoNs, wall: &WallClock) -> bool {
        self.since.is_none_or(|since| !since.is_after(until, wall))
            && self.until.is_none_or(|last| !last.is_before(from, wall))
    }

    /// Returns whether a time is within the time range.
    pub fn matches_time(&self, time: MonoNs, wall: &WallClock) -> bool {
        self.matches_span(time, time, wall)
    }

    fn hides_thread(&self, event: &Event, processes: &impl ProcessLookup) -> bool {
        self.hide_threads && is_thread_only(event, processes.last_exit(), self.hide_self_generated)
    }

    fn has_pid(&self, event: &Event) -> bool {
        let is_selected = |task: Task| self.pids.contains(&task.tid.0) || self.pids.contains(&task.tgid.0);
        self.pids.is_empty() || tasks(event).any(is_selected)
    }

    fn has_tree(&self, event: &Event) -> bool {
        self.tree.as_ref().is_none_or(|tree| tasks(event).any(|task| tree.contains(task.tgid)))
    }

    fn has_process(&self, event: &Event, processes: &impl ProcessLookup) -> bool {
        if self.process.is_empty() {
            return true;
        }
        let Some(task) = event.task() else { return false };
        let mut status = None;
        if self.process.needs_end() {
            let is_exit = matches!(event.body, EventBody::Exit { .. });
            status = match processes.last_exit().filter(|_| is_exit) {
                Some(ProcessExit::Ended { status }) => Some(WaitStatus::from_raw(status)),
                Some(ProcessExit::Unknown) if task.is_leader() => None,
                _ => return false,
            };
        }
        self.process.matches(&processes.view(task.tgid, event.time), status)
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
/// `exit` is the effect of an exit event on its process. The recorder also names its threads.
fn is_thread_only(event: &Event, exit: Option<ProcessExit>, recorder: Option<Tgid>) -> bool {
    match event.body {
        EventBody::Comm { task, .. } => !task.is_leader() && Some(task.tgid) == recorder,
        EventBody::Fork { child, .. } => !child.is_leader(),
        EventBody::Exit { task, .. } => match exit {
            Some(ProcessExit::Ended { .. }) => false,
            Some(ProcessExit::GoesOn) => true,
            Some(ProcessExit::Unknown) | None => !task.is_leader(),
        },
        _ => false,
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
        let (mono, wall_time) = (|ns| TimeBound::Mono(MonoNs(ns)), |ns: i64| TimeBound::Wall(1_000 + ns));
        for (since, until) in [(mono(5), wall_time(7)), (wall_time(5), mono(7))] {
            let filter = Filter { since: Some(since), until: Some(until), ..Filter::default() };
            let shown = |time| {
                let event = event(time, EventBody::Unknown { what: 1 });
                filter.matches(Some(&event), &ProcessTable::new(), &wall)
            };
            assert_eq!((4..=8).map(shown).collect::<Vec<_>>(), [false, true, true, true, false]);
        }
    }

    #[test]
    fn conditions_on_the_end_select_the_exit_that_ends_a_process() {
        let exit = |tid, code| {
            event(9, EventBody::Exit { task: Task::new(tid, 20), code, signal: 17, parent: None })
        };
        let matches = |filter: &Filter, before: &[Event], last: Event| {
            let mut processes = filter.process_table(None);
            before.iter().chain([&last]).for_each(|event| processes.apply(&entry(*event)));
            filter.matches(Some(&last), &processes, &WallClock::new())
        };
        let failed = with(|of| of.ends = vec![EndCondition::Failed]);
        assert!(matches(&failed, &[fork(10, (20, 20))], exit(20, 1 << 8)));
        assert!(!matches(&failed, &[fork(10, (20, 20))], exit(20, 0)));
        // The first thread is not the last one.
        let threads = [fork(10, (20, 20)), fork(10, (21, 20))];
        assert!(!matches(&failed, &threads, exit(20, 1 << 8)));
        assert!(matches(&failed, &[&threads[..], &[exit(20, 1 << 8)]].concat(), exit(21, 1 << 8)));
        // Threads may be unknown. The exit of the first thread then ends the process, in an unknown
        // way.
        let longer = with(|of| of.longer_than_ns = Some(5));
        let found = event(1, EventBody::Sid { task: Task::new(20, 20) });
        for (filter, tid, is_match) in [(&longer, 20, false), (&longer, 21, false), (&failed, 20, false)] {
            assert_eq!(matches(filter, std::slice::from_ref(&found), exit(tid, 1 << 8)), is_match);
        }
        let (mut lossy, forked) = (longer.process_table(None), entry(fork(10, (20, 20))));
        lossy.apply(&forked);
        lossy.apply(&OwnedRecord::Blind(pmon_core::capture::Blind { from: MonoNs(2), until: MonoNs(3) }));
        for (tid, is_match) in [(21, false), (20, true)] {
            lossy.apply(&entry(exit(tid, 0)));
            assert_eq!(longer.matches(Some(&exit(tid, 0)), &lossy, &WallClock::new()), is_match, "{tid}");
        }
    }

    #[test]
    fn only_the_names_of_the_recorders_threads_are_hidden_with_threads() {
        let comm =
            |tid, tgid| event(1, EventBody::Comm { task: Task::new(tid, tgid), comm: Default::default() });
        let (hide_threads, hide_self_generated) = (true, Some(Tgid(7)));
        let filter = Filter { hide_threads, hide_self_generated, ..Filter::default() };
        assert!(!matches(&filter, comm(8, 7)));
        assert!(matches(&filter, comm(7, 7)) && matches(&filter, comm(21, 20)));
    }

    #[test]
    fn an_unreadable_datagram_has_the_kind_unknown_and_no_process() {
        let filter = Filter { kinds: vec![EventKind::Unknown], ..Filter::default() };
        assert!(filter.matches(None, &ProcessTable::new(), &WallClock::new()));
        assert!(!matches(&filter, sid(1)));
        let filter = Filter { pids: vec![1], ..Filter::default() };
        assert!(!filter.matches(None, &ProcessTable::new(), &WallClock::new()));
    }

    type Change = fn(&mut ProcessCondition);

    fn with(change: impl FnOnce(&mut ProcessCondition)) -> Filter {
        let mut filter = Filter::default();
        change(&mut filter.process);
        filter
    }

    #[test]
    fn each_condition_states_what_it_needs() {
        // Whether it needs processes, details, and a detailed table.
        let needs = |filter: &Filter| {
            let is_detailed = filter.process_table(None).is_detailed();
            assert_eq!(filter.process_table(Some(&Meta::default())).is_detailed(), is_detailed);
            assert_eq!(filter.needs_live_processes(), is_detailed);
            (filter.needs_processes(), filter.needs_details(), is_detailed)
        };
        let pids = Filter { pids: vec![1], kinds: vec![EventKind::Exec], ..Filter::default() };
        assert_eq!(needs(&pids), (false, false, false));
        let threads = Filter { hide_threads: true, ..Filter::default() };
        assert_eq!(needs(&threads), (true, false, false));
        let tree = Filter { tree: Some(ProcessTree::new(Tgid(1))), ..Filter::default() };
        assert_eq!(needs(&tree), (false, true, false));
        let failed = with(|of| of.ends = vec![EndCondition::Failed]);
        assert_eq!(needs(&failed), (true, false, false));
        assert_eq!(needs(&with(|of| of.comm = Some(b"sh".to_vec()))), (true, true, false));
        let all: [(&str, Change); 7] = [
            ("longer", |of| of.longer_than_ns = Some(1)),
            ("exe", |of| of.exe = Glob::new("a").ok()),
            ("args", |of| of.args = Regex::new("a").ok()),
            ("uids", |of| of.uids = vec![0]),
            ("unit", |of| of.unit = Glob::new("a").ok()),
            ("container", |of| of.container = Some(Vec::new())),
            ("cgroup", |of| of.cgroup = Some(Vec::new())),
        ];
        for (name, change) in all {
            assert_eq!(needs(&with(change)), (true, true, true), "{name}");
        }
    }

    #[test]
    fn an_unreadable_datagram_has_no_time_and_satisfies_no_condition_on_processes() {
        let matches = |filter: Filter| filter.matches(None, &ProcessTable::new(), &WallClock::new());
        assert!(matches(Filter::default()));
        let bound = Some(TimeBound::Mono(MonoNs(0)));
        assert!(!matches(Filter { since: bound, ..Filter::default() }));
        assert!(!matches(Filter { until: bound, ..Filter::default() }));
        assert!(!matches(Filter { tree: Some(ProcessTree::new(Tgid(1))), ..Filter::default() }));
        assert!(!matches(with(|of| of.uids = vec![0])));
    }
}
