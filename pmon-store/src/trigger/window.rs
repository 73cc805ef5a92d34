//! Sliding windows of event time, and the rates that they measure.

use std::collections::VecDeque;

/// Maximum number of events in a window.
pub(super) const MAX_COUNT: u32 = 100_000;

/// A number of events in a span of time, such as 6 in an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Number of events, from 1 to [`MAX_COUNT`].
    pub(super) count: u32,
    /// Length of the window, in ns.
    pub(super) within_ns: u64,
}

/// The times of the latest events. The window at time T is the span from T - `within_ns`,
/// exclusive, to T.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Times in order, at most [`Rate::count`].
    times: VecDeque<u64>,
}

impl Window {
    /// Adds an event, and returns whether the window of the latest event now has `rate.count`
    /// events.
    ///
    /// Events of several CPUs arrive slightly out of order, and are counted in the order of their
    /// times.
    pub(super) fn add(&mut self, time: u64, rate: Rate) -> bool {
        let at = self.times.iter().rposition(|&earlier| earlier <= time).map_or(0, |at| at + 1);
        self.times.insert(at, time);
        self.expire(rate);
        self.times.len() >= rate.count as usize
    }

    /// Returns whether the window that ends with an event at this time has fewer than `rate.count`
    /// events.
    pub(super) fn has_room(&mut self, time: u64, rate: Rate) -> bool {
        let latest = self.latest().max(time);
        while self.times.front().is_some_and(|&first| latest - first >= rate.within_ns) {
            self.times.pop_front();
        }
        self.times.len() < rate.count as usize
    }

    /// Adds an event for which [`Self::has_room`] has returned true.
    pub(super) fn push(&mut self, time: u64) {
        self.times.push_back(self.latest().max(time));
    }

    /// Removes an event of this time, and returns whether there was one.
    pub(super) fn remove(&mut self, time: u64) -> bool {
        let at = self.times.iter().rposition(|&known| known == time);
        at.and_then(|at| self.times.remove(at)).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.times.clear();
    }

    fn latest(&self) -> u64 {
        self.times.back().copied().unwrap_or(0)
    }

    fn expire(&mut self, rate: Rate) {
        let latest = self.latest();
        while let Some(&first) = self.times.front()
            && (latest - first >= rate.within_ns || self.times.len() > rate.count as usize)
        {
            self.times.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_has_only_the_events_of_its_span() {
        let rate = Rate { count: 3, within_ns: 10 };
        let mut window = Window::default();
        let full: Vec<_> = [0, 5, 10, 14, 15, 24, 25].map(|time| window.add(time, rate)).into();
        assert_eq!(full, [false, false, false, true, true, false, false]);
    }

    #[test]
    fn a_limit_admits_a_number_of_events_per_span() {
        let rate = Rate { count: 2, within_ns: 10 };
        let mut window = Window::default();
        let mut admit = |time| {
            let is_admitted = window.has_room(time, rate);
            is_admitted.then(|| window.push(time));
            is_admitted
        };
        let admitted: Vec<_> = [0, 1, 2, 9, 10, 11, 12, 21].map(&mut admit).into();
        assert_eq!(admitted, [true, true, false, false, true, true, false, true]);
    }

    proptest! {
        #[test]
        fn a_window_equals_a_count_of_all_events(
            steps in prop::collection::vec(0_i64..20, 1..100), count in 1_u32..6, within_ns in 1_u64..30,
        ) {
            let (mut window, mut times, mut now) = (Window::default(), Vec::new(), 1_000_i64);
            for step in steps {
                // Some events are earlier than the one before.
                now += step - 4;
                let time = now as u64;
                times.push(time);
                let latest = times.iter().max().unwrap();
                let expected = times.iter().filter(|&&time| latest - time < within_ns).count();
                prop_assert_eq!(window.add(time, Rate { count, within_ns }), expected >= count as usize);
                prop_assert!(window.times.len() <= count as usize);
            }
        }
    }
}
