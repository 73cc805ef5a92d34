//! Holds details that were read from `/proc` until it is certain which program they belong to.
//!
//! After an exec, `/proc` may already show the next program. So a result is held until all events
//! up to some time after the reading have been received. If they contain another exec of the same
//! process, the result may belong to that program, whose image is visible a little before its
//! event. The result then counts only if the other exec's own result shows another image.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use pmon_core::MonoNs;
use pmon_core::capture::{Details, MissReason};

use crate::details::exec::{Exec, ExecDetails};

/// Maximum number of remembered execs. Results for older ones are discarded.
const MAX_EXECS: usize = 1 << 16;
/// Maximum number of waiting results. Beyond it, the oldest one is discarded.
const MAX_HELD: usize = 1 << 13;

/// Results that wait until all events around their reading have been received.
#[derive(Debug, Default)]
pub(crate) struct DetailsSettler {
    /// All events up to this time have been received.
    watermark: MonoNs,
    /// Events were lost after the execs up to this time, so their results are void.
    invalid_until: MonoNs,
    /// Execs in the order of arrival, from the first one whose result is awaited on, and whether a
    /// result is awaited.
    execs: VecDeque<(Exec, bool)>,
    /// The same execs, for searching.
    index: BTreeSet<(u32, u64)>,
    /// Results, in the order of their execs.
    held: VecDeque<ExecDetails>,
    /// Number of the first `execs` that belong to the previous segment of the recording.
    late: usize,
    /// Number of those whose result is awaited.
    late_awaited: usize,
    /// Execs that were recorded as missed when their segment ended. Their results are discarded.
    given_up: BTreeSet<(u32, u64)>,
}

impl DetailsSettler {
    /// Adds an exec event. Its details are `awaited`, or have been recorded or missed.
    pub(crate) fn add_exec(&mut self, exec: Exec, awaited: bool) {
        if !awaited && self.execs.is_empty() {
            return;
        }
        self.execs.push_back((exec, awaited));
        self.index.insert(key(exec));
        if self.execs.len() > MAX_EXECS {
            self.remove_first_exec();
        }
    }

    /// Adds the result for an exec.
    pub(crate) fn add_details(&mut self, result: ExecDetails) {
        if !self.given_up.remove(&key(result.exec)) {
            self.held.push_back(result);
        }
    }

    /// Divides the recording: the execs so far belong to the previous segment. An earlier one must
    /// not await results any more.
    pub(crate) fn divide(&mut self) {
        self.late = self.execs.len();
        self.late_awaited = self.execs.iter().filter(|(_, awaited)| *awaited).count();
    }

    /// Whether the previous segment awaits results.
    pub(crate) fn awaits_late(&self) -> bool {
        self.late_awaited > 0
    }

    /// Records that all events up to `time` have been received.
    pub(crate) fn advance(&mut self, time: MonoNs) {
        self.watermark = self.watermark.max(time);
    }

    /// Makes the results of all known execs void, because events were lost after them.
    pub(crate) fn invalidate(&mut self) {
        let newest = self.execs.iter().map(|(exec, _)| exec.time).max();
        self.invalid_until = self.invalid_until.max(newest.unwrap_or_default());
    }

    /// Returns the next result that is certain, and whether its exec belongs to the previous
    /// segment.
    pub(crate) fn next_certain(&mut self) -> Option<(Box<Details>, bool)> {
        let first = self.held.front()?;
        let miss = if self.held.len() > MAX_HELD {
            Some(MissReason::Busy)
        } else if first.settles_at > self.watermark {
            return None;
        } else {
            self.verdict(first)?
        };
        let ExecDetails { exec, mut details, .. } = self.held.pop_front()?;
        if let Some(miss) = miss {
            *details = Details::missed(exec.subject(), miss);
        }
        let mut is_late = false;
        while self.index.contains(&key(exec)) {
            is_late = self.remove_first_exec();
        }
        Some((details, is_late))
    }

