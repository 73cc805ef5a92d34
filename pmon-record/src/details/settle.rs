//! Holds details that were read from `/proc` until it is certain which program they belong to.
//!
//! After an exec, `/proc` may already show the next program. So a result is held until all events
//! up to some time after the reading have been received. If they contain another exec of the same
//! process, the result may belong to that program, whose image is visible a little before its
//! event. The result then counts only if the other exec's own result shows another image.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use pmon_core::MonoNs;
use pmon_core::capture::{Details, DetailsSubject, MissReason};

use crate::details::exec::{Exec, ExecDetails};

/// Maximum number of remembered execs. Results for older ones are discarded.
const LIMIT: usize = 1 << 16;
/// Maximum number of waiting results. Beyond it, the oldest is discarded.
const HELD: usize = 1 << 13;

/// Results that wait until all events around their reading have been received.
#[derive(Debug, Default)]
pub(crate) struct DetailsSettler {
    /// All events up to this time have been seen.
    watermark: MonoNs,
    /// Events were lost after the execs up to this time: their results are void.
    blind_until: MonoNs,
    /// Execs in the order of arrival, and whether a result is awaited; as far back as one is.
    execs: VecDeque<(Exec, bool)>,
    /// The same, to be searched.
    index: BTreeSet<(u32, u64)>,
    /// Results, in the order of their execs.
    held: VecDeque<ExecDetails>,
}

impl DetailsSettler {
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
    pub(crate) fn hold(&mut self, outcome: ExecDetails) {
        self.held.push_back(outcome);
    }

    /// All events up to `time` have been seen.
    pub(crate) fn advance(&mut self, time: MonoNs) {
        self.watermark = self.watermark.max(time);
    }

    /// Events have been lost, before now or since the last exec that was seen.
    pub(crate) fn blind(&mut self) {
        let newest = self.execs.iter().map(|(exec, _)| exec.time).max();
        self.blind_until = self.blind_until.max(newest.unwrap_or_default());
    }

    /// The next result that is certain.
    pub(crate) fn next_certain(&mut self) -> Option<Box<Details>> {
        let first = self.held.front()?;
        let miss = if self.held.len() > HELD {
            Some(MissReason::Busy)
        } else if first.settles_at > self.watermark {
            return None;
        } else {
            self.judge(first)?
        };
        let ExecDetails { exec, mut details, .. } = self.held.pop_front()?;
        if let Some(miss) = miss {
            *details = Details::missed(subject(exec), miss);
        }
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
            .map(|(exec, _)| Box::new(Details::missed(subject(exec), MissReason::Busy)))
    }

    /// Why a result of which all events around have been seen does not hold; `None` if that is still to be told.
    fn judge(&self, outcome: &ExecDetails) -> Option<Option<MissReason>> {
        let (tgid, time) = key(outcome.exec);
        if !self.index.contains(&(tgid, time)) || outcome.exec.time <= self.blind_until {
            return Some(Some(MissReason::Busy));
        }
        let Some(next) = self.next_exec(outcome) else { return Some(None) };
        if next <= outcome.began {
            return Some(Some(MissReason::Superseded));
        }
        let is_next = |(exec, _): &&(Exec, bool)| (exec.tgid.0, exec.time) == (tgid, next);
        let awaited = self.execs.iter().find(is_next).is_some_and(|&(_, awaited)| awaited);
        match self.held.iter().find(|held| key(held.exec) == (tgid, next.0)) {
            None if awaited => None,
            Some(other) if other.settles_at > self.watermark => None,
            Some(other) if self.next_exec(other).is_none() && is_other_image(outcome, other) => Some(None),
            _ => Some(Some(MissReason::Superseded)),
        }
    }

    /// When the same process ran its next program, if that was before the result settled.
    fn next_exec(&self, outcome: &ExecDetails) -> Option<MonoNs> {
        let (tgid, time) = key(outcome.exec);
        let until = outcome.settles_at.0.max(time + 1);
        let later = (Bound::Excluded((tgid, time)), Bound::Included((tgid, until)));
        self.index.range(later).next().map(|&(_, time)| MonoNs(time))
    }

    fn forget_first(&mut self) {
        if let Some((exec, _)) = self.execs.pop_front() {
            self.index.remove(&key(exec));
        }
    }
}

