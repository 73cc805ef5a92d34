//! Tracks the threads of a process, to find the exit that ends the process and its status.

use std::collections::BTreeSet;

use pmon_core::capture::{ProcessState, Usage};
use pmon_core::{MonoNs, Task, Tid};

use crate::wait_status::WaitStatus;

/// Maximum distance in ns between exits whose order is uncertain, because two CPUs emit events in
/// any order. If a thread exits with code 0 this soon after another thread, it may have exited
/// before it.
const NEAR_NS: u64 = 1_000_000;

/// The effect of an exit event on the process of its thread.
///
/// A process ends when its last thread exits, which need not be the first thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessExit {
    /// The process has other threads, or it had ended before.
    GoesOn,
    /// The process has ended.
    Ended {
        /// Raw wait status of the process, as `wait(2)` returns it to the parent.
        status: u32,
    },
    /// The capture does not show whether the process has other threads.
    Unknown,
}

impl ProcessExit {
    /// Returns whether the OOM killer killed the process that an exit with this effect has ended;
    /// `None` without an end, or if that is unknown. `usage` is that of the exit.
    pub(crate) fn is_oom_kill(exit: Option<Self>, usage: Option<&Usage>) -> Option<bool> {
        let Some(Self::Ended { status }) = exit else { return None };
        WaitStatus::from_raw(status).is_oom_kill(usage.map(|usage| &usage.fatal_signal))
    }
}

/// What the exits of a process's threads have shown so far.
///
/// The caller stores the threads, and counts the _eras_: each loss of events begins another era, in
/// which earlier knowledge about threads may be wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExitState {
    /// The era of the process's fork, or of a scan that found only one thread. All threads are
    /// known as long as the era lasts, because no event of a thread was lost in it.
    era: Option<u64>,
    has_first_ended: bool,
    is_over: bool,
    /// Time of the latest exit, and the status of the process according to the exits so far.
    last: Option<(MonoNs, u32)>,
}

impl ExitState {
    /// Creates the state of a process that was forked in `era`.
    pub fn forked(era: u64) -> Self {
        Self { era: Some(era), ..Self::default() }
    }

    /// Returns whether all threads of the process are known in `era`.
    pub fn knows_threads(&self, era: u64) -> bool {
        self.era == Some(era)
    }

    /// Returns whether the first thread has exited.
    pub fn has_first_ended(&self) -> bool {
        self.has_first_ended
    }

    /// Notes that a scan in `era` found only the first thread. `others` is the number of other
    /// threads that are known.
    pub fn mark_single_threaded(&mut self, era: u64, others: usize) {
        // If other threads are known, one may have exited before the scan, and another started
        // after it.
        if others == 0 && !self.has_first_ended {
            self.era = Some(era);
        }
    }

    /// Notes that a new thread cannot be stored.
    pub fn mark_incomplete(&mut self) {
        self.era = None;
    }

    /// Notes that a thread called exec: it becomes the first and only thread.
    pub fn exec(&mut self) {
        *self = Self { era: self.era, ..Self::default() };
    }

    /// Applies the exit of a thread in `era`. `state` is the process state that the recorder saw,
    /// and `others` the number of known threads that remain, without the first one.
    pub fn end(
        &mut self,
        (time, task, code): (MonoNs, Task, u32),
        state: ProcessState,
        era: u64,
        others: usize,
    ) -> ProcessExit {
        self.has_first_ended |= task.is_leader();
        let status = status(self.last, (time, code));
        self.last = Some((time, status));
        let exit = match state {
            _ if self.is_over => ProcessExit::GoesOn,
            ProcessState::Alive => ProcessExit::GoesOn,
            ProcessState::Ended { status } => ProcessExit::Ended { status },
            ProcessState::Unknown if self.era != Some(era) => ProcessExit::Unknown,
            ProcessState::Unknown if self.has_first_ended && others == 0 => ProcessExit::Ended { status },
            ProcessState::Unknown => ProcessExit::GoesOn,
        };
        self.is_over |= matches!(exit, ProcessExit::Ended { .. });
        exit
    }
}

/// The threads of a process, as far as the capture shows them.
#[derive(Clone, Debug, Default)]
pub(super) struct ThreadGroup {
    /// Running threads other than the first.
    others: BTreeSet<Tid>,
    state: ExitState,
}

impl ThreadGroup {
    /// Creates the thread group of a newly forked process.
    pub(super) fn forked(era: u64) -> Self {
        Self { state: ExitState::forked(era), ..Self::default() }
    }

