//! Tracks a process and its descendants, even if the capture lacks some of the forks.

use std::collections::{HashMap, HashSet};

use pmon_core::capture::{Details, DetailsSubject};
use pmon_core::wire::EventBody;
use pmon_core::{MonoNs, Tgid};

use super::exit_index::ExitIndex;
use super::pid_set::PidSet;
use crate::process::MAX_PROCESSES;
use crate::timeline::OwnedRecord;

/// Maximum number of ancestors followed from a process.
const MAX_ANCESTORS: usize = 64;
/// The process that adopts orphans, unless a closer ancestor is a subreaper (`prctl(2)`).
const INIT: Tgid = Tgid(1);

/// A process and its descendants, learned in capture order.
///
/// A filtered capture can lack forks. In that case, parents come from the details of execs and from
/// exits. An exit names a parent only after the other events of the process, so callers that can
/// read the capture twice should collect its [`ExitIndex`] first.
#[derive(Clone, Debug)]
pub struct ProcessTree {
    root: Tgid,
    /// Running descendants of the root.
    members: PidSet,
    /// Parents of the processes in the current scan.
    scan: HashMap<Tgid, Tgid>,
    /// Additional state, present if forks may be missing.
    partial: Option<PartialTree>,
}

/// State of a tree when forks may be missing.
#[derive(Clone, Debug, Default)]
struct PartialTree {
    exits: ExitIndex,
    /// Parents of the processes in the last scan.
    scanned: HashMap<Tgid, Tgid>,
    /// Parent of the root.
    root_parent: Option<Tgid>,
    /// Processes known to be outside the tree.
    outside: PidSet,
    /// Process whose exit was the latest event; from the next event on, another process can reuse
    /// its ID.
    ended: Option<Tgid>,
    /// Processes that may be in the tree.
    uncertain: HashSet<Tgid>,
}

/// Whether a process is in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TreeMembership {
    In,
    Out,
    Unknown,
}

impl ProcessTree {
    /// Creates a tree whose root is the process `root`.
    pub fn new(root: Tgid) -> Self {
        Self { root, members: PidSet::default(), scan: HashMap::new(), partial: None }
    }

    /// Returns the process at the root of the tree.
    pub fn root(&self) -> Tgid {
        self.root
    }

    /// Declares that the capture may lack forks. `exits` are the exits of the capture if they were
    /// collected before, or empty. Later calls have no effect.
    pub fn expect_missing_forks(&mut self, exits: ExitIndex) {
        self.partial.get_or_insert_with(|| PartialTree { exits: exits.sorted(), ..PartialTree::default() });
    }

    /// Returns whether a process is currently in the tree.
    pub fn contains(&self, pid: Tgid) -> bool {
        pid == self.root || self.members.contains(pid)
    }