    /// Returns missed details for all execs of the previous segment whose result is uncertain or
    /// awaited.
    pub(crate) fn give_up_late(&mut self) -> Vec<Details> {
        let mut missed_execs = Vec::new();
        while self.late > 0
            && let Some(&(exec, awaited)) = self.execs.front()
        {
            self.remove_first_exec();
            if awaited {
                self.given_up.insert(key(exec));
                missed_execs.push(missed(exec));
            }
        }
        let given_up = &mut self.given_up;
        self.held.retain(|result| !given_up.remove(&key(result.exec)));
        missed_execs
    }

    /// Returns missed details for all execs whose result is uncertain or awaited, at the end of a
    /// recording.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = Box<Details>> + use<> {
        self.held.clear();
        self.index.clear();
        std::mem::take(&mut self.execs)
            .into_iter()
            .filter(|&(_, awaited)| awaited)
            .map(|(exec, _)| Box::new(missed(exec)))
    }

    /// Returns why a result is void, if it is; `None` if that is not decided yet. All events around
    /// the reading must have been received.
    fn verdict(&self, result: &ExecDetails) -> Option<Option<MissReason>> {
        let (tgid, time) = key(result.exec);
        if !self.index.contains(&(tgid, time)) || result.exec.time <= self.invalid_until {
            return Some(Some(MissReason::Busy));
        }
        let Some(next) = self.next_exec(result) else { return Some(None) };
        if next <= result.began {
            return Some(Some(MissReason::Superseded));
        }
        let is_next = |(exec, _): &&(Exec, bool)| (exec.tgid.0, exec.time) == (tgid, next);
        let awaited = self.execs.iter().find(is_next).is_some_and(|&(_, awaited)| awaited);
        match self.held.iter().find(|held| key(held.exec) == (tgid, next.0)) {
            None if awaited => None,
            Some(other) if other.settles_at > self.watermark => None,
            Some(other) if self.next_exec(other).is_none() && is_other_image(result, other) => Some(None),
            _ => Some(Some(MissReason::Superseded)),
        }
    }

    /// Returns the time of the next exec of the same process, if that was before the result
    /// settled.
    fn next_exec(&self, result: &ExecDetails) -> Option<MonoNs> {
        let (tgid, time) = key(result.exec);
        let until = result.settles_at.0.max(time + 1);
        let later = (Bound::Excluded((tgid, time)), Bound::Included((tgid, until)));
        self.index.range(later).next().map(|&(_, time)| MonoNs(time))
    }

    /// Removes the first exec. Returns whether it belongs to the previous segment.
    fn remove_first_exec(&mut self) -> bool {
        let Some((exec, awaited)) = self.execs.pop_front() else { return false };
        self.index.remove(&key(exec));
        let is_late = self.late > 0;
        if is_late {
            self.late -= 1;
            self.late_awaited -= usize::from(awaited);
        }
        is_late
    }
}

/// Whether two results certainly differ in their program or its arguments.
fn is_other_image(one: &ExecDetails, other: &ExecDetails) -> bool {
    let image = |result: &ExecDetails| {
        let Details { exe, args, .. } = &*result.details;
        exe.clone().zip(args.clone())
    };
    image(one).zip(image(other)).is_some_and(|(one, other)| one != other)
}

fn missed(exec: Exec) -> Details {
    Details::missed(exec.subject(), MissReason::Busy)
}

fn key(exec: Exec) -> (u32, u64) {
    (exec.tgid.0, exec.time.0)
}

#[cfg(test)]
mod tests {
    use pmon_core::Tgid;

    use crate::details::exec::MemoryShare;

    use super::*;

    fn exec(tgid: u32, time: u64) -> Exec {
        Exec { tgid: Tgid(tgid), time: MonoNs(time) }
    }

    /// Returns details of an exec that were read completely.
    fn read_details(exec: Exec, settles_at: u64) -> ExecDetails {
        let mut details = Box::new(Details::missed(exec.subject(), MissReason::Gone));
        (details.miss, details.comm) = (None, Some(b"first".to_vec()));
        let began = MonoNs(settles_at.saturating_sub(10));
        ExecDetails { exec, details, began, settles_at: MonoNs(settles_at), _share: MemoryShare::default() }
    }

