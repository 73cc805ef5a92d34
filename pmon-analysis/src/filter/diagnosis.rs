//! Explains why a filter matches no events.

use pmon_core::MonoNs;
use pmon_core::capture::SelfGenerated;
use pmon_core::wire::{Event, EventKind};

use super::{Filter, ProcessLookup};
use crate::wall_clock::WallClock;

/// Records which conditions of a [`Filter`] matched at least one event, independently of the other
/// conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterDiagnosis {
    /// Number of events examined, without the hidden self-generated events of the recorder.
    pub events: u64,
    /// Earliest and latest time of the examined events.
    pub span: Option<(MonoNs, MonoNs)>,
    /// Whether an event was of one of the selected kinds.
    pub kind: bool,
    /// Whether an event concerned one of the selected processes or threads.
    pub pid: bool,
    /// Whether an event concerned the selected tree.
    pub tree: bool,
    /// Whether an event concerned a process that satisfied the conditions on it.
    pub process: bool,
    /// Whether an event was within the selected time range.
    pub time: bool,
    /// Whether an event was hidden only because threads are hidden.
    pub thread: bool,
    /// Whether an event was hidden only because the recorder's self-generated events are hidden.
    pub own: bool,
}

impl FilterDiagnosis {
    /// Examines an event that `filter` does not show. The other arguments are those of
    /// [`Filter::matches`].
    pub fn observe(
        &mut self,
        filter: &Filter,
        event: Option<&Event>,
        processes: &impl ProcessLookup,
        wall: &WallClock,
    ) {
        let kind = event.map_or(EventKind::Unknown, Event::kind);
        let is_kind = filter.kinds.is_empty() || filter.kinds.contains(&kind);
        let Some(event) = event else {
            self.events += 1;
            self.kind |= is_kind;
            return;
        };
        let is_pid = filter.has_pid(event);
        let is_tree = filter.has_tree(event);
        let is_process = filter.has_process(event, processes);
        let is_time = filter.matches_time(event.time, wall);
        let is_all = is_kind && is_pid && is_tree && is_process && is_time;
        if filter.hide_self_generated.is_some_and(|recorder| SelfGenerated::of(event, recorder).is_some()) {
            self.own |= is_all;
            return;
        }
        self.events += 1;
        let (first, last) = self.span.get_or_insert((event.time, event.time));
        (*first, *last) = (event.time.min(*first), event.time.max(*last));
        self.thread |= is_all && filter.hides_thread(event, processes);
        self.kind |= is_kind;
        self.pid |= is_pid;
        self.tree |= is_tree;
        self.process |= is_process;
        self.time |= is_time;
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::wire::{Comm, EventBody};
    use pmon_core::{Cpu, Seq, Task, Tgid};

    use super::*;
    use crate::ProcessTable;
    use crate::filter::{ProcessCondition, ProcessTree, TimeBound};

    fn event(time: u64, task: (u32, u32)) -> Event {
        let body = EventBody::Exit { task: Task::new(task.0, task.1), code: 0, signal: 17, parent: None };
        Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body }
    }

    fn diagnose(filter: &Filter) -> FilterDiagnosis {
        let mut diagnosis = FilterDiagnosis::default();
        for event in [event(5, (10, 10)), event(9, (21, 20))] {
            diagnosis.observe(filter, Some(&event), &ProcessTable::new(), &WallClock::new());
        }
        diagnosis
    }

    #[test]
    fn each_condition_is_examined_separately() {
        let all = FilterDiagnosis {
            events: 2,
            span: Some((MonoNs(5), MonoNs(9))),
            kind: true,
            pid: true,
            tree: true,
            process: true,
            time: true,
            ..FilterDiagnosis::default()
        };
        assert_eq!(diagnose(&Filter::default()), all);
        let exec = Filter { kinds: vec![EventKind::Exec], ..Filter::default() };
        assert_eq!(diagnose(&exec), FilterDiagnosis { kind: false, ..all });
        assert_eq!(
            diagnose(&Filter { pids: vec![11], ..Filter::default() }),
            FilterDiagnosis { pid: false, ..all }
        );
        let tree = Filter { tree: Some(ProcessTree::new(Tgid(11))), ..Filter::default() };
        assert_eq!(diagnose(&tree), FilterDiagnosis { tree: false, ..all });
        let comm = ProcessCondition { comm: Some(b"sh".to_vec()), ..ProcessCondition::default() };
        let process = Filter { process: comm, ..Filter::default() };
        assert_eq!(diagnose(&process), FilterDiagnosis { process: false, ..all });
        let later = Filter { since: Some(TimeBound::Mono(MonoNs(10))), ..Filter::default() };
        assert_eq!(diagnose(&later), FilterDiagnosis { time: false, ..all });
        let between = Filter {
            since: Some(TimeBound::Mono(MonoNs(6))),
            until: Some(TimeBound::Mono(MonoNs(8))),
            ..Filter::default()
        };
        assert_eq!(diagnose(&between), FilterDiagnosis { time: false, ..all });
        let thread = Filter { pids: vec![21], hide_threads: true, ..Filter::default() };
        assert_eq!(diagnose(&thread), FilterDiagnosis { thread: true, ..all });
    }

    #[test]
    fn a_hidden_event_counts_only_if_nothing_else_excludes_it() {
        let recorder = Tgid(7);
        let mut comm = Comm::default();
        comm.0[..10].copy_from_slice(b"pmon/fence");
        let body = EventBody::Comm { task: Task::new(8, 7), comm };
        let own = Event { time: MonoNs(5), seq: Seq(0), cpu: Cpu(0), body };
        let observe = |filter: Filter| {
            let mut diagnosis = FilterDiagnosis::default();
            let filter = Filter { hide_self_generated: Some(recorder), ..filter };
            diagnosis.observe(&filter, Some(&own), &ProcessTable::new(), &WallClock::new());
            diagnosis
        };
        let hidden = FilterDiagnosis { own: true, ..FilterDiagnosis::default() };
        assert_eq!(observe(Filter::default()), hidden);
        let process = ProcessCondition { comm: Some(b"sh".to_vec()), ..ProcessCondition::default() };
        for other in [
            Filter { kinds: vec![EventKind::Exec], ..Filter::default() },
            Filter { pids: vec![11], ..Filter::default() },
            Filter { tree: Some(ProcessTree::new(Tgid(11))), ..Filter::default() },
            Filter { process, ..Filter::default() },
            Filter { since: Some(TimeBound::Mono(MonoNs(6))), ..Filter::default() },
        ] {
            assert_eq!(observe(other), FilterDiagnosis::default());
        }
    }

    #[test]
    fn an_unreadable_datagram_has_only_a_kind() {
        let observe = |kinds| {
            let mut diagnosis = FilterDiagnosis::default();
            let filter = Filter { kinds, ..Filter::default() };
            for _ in 0..3 {
                diagnosis.observe(&filter, None, &ProcessTable::new(), &WallClock::new());
            }
            diagnosis
        };
        let one = FilterDiagnosis { events: 3, kind: true, ..FilterDiagnosis::default() };
        assert_eq!(observe(vec![]), one);
        assert_eq!(observe(vec![EventKind::Unknown]), one);
        assert_eq!(observe(vec![EventKind::Exec]), FilterDiagnosis { kind: false, ..one });
        // A later datagram does not undo what an earlier event has shown.
        let mut diagnosis = diagnose(&Filter::default());
        let exec = Filter { kinds: vec![EventKind::Exec], ..Filter::default() };
        diagnosis.observe(&exec, None, &ProcessTable::new(), &WallClock::new());
        assert!(diagnosis.kind);
    }
}