/// Whether two results are certainly not of the same program with the same arguments.
fn is_other_image(one: &ExecDetails, other: &ExecDetails) -> bool {
    let image = |outcome: &ExecDetails| {
        let Details { exe, args, .. } = &*outcome.details;
        exe.clone().zip(args.clone())
    };
    image(one).zip(image(other)).is_some_and(|(one, other)| one != other)
}

fn key(exec: Exec) -> (u32, u64) {
    (exec.tgid.0, exec.time.0)
}

fn subject(exec: Exec) -> DetailsSubject {
    DetailsSubject::Exec { tgid: exec.tgid, time: exec.time }
}

#[cfg(test)]
mod tests {
    use pmon_core::Tgid;

    use crate::details::exec::MemoryShare;

    use super::*;

    fn exec(tgid: u32, time: u64) -> Exec {
        Exec { tgid: Tgid(tgid), time: MonoNs(time) }
    }

    fn outcome(exec: Exec, settles_at: u64) -> ExecDetails {
        let mut details = Box::new(Details::missed(subject(exec), MissReason::Gone));
        (details.miss, details.comm) = (None, Some(b"first".to_vec()));
        let began = MonoNs(settles_at.saturating_sub(10));
        ExecDetails { exec, details, began, settles_at: MonoNs(settles_at), _share: MemoryShare::default() }
    }

    #[test]
    fn a_result_is_held_until_all_events_up_to_its_reading_were_seen() {
        let mut pending = DetailsSettler::default();
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
        for (second, miss) in [(20, Some(MissReason::Superseded)), (31, None)] {
            let mut pending = DetailsSettler::default();
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
    fn an_exec_between_the_reading_and_the_settling_needs_another_image_to_tell_them_apart() {
        for (second_args, miss) in [
            (Some("next"), None),
            (Some("first"), Some(MissReason::Superseded)),
            (None, Some(MissReason::Superseded)),
        ] {
            let mut pending = DetailsSettler::default();
            let image = |exec, settles_at, args: Option<&str>| {
                let mut outcome = outcome(exec, settles_at);
                (outcome.details.exe, outcome.details.args) = (Some(b"/x".to_vec()), args.map(Into::into));
                outcome
            };
            pending.exec(exec(1, 10), true);
            pending.exec(exec(1, 25), true);
            pending.hold(image(exec(1, 10), 30, Some("first")));
            pending.advance(MonoNs(40));
            assert_eq!(pending.next_certain(), None, "the second is still to be read");
            pending.hold(image(exec(1, 25), 45, second_args));
            assert_eq!(pending.next_certain(), None, "and to settle");
            pending.advance(MonoNs(45));
            assert_eq!(pending.next_certain().unwrap().miss, miss);
            assert_eq!(pending.next_certain().unwrap().miss, None);
        }
    }

    #[test]
    fn what_was_read_before_a_loss_was_seen_is_void() {
        let mut pending = DetailsSettler::default();
        pending.exec(exec(1, 10), true);
        pending.blind();
        pending.exec(exec(2, 20), true);
        pending.hold(outcome(exec(1, 10), 30));
        pending.hold(outcome(exec(2, 20), 31));
        pending.advance(MonoNs(50));
        assert_eq!(pending.next_certain().unwrap().miss, Some(MissReason::Busy));
        assert_eq!(pending.next_certain().unwrap().miss, None);
    }

    #[test]
    fn what_is_uncertain_at_the_end_is_missed_once_for_each_exec() {
        let mut pending = DetailsSettler::default();
        pending.exec(exec(1, 10), true);
        pending.exec(exec(2, 11), false);
        pending.exec(exec(3, 12), true);
        pending.hold(outcome(exec(1, 10), 99));
        let missed: Vec<_> =
            pending.give_up().map(|details| (details.subject.tgid().0, details.miss)).collect();
        assert_eq!(missed, [(1, Some(MissReason::Busy)), (3, Some(MissReason::Busy))]);
        assert_eq!(pending.give_up().count(), 0);
    }

    #[test]
    fn memory_is_bounded_and_a_result_for_a_forgotten_exec_is_void() {
        let mut pending = DetailsSettler::default();
        for time in 0..=LIMIT as u64 {
            pending.exec(exec(time as u32, time), true);
        }
        assert_eq!(pending.execs.len(), LIMIT);
        pending.hold(outcome(exec(0, 0), 0));
        assert_eq!(pending.next_certain().unwrap().miss, Some(MissReason::Busy));
        assert_eq!(pending.execs.len(), LIMIT);
    }
}