    #[test]
    fn a_result_waits_until_all_events_up_to_its_reading_are_received() {
        let mut settler = DetailsSettler::default();
        settler.add_exec(exec(1, 10), true);
        settler.add_details(read_details(exec(1, 10), 30));
        settler.advance(MonoNs(29));
        assert_eq!(settler.next_certain(), None);
        settler.advance(MonoNs(30));
        assert_eq!(settler.next_certain().unwrap().0.miss, None);
        assert!(settler.execs.is_empty() && settler.index.is_empty());
    }

    #[test]
    fn another_exec_of_the_process_voids_a_later_reading_but_no_earlier_one() {
        for (second, miss) in [(20, Some(MissReason::Superseded)), (31, None)] {
            let mut settler = DetailsSettler::default();
            settler.add_exec(exec(1, 10), true);
            settler.add_details(read_details(exec(1, 10), 30));
            settler.add_exec(exec(2, 20), false);
            settler.add_exec(exec(1, second), true);
            settler.advance(MonoNs(50));
            let (details, _) = settler.next_certain().unwrap();
            assert_eq!(details.miss, miss);
            assert_eq!(details.comm.is_none(), miss.is_some());
        }
    }

    #[test]
    fn after_an_exec_between_reading_and_settling_only_a_different_image_is_certain() {
        for (second_args, miss) in [
            (Some("next"), None),
            (Some("first"), Some(MissReason::Superseded)),
            (None, Some(MissReason::Superseded)),
        ] {
            let mut settler = DetailsSettler::default();
            let image = |exec, settles_at, args: Option<&str>| {
                let mut details = read_details(exec, settles_at);
                (details.details.exe, details.details.args) = (Some(b"/x".to_vec()), args.map(Into::into));
                details
            };
            settler.add_exec(exec(1, 10), true);
            settler.add_exec(exec(1, 25), true);
            settler.add_details(image(exec(1, 10), 30, Some("first")));
            settler.advance(MonoNs(40));
            assert_eq!(settler.next_certain(), None, "the second result is not read yet");
            settler.add_details(image(exec(1, 25), 45, second_args));
            assert_eq!(settler.next_certain(), None, "the second result is not certain yet");
            settler.advance(MonoNs(45));
            assert_eq!(settler.next_certain().unwrap().0.miss, miss);
            assert_eq!(settler.next_certain().unwrap().0.miss, None);
        }
    }

    #[test]
    fn results_of_execs_before_a_loss_are_void() {
        let mut settler = DetailsSettler::default();
        settler.add_exec(exec(1, 10), true);
        settler.invalidate();
        settler.add_exec(exec(2, 20), true);
        settler.add_details(read_details(exec(1, 10), 30));
        settler.add_details(read_details(exec(2, 20), 31));
        settler.advance(MonoNs(50));
        assert_eq!(settler.next_certain().unwrap().0.miss, Some(MissReason::Busy));
        assert_eq!(settler.next_certain().unwrap().0.miss, None);
    }

    #[test]
    fn each_exec_whose_result_is_uncertain_at_the_end_is_missed_once() {
        let mut settler = DetailsSettler::default();
        settler.add_exec(exec(1, 10), true);
        settler.add_exec(exec(2, 11), false);
        settler.add_exec(exec(3, 12), true);
        settler.add_details(read_details(exec(1, 10), 99));
        let missed: Vec<_> =
            settler.give_up().map(|details| (details.subject.tgid().0, details.miss)).collect();
        assert_eq!(missed, [(1, Some(MissReason::Busy)), (3, Some(MissReason::Busy))]);
        assert_eq!(settler.give_up().count(), 0);
    }

    #[test]
    fn memory_is_bounded_and_a_result_for_a_dropped_exec_is_void() {
        let mut settler = DetailsSettler::default();
        for time in 0..=MAX_EXECS as u64 {
            settler.add_exec(exec(time as u32, time), true);
        }
        assert_eq!(settler.execs.len(), MAX_EXECS);
        settler.add_details(read_details(exec(0, 0), 0));
        assert_eq!(settler.next_certain().unwrap().0.miss, Some(MissReason::Busy));
        assert_eq!(settler.execs.len(), MAX_EXECS);
    }
}