    /// Returns the number of processes that may be in the tree, but whose forks are missing from
    /// the capture.
    pub fn uncertain(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.uncertain.len())
    }

    pub(crate) fn observe(&mut self, record: &OwnedRecord) {
        match record {
            OwnedRecord::Event(item) => {
                let Some(event) = &item.event else { return };
                self.remove_ended();
                match event.body {
                    EventBody::Fork { parent, child } if child.is_leader() => {
                        self.fork(parent.tgid, child.tgid, event.time);
                    }
                    EventBody::Exec { task } => {
                        let ppid = item.details.as_deref().and_then(|details| details.ppid);
                        self.learn_parent(task.tgid, ppid.map(Tgid), event.time);
                    }
                    EventBody::Exit { task, parent, .. } if self.partial.is_some() => {
                        self.learn_parent(task.tgid, parent.map(|parent| parent.tgid), event.time);
                        if let Some(partial) = self.partial.as_mut().filter(|_| task.is_leader()) {
                            partial.ended = Some(task.tgid);
                        }
                    }
                    _ => {}
                }
            }
            OwnedRecord::Details(details) => self.add_scanned(details),
            OwnedRecord::Snapshot(_) => self.finish_scan(),
            _ => {}
        }
    }

    /// Places a new process where its parent is, even if its ID was in use.
    fn fork(&mut self, parent: Tgid, child: Tgid, time: MonoNs) {
        if self.contains(parent) {
            self.add_member(child);
        } else if child == self.root {
            self.partial.iter_mut().for_each(|partial| partial.root_parent = Some(parent));
        } else {
            self.members.remove(child);
            if let Some(partial) = &mut self.partial {
                partial.outside.remove(child);
                // A fork, unlike an exit, names the original parent, so no adoption is possible.
                match partial.outside.contains(parent) || parent == INIT {
                    true => partial.mark_outside(child),
                    false => self.learn_parent(child, Some(parent), time),
                }
            }
        }
    }

    /// Places a process whose fork is missing where its parent is.
    fn learn_parent(&mut self, pid: Tgid, parent: Option<Tgid>, time: MonoNs) {
        if self.contains(pid) {
            if let Some(partial) = self.partial.as_mut().filter(|_| pid == self.root) {
                partial.root_parent = partial.root_parent.or(parent);
            }
            return;
        }
        let Some(parent) = parent else {
            return self.mark_uncertain(pid);
        };
        if self.partial.is_none() {
            if self.contains(parent) {
                self.members.insert(pid);
            }
            return;
        }
        match self.membership(parent, time) {
            TreeMembership::In => self.add_member(pid),
            TreeMembership::Out => self.partial.iter_mut().for_each(|partial| partial.mark_outside(pid)),
            TreeMembership::Unknown => self.mark_uncertain(pid),
        }
    }

    /// Returns whether a process is in the tree, from the process itself and its ancestors.
    fn membership(&self, pid: Tgid, time: MonoNs) -> TreeMembership {
        let Some(partial) = &self.partial else { return TreeMembership::Unknown };
        let mut pid = pid;
        for _ in 0..MAX_ANCESTORS {
            if self.contains(pid) {
                return TreeMembership::In;
            }
            // This process may have forked the previous one, or may have adopted it from the tree.
            if self.may_adopt(partial, pid) {
                return TreeMembership::Unknown;
            }
            if pid == Tgid(0) || partial.outside.contains(pid) {
                return TreeMembership::Out;
            }
            let Some(parent) = partial.exits.parent_of(pid, time) else { return TreeMembership::Unknown };
            pid = parent;
        }
        TreeMembership::Unknown
    }

    /// Returns whether a process can adopt processes of the tree: init, or an ancestor of the root,
    /// which may be a subreaper. The root's parent does not count: usually it is a shell, and has
    /// other children.
    fn may_adopt(&self, partial: &PartialTree, pid: Tgid) -> bool {
        let parent = |of: Tgid| partial.scanned.get(&of).copied();
        let first = partial.root_parent.or_else(|| parent(self.root));
        let ancestors = std::iter::successors(first.and_then(parent), |&of| parent(of));
        pid == INIT || ancestors.take(MAX_ANCESTORS).any(|ancestor| ancestor == pid)
    }

    fn add_member(&mut self, pid: Tgid) {
        self.members.insert(pid);
        if let Some(partial) = &mut self.partial {
            partial.outside.remove(pid);
            partial.uncertain.remove(&pid);
        }
    }

    fn mark_uncertain(&mut self, pid: Tgid) {
        if let Some(partial) = &mut self.partial
            && !partial.outside.contains(pid)
            && partial.uncertain.len() < MAX_PROCESSES
        {
            partial.uncertain.insert(pid);
        }
    }

    fn remove_ended(&mut self) {
        let Some(partial) = &mut self.partial else { return };
        if let Some(ended) = partial.ended.take() {
            partial.outside.remove(ended);
            self.members.remove(ended);
        }
    }

    fn add_scanned(&mut self, details: &Details) {
        if let (DetailsSubject::Snapshot { tgid }, Some(ppid)) = (details.subject, details.ppid)
            && self.scan.len() < MAX_PROCESSES
        {
            self.scan.insert(tgid, Tgid(ppid));
        }
    }

    fn finish_scan(&mut self) {
        let scan = std::mem::take(&mut self.scan);
        let mut children: HashMap<Tgid, Vec<Tgid>> = HashMap::new();
        for (&child, &parent) in &scan {
            children.entry(parent).or_default().push(child);
        }
        // Start from members that are parents in the scan, so that the time depends on the scan and
        // not on the size of the tree.
        let mut new_parents: Vec<Tgid> =
            children.keys().copied().filter(|&parent| self.contains(parent)).collect();
        while let Some(parent) = new_parents.pop() {
            for child in children.remove(&parent).unwrap_or_default() {
                if self.members.insert(child) {
                    new_parents.push(child);
                }
            }
        }
        let Some(mut partial) = self.partial.take() else { return };
        let outside = scan.keys().filter(|&&pid| !self.contains(pid));
        outside.for_each(|&pid| partial.mark_outside(pid));
        partial.scanned = scan;
        self.partial = Some(partial);
    }
}

impl PartialTree {
    /// Marks a process as outside the tree.
    fn mark_outside(&mut self, pid: Tgid) {
        self.uncertain.remove(&pid);
        self.outside.insert(pid);
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::capture::{MissReason, Record, RecordedDatagram, Snapshot, SnapshotReason};
    use pmon_core::wire::{ByteOrder, Event};
    use pmon_core::{Cpu, Seq, Task};

    use super::*;
    use crate::timeline::TimelineItem;

    fn event(time: u64, body: EventBody) -> Event {
        Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body }
    }

