//! Details that wait until it is certain whose they are.
//!
//! What `/proc` shows at some time after an exec may be the next program already. So a result is held until all
//! events up to the time of reading have been seen; another exec of the same process among them makes it void.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use pmon_core::MonoNs;
use pmon_core::capture::{Details, Miss, Subject};

use crate::details::{Exec, Outcome};

/// Execs remembered at the most. Results for those forgotten are void.
const LIMIT: usize = 1 << 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// All events up to this time have been seen.
    watermark: MonoNs,
    /// Execs in the order of arrival, and whether a result is awaited; as far back as one is.
    execs: VecDeque<(Exec, bool)>,
    /// The same, to be searched.
    index: BTreeSet<(u32, u64)>,
    /// Results, in the order of their execs.
    held: VecDeque<Outcome>,
}

impl Pending {
    /// An exec event was seen, and its details are `awaited` or have been missed.
    pub(crate) fn exec(&mut self, exec: Exec, awaited: bool) {
        if !awaited && self.execs.is_empty() {
            return;
        }
        self.execs.push_back((exec, awaited));
        self.index.insert(key(exec));
        if self.execs.len() > LIMIT {
            self.forget_first();
        }
    }

    /// A result has come.
    pub(crate) fn hold(&mut self, outcome: Outcome) {
        self.held.push_back(outcome);
    }

    /// All events up to `time` have been seen.
    pub(crate) fn advance(&mut self, time: MonoNs) {
        self.watermark = self.watermark.max(time);
    }

    /// The next result that is certain.
    pub(crate) fn next_certain(&mut self) -> Option<Box<Details>> {
        if self.held.front()?.settles_at > self.watermark {
            return None;
        }
        let outcome = self.held.pop_front()?;
        let Outcome { exec, details, .. } = self.judge(outcome);
        while self.index.contains(&key(exec)) {
            self.forget_first();
        }
        Some(details)
    }

    /// At the end of a recording: what is still uncertain or awaited, as missed.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = Box<Details>> + use<> {
        self.held.clear();
        self.index.clear();
        std::mem::take(&mut self.execs)
            .into_iter()
            .filter(|&(_, awaited)| awaited)
            .map(|(exec, _)| Box::new(Details::missed(subject(exec), Miss::Busy)))
    }

    fn judge(&self, mut outcome: Outcome) -> Outcome {
        let (tgid, time) = key(outcome.exec);
        let later =
            (Bound::Excluded((tgid, time)), Bound::Included((tgid, outcome.settles_at.0.max(time + 1))));
        let miss = if !self.index.contains(&(tgid, time)) {
            Some(Miss::Busy)
        } else if self.index.range(later).next().is_some() {
            Some(Miss::Superseded)
        } else {
            None
        };
        if let Some(miss) = miss {
            *outcome.details = Details::missed(subject(outcome.exec), miss);
        }
        outcome
    }

    fn forget_first(&mut self) {
        if let Some((exec, _)) = self.execs.pop_front() {
            self.index.remove(&key(exec));
        }
    }
}

fn key(exec: Exec) -> (u32, u64) {
    (exec.tgid.0, exec.time.0)
}

fn subject(exec: Exec) -> Subject {
    Subject::Exec { tgid: exec.tgid, time: exec.time }
}

#[cfg(test)]
mod tests {
    use pmon_core::Tgid;

    use super::*;

    fn exec(tgid: u32, time: u64) -> Exec {
        Exec { tgid: Tgid(tgid), time: MonoNs(time) }
    }

    fn outcome(exec: Exec, settles_at: u64) -> Outcome {
        let mut details = Box::new(Details::missed(subject(exec), Miss::Gone));
        (details.miss, details.comm) = (None, Some(b"first".to_vec()));
        Outcome { exec, details, settles_at: MonoNs(settles_at) }
    }

    #[test]
    fn a_result_is_held_until_all_events_up_to_its_reading_were_seen() {
        let mut pending = Pending::default();
        pending.exec(exec(1, 10), true);
        pending.hold(outcome(exec(1, 10), 30));
        pending.advance(MonoNs(29));
        assert_eq!(pending.next_certain(), None);
        pending.advance(MonoNs(30));
        assert_eq!(pending.next_certain().unwrap().miss, None);
        assert!(pending.execs.is_empty() && pending.index.is_empty());
    }

    #[test]
    fn another_exec_of_the_process_before_the_reading_voids_it_and_one_after_does_not() {
        for (second, miss) in [(30, Some(Miss::Superseded)), (31, None)] {
            let mut pending = Pending::default();
            pending.exec(exec(1, 10), true);
            pending.hold(outcome(exec(1, 10), 30));
            pending.exec(exec(2, 20), false);
            pending.exec(exec(1, second), true);
            pending.advance(MonoNs(50));
            let details = pending.next_certain().unwrap();
            assert_eq!(details.miss, miss);
            assert_eq!(details.comm.is_none(), miss.is_some());
        }
    }

    #[test]
    fn what_is_uncertain_at_the_end_is_missed_once_for_each_exec() {
        let mut pending = Pending::default();
        pending.exec(exec(1, 10), true);
        pending.exec(exec(2, 11), false);
        pending.exec(exec(3, 12), true);
        pending.hold(outcome(exec(1, 10), 99));
        let missed: Vec<_> =
            pending.give_up().map(|details| (details.subject.tgid().0, details.miss)).collect();
        assert_eq!(missed, [(1, Some(Miss::Busy)), (3, Some(Miss::Busy))]);
        assert_eq!(pending.give_up().count(), 0);
    }

    #[test]
    fn memory_is_bounded_and_a_result_for_a_forgotten_exec_is_void() {
        let mut pending = Pending::default();
        for time in 0..=LIMIT as u64 {
            pending.exec(exec(time as u32, time), true);
        }
        assert_eq!(pending.execs.len(), LIMIT);
        pending.hold(outcome(exec(0, 0), 0));
        assert_eq!(pending.next_certain().unwrap().miss, Some(Miss::Busy));
        assert_eq!(pending.execs.len(), LIMIT);
    }
}