    /// Returns the number of known threads other than the first.
    pub(super) fn len(&self) -> usize {
        self.others.len()
    }

    /// Adds a thread. Returns whether it was unknown.
    pub(super) fn add(&mut self, tid: Tid) -> bool {
        self.others.insert(tid)
    }

    /// Notes that a scan in `era` found only the first thread.
    pub(super) fn mark_single_threaded(&mut self, era: u64) {
        self.state.mark_single_threaded(era, self.others.len());
    }

    /// Notes that a new thread cannot be stored.
    pub(super) fn mark_incomplete(&mut self) {
        self.state.mark_incomplete();
    }

    /// Notes that a thread called exec: it becomes the first and only thread.
    pub(super) fn exec(&mut self) {
        self.others.clear();
        self.state.exec();
    }

    /// Applies the exit of a thread in `era`. `state` is the process state that the recorder saw.
    pub(super) fn end(&mut self, exit: (MonoNs, Task, u32), state: ProcessState, era: u64) -> ProcessExit {
        self.others.remove(&exit.1.tid);
        self.state.end(exit, state, era, self.others.len())
    }
}

/// Returns the status of a process after an exit with `code`, given the time and status of the
/// previous exits.
///
/// A thread that exits by itself has code 0, unless it calls `_exit(2)` by its system call number.
/// `exit_group(2)` and fatal signals give their code to all running threads, and therefore to the
/// last one. Only the thread that dumped core has the core dump bit.
fn status(before: Option<(MonoNs, u32)>, (time, code): (MonoNs, u32)) -> u32 {
    const SIGNAL: u32 = 0x7f;
    const CORE: u32 = 0x80;
    match before {
        Some((_, status)) if code & SIGNAL != 0 && status & SIGNAL == code & SIGNAL => code | status & CORE,
        Some((at, status)) if code == 0 && time.0.saturating_sub(at.0) < NEAR_NS => status,
        _ => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: (u32, u32) = (20, 20);
    const SECOND: (u32, u32) = (21, 20);
    const THIRD: (u32, u32) = (22, 20);

    const GOES_ON: ProcessExit = ProcessExit::GoesOn;

    fn ended(status: u32) -> ProcessExit {
        ProcessExit::Ended { status }
    }

    /// Returns the effect of each exit of a process that has three threads and was forked in era 0.
    fn exits(era: u64, events: &[(u64, (u32, u32), u32, ProcessState)]) -> Vec<ProcessExit> {
        let mut group = ThreadGroup::forked(0);
        group.add(Tid(SECOND.0));
        group.add(Tid(THIRD.0));
        let mut end = |&(ms, (tid, tgid), code, state): &(u64, (u32, u32), u32, ProcessState)| {
            group.end((MonoNs(ms * 1_000_000), Task::new(tid, tgid), code), state, era)
        };
        events.iter().map(&mut end).collect()
    }

    fn by_events(events: &[(u64, (u32, u32), u32)]) -> Vec<ProcessExit> {
        let events: Vec<_> =
            events.iter().map(|&(ms, task, code)| (ms, task, code, ProcessState::Unknown)).collect();
        exits(0, &events)
    }

    #[test]
    fn a_process_ends_with_whichever_thread_exits_last() {
        for (first, second, third) in
            [(FIRST, SECOND, THIRD), (SECOND, FIRST, THIRD), (THIRD, SECOND, FIRST), (SECOND, THIRD, FIRST)]
        {
            let seen = by_events(&[(1, first, 0), (5, second, 0), (300, third, 7 << 8)]);
            assert_eq!(seen, [GOES_ON, GOES_ON, ended(7 << 8)]);
            assert_eq!(by_events(&[(1, first, 0), (5, second, 0), (300, third, 9)])[2], ended(9));
            assert_eq!(by_events(&[(1, first, 3 << 8), (5, second, 0), (300, third, 0)])[2], ended(0));
        }
    }

    #[test]
    fn the_status_shows_a_core_dump_of_any_thread() {
        let core = 11 | 0x80;
        assert_eq!(by_events(&[(1, FIRST, 0), (2, SECOND, core), (2, THIRD, 11)])[2], ended(core));
        assert_eq!(by_events(&[(2, SECOND, core), (2, THIRD, 11), (2, FIRST, 11)])[2], ended(core));
        assert_eq!(by_events(&[(2, SECOND, 11), (2, THIRD, 11), (2, FIRST, core)])[2], ended(core));
        assert_eq!(by_events(&[(1, SECOND, core), (2, THIRD, core), (2, FIRST, 11)])[2], ended(core));
        assert_eq!(by_events(&[(1, SECOND, 0), (2, THIRD, 11), (2, FIRST, 11)])[2], ended(11));
    }

    #[test]
    fn a_voluntary_exit_reported_last_does_not_hide_the_status() {
        assert_eq!(by_events(&[(1, SECOND, 0), (2, THIRD, 7 << 8), (2, FIRST, 0)])[2], ended(7 << 8));
        assert_eq!(by_events(&[(1, SECOND, 0), (2, THIRD, 7 << 8), (9, FIRST, 0)])[2], ended(0));
    }

    #[test]
    fn the_recorded_process_state_overrides_the_events() {
        use ProcessState::{Alive, Ended};
        // Some threads are unknown, or their exits were lost.
        assert_eq!(exits(1, &[(1, FIRST, 0, Alive)]), [GOES_ON]);
        assert_eq!(exits(1, &[(1, FIRST, 0, Ended { status: 9 })]), [ended(9)]);
        // Both of the last two exits can report the end.
        let both =
            [(1, THIRD, 0, Alive), (2, SECOND, 5, Ended { status: 9 }), (2, FIRST, 0, Ended { status: 9 })];
        assert_eq!(exits(0, &both), [GOES_ON, ended(9), GOES_ON]);
    }

    #[test]
    fn after_a_loss_an_exit_of_the_first_thread_does_not_prove_the_end() {
        let unknown = |task, code| (1, task, code, ProcessState::Unknown);
        assert_eq!(exits(1, &[unknown(FIRST, 0)]), [ProcessExit::Unknown]);
        let rest = [unknown(SECOND, 0), unknown(FIRST, 0), unknown(THIRD, 0)];
        assert_eq!(exits(1, &rest), [ProcessExit::Unknown; 3]);
        let mut group = ThreadGroup::forked(0);
        group.mark_incomplete();
        let exit = group.end((MonoNs(1), Task::new(20, 20), 0), ProcessState::Unknown, 0);
        assert_eq!(exit, ProcessExit::Unknown);
    }

    #[test]
    fn an_exec_by_another_thread_leaves_one_thread() {
        let mut group = ThreadGroup::forked(0);
        group.add(Tid(21));
        let end = |group: &mut ThreadGroup, code| {
            group.end((MonoNs(1), Task::new(20, 20), code), ProcessState::Unknown, 0)
        };
        assert_eq!(end(&mut group, 0), GOES_ON);
        group.exec();
        assert_eq!(end(&mut group, 3 << 8), ended(3 << 8));
    }

    #[test]
    fn all_threads_are_known_from_a_fork_or_a_scan_until_a_loss() {
        let mut state = ExitState::forked(3);
        assert!(state.knows_threads(3) && !state.knows_threads(4));
        state.mark_single_threaded(5, 1);
        assert!(!state.knows_threads(5), "another thread may have exited before the scan");
        state.mark_single_threaded(5, 0);
        assert!(state.knows_threads(5) && !state.has_first_ended());
        let exit = (MonoNs(1), Task::new(20, 20), 0);
        assert_eq!(state.end(exit, ProcessState::Alive, 5, 1), GOES_ON);
        assert!(state.has_first_ended());
        state.mark_single_threaded(6, 0);
        assert!(!state.knows_threads(6), "the scan may have found the first thread as a zombie");
        assert!(!ExitState::default().knows_threads(0));
    }

    #[test]
    fn exits_that_are_a_millisecond_apart_are_in_order() {
        let status = |later: u64| {
            let mut state = ExitState::forked(0);
            let unknown = ProcessState::Unknown;
            state.end((MonoNs(5), Task::new(21, 20), 7 << 8), unknown, 0, 0);
            state.end((MonoNs(5 + later), Task::new(20, 20), 0), unknown, 0, 0)
        };
        assert_eq!((status(NEAR_NS - 1), status(NEAR_NS)), (ended(7 << 8), ended(0)));
    }

    #[test]
    fn a_scan_that_finds_one_thread_makes_the_group_known() {
        let exit = (MonoNs(1), Task::new(20, 20), 0);
        let mut group = ThreadGroup::forked(0);
        group.add(Tid(21));
        assert_eq!(group.len(), 1);
        group.mark_single_threaded(1);
        assert_eq!(group.end(exit, ProcessState::Unknown, 1), ProcessExit::Unknown);
        let mut group = ThreadGroup::default();
        group.mark_single_threaded(1);
        assert_eq!(group.end(exit, ProcessState::Unknown, 1), ended(0));
    }
}