    fn exec(time: u64, pid: u32, ppid: Option<u32>) -> OwnedRecord {
        let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(time) };
        let details = Details { ppid, ..Details::missed(subject, MissReason::Gone) };
        let event = Some(event(time, EventBody::Exec { task: Task::new(pid, pid) }));
        OwnedRecord::Event(TimelineItem { event, raw: None, details: Some(Box::new(details)), usage: None })
    }

    fn exit_event(time: u64, pid: u32, parent: u32) -> Event {
        let parent = Some(Task::new(parent, parent));
        event(time, EventBody::Exit { task: Task::new(pid, pid), code: 0, signal: 17, parent })
    }

    fn exit(time: u64, pid: u32, parent: u32) -> OwnedRecord {
        let event = Some(exit_event(time, pid, parent));
        OwnedRecord::Event(TimelineItem { event, raw: None, details: None, usage: None })
    }

    fn exits(all: &[(u64, u32, u32)]) -> ExitIndex {
        let mut exits = ExitIndex::default();
        for &(time, pid, parent) in all {
            exits.count(
                &Record::Event(RecordedDatagram::Event(exit_event(time, pid, parent)), None),
                ByteOrder::NATIVE,
            );
        }
        exits
    }

    fn scan(tree: &mut ProcessTree, all: &[(u32, u32)]) {
        for &(pid, ppid) in all {
            let missed = Details::missed(DetailsSubject::Snapshot { tgid: Tgid(pid) }, MissReason::Denied);
            tree.observe(&OwnedRecord::Details(Box::new(Details { ppid: Some(ppid), ..missed })));
        }
        let (started, ended, processes) = (MonoNs(0), MonoNs(0), all.len() as u32);
        tree.observe(&OwnedRecord::Snapshot(Snapshot {
            started,
            ended,
            processes,
            reason: SnapshotReason::Start,
            atomic: false,
        }));
    }

    /// A tree of process 10 in a capture that lacks forks. The root's parent is 5, whose parent is
    /// 4.
    fn partial(exits: ExitIndex) -> ProcessTree {
        let mut tree = ProcessTree::new(Tgid(10));
        tree.expect_missing_forks(exits);
        scan(&mut tree, &[(1, 0), (4, 1), (5, 4), (10, 5), (6, 1)]);
        tree
    }

    fn is_in(tree: &mut ProcessTree, record: OwnedRecord, pid: u32) -> bool {
        tree.observe(&record);
        tree.contains(Tgid(pid))
    }

    #[test]
    fn the_tree_includes_children_of_forks_without_an_exec() {
        // 10 forks 20, which forks 21: neither execs. 21 starts 22.
        let mut tree = partial(exits(&[(7, 22, 21), (8, 21, 20), (9, 20, 10)]));
        assert!(is_in(&mut tree, exec(5, 22, Some(21)), 22));
        for (time, pid, parent) in [(7, 22, 21), (8, 21, 20), (9, 20, 10)] {
            assert!(is_in(&mut tree, exit(time, pid, parent), pid), "{pid}");
        }
        assert_eq!(tree.uncertain(), 0);
    }

    #[test]
    fn a_process_outside_the_tree_is_not_uncertain() {
        let mut tree = partial(exits(&[(7, 31, 30), (8, 30, 5)]));
        assert!(!is_in(&mut tree, exec(5, 31, Some(30)), 31));
        assert!(!is_in(&mut tree, exec(6, 32, Some(6)), 32));
        assert!(!is_in(&mut tree, exit(7, 31, 30), 31));
        assert_eq!(tree.uncertain(), 0);
    }

    #[test]
    fn a_branch_with_an_unknown_parent_is_uncertain() {
        // The parent outlives the capture, was itself adopted before it exited, or is unknown. Init
        // and the ancestors of the root may have adopted processes that the tree forked.
        for (pid, adopter) in [(48, 1), (49, 4)] {
            let mut tree = partial(ExitIndex::default());
            assert!(!is_in(&mut tree, exec(5, pid, Some(adopter)), pid));
            assert_eq!(tree.uncertain(), 1, "{adopter}");
        }
        let mut tree = partial(exits(&[(9, 41, 1)]));
        assert!(!is_in(&mut tree, exec(5, 42, Some(40)), 42));
        assert_eq!(tree.uncertain(), 1);
        assert!(!is_in(&mut tree, exec(5, 43, Some(41)), 43));
        assert!(!is_in(&mut tree, exec(5, 44, None), 44));
        assert_eq!(tree.uncertain(), 3);
        // The exit of the process itself can settle the question.
        assert!(is_in(&mut tree, exit(6, 44, 10), 44));
        assert_eq!(tree.uncertain(), 2);
        // In a complete capture, no process is uncertain.
        let mut whole = ProcessTree::new(Tgid(10));
        assert!(!is_in(&mut whole, exec(5, 42, Some(40)), 42));
        assert_eq!(whole.uncertain(), 0);
    }

    #[test]
    fn a_reused_id_follows_its_new_parent() {
        let mut tree = partial(exits(&[(6, 50, 10), (9, 50, 5)]));
        assert!(is_in(&mut tree, exec(5, 50, Some(10)), 50));
        assert!(is_in(&mut tree, exit(6, 50, 10), 50));
        assert!(!is_in(&mut tree, exec(8, 50, Some(5)), 50));
        assert!(!is_in(&mut tree, exit(9, 50, 5), 50));
        // Parents are looked up as of the child's time.
        let mut tree = partial(exits(&[(6, 50, 10), (9, 50, 5)]));
        assert!(is_in(&mut tree, exec(5, 51, Some(50)), 51));
        assert!(!is_in(&mut tree, exec(7, 52, Some(50)), 52));
        assert_eq!(tree.uncertain(), 0);
    }

    #[test]
    fn a_cycle_of_parents_terminates() {
        let mut tree = partial(exits(&[(6, 60, 61), (6, 61, 60)]));
        assert!(!is_in(&mut tree, exec(5, 62, Some(60)), 62));
        assert_eq!(tree.uncertain(), 1);
    }

    fn fork(time: u64, parent: (u32, u32), child: (u32, u32)) -> OwnedRecord {
        let (parent, child) = (Task::new(parent.0, parent.1), Task::new(child.0, child.1));
        let event = Some(event(time, EventBody::Fork { parent, child }));
        OwnedRecord::Event(TimelineItem { event, raw: None, details: None, usage: None })
    }

    #[test]
    fn a_process_that_the_tree_adopts_is_outside() {
        // Forks of threads and exits name the current parent, which may have adopted the process.
        let mut tree = ProcessTree::new(Tgid(10));
        assert_eq!(tree.root(), Tgid(10));
        assert!(!is_in(&mut tree, fork(5, (10, 10), (21, 20)), 20));
        assert!(!is_in(&mut tree, exit(6, 20, 10), 20));
    }

    #[test]
    fn a_fork_names_the_original_parent() {
        let mut tree = partial(exits(&[(9, 41, 10)]));
        for (parent, uncertain) in [(1, 0), (4, 0), (6, 0), (40, 1)] {
            assert!(!is_in(&mut tree, fork(5, (parent, parent), (100 + parent, 100 + parent)), 100 + parent));
            assert_eq!(tree.uncertain(), uncertain, "{parent}");
        }
        assert!(is_in(&mut tree, fork(5, (41, 41), (141, 141)), 141));
        // The children of these processes are as certain.
        assert!(!is_in(&mut tree, exec(6, 201, Some(106)), 201));
        assert_eq!(tree.uncertain(), 1);
    }

    #[test]
    fn the_parent_of_the_root_is_known_from_its_exec_as_well() {
        let adopted = |root: Option<OwnedRecord>| {
            let mut tree = ProcessTree::new(Tgid(10));
            tree.expect_missing_forks(ExitIndex::default());
            scan(&mut tree, &[(1, 0), (4, 1), (5, 4), (6, 1)]);
            root.iter()
                .chain([&fork(4, (10, 10), (11, 11)), &exec(4, 11, Some(6))])
                .for_each(|record| tree.observe(record));
            assert!(!is_in(&mut tree, exec(5, 49, Some(4)), 49));
            tree.uncertain()
        };
        assert_eq!((adopted(Some(exec(3, 10, Some(5)))), adopted(None)), (1, 0));
    }

    #[test]
    fn a_parent_can_exit_at_the_time_of_the_event() {
        let mut tree = partial(exits(&[(7, 21, 10)]));
        assert!(is_in(&mut tree, exec(7, 22, Some(21)), 22));
        let mut tree = partial(exits(&[(7, 21, 10)]));
        assert!(!is_in(&mut tree, exec(8, 22, Some(21)), 22));
    }

    #[test]
    fn the_processes_of_a_scan_and_uncertain_ones_are_bounded() {
        let first = 1000;
        let last = first + MAX_PROCESSES as u32;
        let mut tree = partial(ExitIndex::default());
        (first..=last).for_each(|pid| tree.observe(&exec(5, pid, None)));
        assert_eq!(tree.uncertain(), MAX_PROCESSES);
        scan(&mut tree, &(first..=last).map(|pid| (pid, 10)).collect::<Vec<_>>());
        assert!(tree.contains(Tgid(last - 1)) && !tree.contains(Tgid(last)));
    }
}
