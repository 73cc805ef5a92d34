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

    /// Returns whether a process satisfies the conditions on its ID and its ancestors.
    pub fn has_id(&self, life: &Life) -> bool {
        (self.pids.is_empty() || self.pids.contains(&life.pid))
            && self
                .tree
                .is_none_or(|root| life.pid == root || life.ancestors().any(|ancestor| ancestor.pid == root))
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::capture::{
        ClockAnchor, Details, DetailsSubject, Header, Meta, MissReason, Record, RecordedDatagram,
    };
    use pmon_core::wire::{ByteOrder, Event, EventBody};
    use pmon_core::{Cpu, Seq, Task, Tgid};

    use super::*;
    use crate::filter::{EndCondition, Glob, compile_regex};
    use crate::life::LifeTracker;

    fn event(ns: u64, body: EventBody) -> Record<'static> {
        RecordedDatagram::Event(Event { time: MonoNs(ns), seq: Seq(0), cpu: Cpu(0), body }).into()
    }

    /// A shell, 10, forks 20, which runs `ls -l` for 50 ns; nothing is known of 30. A scan finds
    /// 40, a thread of the kernel.
    fn lives() -> Vec<Life> {
        let task = |pid| Task::new(pid, pid);
        let fork =
            |ns, parent, child| event(ns, EventBody::Fork { parent: task(parent), child: task(child) });
        let subject = DetailsSubject::Exec { tgid: Tgid(20), time: MonoNs(110) };
        let details =
            Details { args: Some(b"ls\0-l\0".to_vec()), ..Details::missed(subject, MissReason::Gone) };
        let scanned = Details::missed(DetailsSubject::Snapshot { tgid: Tgid(40) }, MissReason::Gone);
        let kernel_thread = Details { miss: None, cgroup: Some(b"0::/".to_vec()), ..scanned };
        let meta = Meta { start: ClockAnchor::default(), ticks_per_second: 100, ..Meta::default() };
        let mut tracker = LifeTracker::new(&Header { uuid: [1; 16], byte_order: ByteOrder::Little, meta });
        for record in [
            fork(100, 10, 20),
            event(110, EventBody::Exec { task: task(20) }),
            Record::Details(Box::new(details)),
            event(150, EventBody::Exit { task: task(20), code: 256, signal: 17, parent: None }),
            fork(160, 1, 30),
            Record::Details(Box::new(kernel_thread)),
        ] {
            tracker.apply(&record);
        }
        tracker.finish();
        std::iter::from_fn(|| tracker.pop()).collect()
    }

    /// Returns the processes that match, and those that may match.
    fn selected(filter: &LifeFilter) -> (Vec<u32>, Vec<u32>) {
        let lives = lives();
        let select = |selects: &dyn Fn(&Life) -> bool| {
            lives.iter().filter(|life| selects(life)).map(|life| life.pid).collect::<Vec<_>>()
        };
        let now = MonoNs(1000);
        (select(&|life| filter.matches(life, now)), select(&|life| filter.may_match(life, now)))
    }

    #[test]
    fn a_process_must_satisfy_all_conditions() {
        let args = |pattern| ProcessCondition {
            args: Some(compile_regex(pattern).unwrap()),
            ..ProcessCondition::default()
        };
        let of = |pids: &[u32], tree, process| LifeFilter { pids: pids.to_vec(), tree, process };
        let any = ProcessCondition::default;
        assert_eq!(selected(&of(&[], None, any())), (vec![20, 1, 10, 30, 40], vec![]));
        assert_eq!(selected(&of(&[10, 20], None, any())), (vec![20, 10], vec![]));
        assert_eq!(selected(&of(&[], Some(10), any())), (vec![20, 10], vec![]));
        assert_eq!(selected(&of(&[20, 30], Some(10), any())), (vec![20], vec![]));
        // Nothing is known of the others, but a thread of the kernel has no arguments.
        assert_eq!(selected(&of(&[], None, args("^ls -l$"))), (vec![20], vec![1, 10, 30]));
        assert_eq!(selected(&of(&[10, 20], None, args("^ls -l$"))), (vec![20], vec![10]));
        assert_eq!(selected(&of(&[], Some(10), args("-x"))), (vec![], vec![10]));
    }

    #[test]
    fn an_unknown_property_decides_nothing_unless_another_one_excludes_the_process() {
        let exe = ProcessCondition { exe: Some(Glob::new("/bin/*").unwrap()), ..Default::default() };
        let may = |process| selected(&LifeFilter { process, ..LifeFilter::default() }).1;
        // A thread of the kernel has no executable.
        assert_eq!(may(exe.clone()), [20, 1, 10, 30]);
        let ends = vec![EndCondition::Code(2)];
        // Process 20 ended with another code, and the others are running.
        assert_eq!(may(ProcessCondition { ends: ends.clone(), ..exe.clone() }), [0_u32; 0]);
        assert_eq!(may(ProcessCondition { longer_than_ns: Some(51), ..exe.clone() }), [1, 10, 30]);
        assert_eq!(may(ProcessCondition { longer_than_ns: Some(50), ..exe.clone() }), [20, 1, 10, 30]);
        assert_eq!(may(ProcessCondition { uids: vec![1], ..exe }), [20, 1, 10, 30]);
    }
}
