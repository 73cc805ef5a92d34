//! The threads of a process: which exit ends it, and with which status.

use std::collections::BTreeSet;

use pmon_core::capture::ProcessState;
use pmon_core::{MonoNs, Task, Tid};

/// A thread that ends this shortly after another one with code 0 may have ended before it: two CPUs emit their events in any order.
const NEAR_NS: u64 = 1_000_000;

/// What an exit event is for the process of its thread.
///
/// A process ends when its last thread does, whichever that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessExit {
    /// The process has other threads, or has ended before.
    GoesOn,
    /// The process has ended.
    Ended {
        /// Its raw wait status, as `wait(2)` gives it to the parent.
        status: u32,
    },
    /// The capture does not tell whether the process has other threads.
    Unknown,
}

/// The threads of a process, as far as the capture tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    /// Those beside the first that have not ended.
    others: BTreeSet<Tid>,
    /// The [era](super::Processes) in which the process was forked, if that was seen: since then no event was lost that could have
    /// been a thread's begin or end.
    era: Option<u64>,
    has_first_ended: bool,
    is_over: bool,
    /// When a thread ended last, and what the exits tell of the status by then.
    last: Option<(MonoNs, u32)>,
}

impl Group {
    /// That of a process that was just forked.
    pub(super) fn forked(era: u64) -> Self {
        Self { era: Some(era), ..Self::default() }
    }

    /// The threads beside the first that are known.
    pub(super) fn len(&self) -> usize {
        self.others.len()
    }

    /// A thread begins.
    pub(super) fn begin(&mut self, tid: Tid) {
        self.others.insert(tid);
    }

    /// A scan in that era found the first thread only.
    pub(super) fn found_alone(&mut self, era: u64) {
        // Of others that are known, one may have ended before the scan, and another begun after it.
        if self.others.is_empty() && !self.has_first_ended {
            self.era = Some(era);
        }
    }

    /// A thread begins that cannot be remembered.
    pub(super) fn lose_track(&mut self) {
        self.era = None;
    }

    /// A thread runs another program: it is the first and only one from then on.
    pub(super) fn exec(&mut self) {
        *self = Self { era: self.era, ..Self::default() };
    }

    /// A thread ends, in that era; `state` is what the recorder saw of the process.
    pub(super) fn end(
        &mut self,
        (time, task, code): (MonoNs, Task, u32),
        state: ProcessState,
        era: u64,
    ) -> ProcessExit {
        if task.is_leader() {
            self.has_first_ended = true;
        } else {
            self.others.remove(&task.tid);
        }
        let status = status(self.last, (time, code));
        self.last = Some((time, status));
        let exit = match state {
            _ if self.is_over => ProcessExit::GoesOn,
            ProcessState::Alive => ProcessExit::GoesOn,
            ProcessState::Ended { status } => ProcessExit::Ended { status },
            ProcessState::Unknown if self.era != Some(era) => ProcessExit::Unknown,
            ProcessState::Unknown if self.has_first_ended && self.others.is_empty() => {
                ProcessExit::Ended { status }
            }
            ProcessState::Unknown => ProcessExit::GoesOn,
        };
        self.is_over |= matches!(exit, ProcessExit::Ended { .. });
        exit
    }
}

/// The status of a process by the exits of its threads: what the threads before say, and now one that ends with `code`.
///
/// A thread that ends for itself does so with 0, if it does not call `exit(2)` by number. `exit_group(2)` and a signal give their code to all
/// threads that are there, and so to the last one; except that only the thread that dumped core has the bit that says so.
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

    /// What each of these exits is, of a process that was forked in era 0 and has three threads.
    fn exits(era: u64, events: &[(u64, (u32, u32), u32, ProcessState)]) -> Vec<ProcessExit> {
        let mut group = Group::forked(0);
        group.begin(Tid(SECOND.0));
        group.begin(Tid(THIRD.0));
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
    fn a_process_ends_with_its_last_thread_whichever_that_is() {
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
    fn a_core_dumped_by_any_thread_is_in_the_status() {
        let core = 11 | 0x80;
        assert_eq!(by_events(&[(1, FIRST, 0), (2, SECOND, core), (2, THIRD, 11)])[2], ended(core));
        assert_eq!(by_events(&[(2, SECOND, core), (2, THIRD, 11), (2, FIRST, 11)])[2], ended(core));
        assert_eq!(by_events(&[(2, SECOND, 11), (2, THIRD, 11), (2, FIRST, core)])[2], ended(core));
        assert_eq!(by_events(&[(1, SECOND, 0), (2, THIRD, 11), (2, FIRST, 11)])[2], ended(11));
    }

    #[test]
    fn a_thread_that_ended_for_itself_and_is_heard_of_last_does_not_hide_the_status() {
        assert_eq!(by_events(&[(1, SECOND, 0), (2, THIRD, 7 << 8), (2, FIRST, 0)])[2], ended(7 << 8));
        assert_eq!(by_events(&[(1, SECOND, 0), (2, THIRD, 7 << 8), (9, FIRST, 0)])[2], ended(0));
    }

    #[test]
    fn what_the_recorder_saw_counts_more_than_the_events() {
        use ProcessState::{Alive, Ended};
        // Threads that are not known, and ended ones whose exits were lost.
        assert_eq!(exits(1, &[(1, FIRST, 0, Alive)]), [GOES_ON]);
        assert_eq!(exits(1, &[(1, FIRST, 0, Ended { status: 9 })]), [ended(9)]);
        // Both of the last two may say so.
        let both =
            [(1, THIRD, 0, Alive), (2, SECOND, 5, Ended { status: 9 }), (2, FIRST, 0, Ended { status: 9 })];
        assert_eq!(exits(0, &both), [GOES_ON, ended(9), GOES_ON]);
    }

    #[test]
    fn where_events_were_lost_the_end_of_the_first_thread_is_not_taken_for_the_end_of_all() {
        let unknown = |task, code| (1, task, code, ProcessState::Unknown);
        assert_eq!(exits(1, &[unknown(FIRST, 0)]), [ProcessExit::Unknown]);
        let rest = [unknown(SECOND, 0), unknown(FIRST, 0), unknown(THIRD, 0)];
        assert_eq!(exits(1, &rest), [ProcessExit::Unknown; 3]);
        let mut group = Group::forked(0);
        group.lose_track();
        let exit = group.end((MonoNs(1), Task::new(20, 20), 0), ProcessState::Unknown, 0);
        assert_eq!(exit, ProcessExit::Unknown);
    }

    #[test]
    fn an_exec_by_another_thread_leaves_one_thread() {
        let mut group = Group::forked(0);
        group.begin(Tid(21));
        let end = |group: &mut Group, code| {
            group.end((MonoNs(1), Task::new(20, 20), code), ProcessState::Unknown, 0)
        };
        assert_eq!(end(&mut group, 0), GOES_ON);
        group.exec();
        assert_eq!(end(&mut group, 3 << 8), ended(3 << 8));
    }
}
