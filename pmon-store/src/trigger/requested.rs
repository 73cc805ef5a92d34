//! Which firings of a trigger begin a clip, and which belong to one that was requested before.

use std::time::Duration;

use pmon_core::MonoNs;

use super::window::{Rate, Window};
use crate::clip::MAX_LENGTH;

/// Bounds of the time by which an extension exceeds the end that its firing needs. It is an eighth
/// of the trigger's `after` within these bounds, so a trigger that fires all the time requests few
/// extensions.
const MIN_EXCESS: Duration = Duration::from_millis(100);
const MAX_EXCESS: Duration = Duration::from_secs(1);

/// The clips that a trigger has requested.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestedClips {
    /// Times of the firings that have begun a clip, for the limit.
    begun: Window,
    /// First and last time of the clip that was requested last.
    last: Option<(MonoNs, MonoNs)>,
}

/// What follows from a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// A clip begins.
    Begin(ClipSpan),
    /// The clip that was requested last is extended.
    Extend(ClipSpan),
    /// The clip that was requested last contains everything.
    Covered,
    /// The limit allows no clip.
    Suppressed,
}

/// A span around the time of a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClipSpan {
    pub(super) at: MonoNs,
    pub(super) before: Duration,
    pub(super) after: Duration,
}

impl ClipSpan {
    fn bounds(self) -> (MonoNs, MonoNs) {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let until = self.at.0.saturating_add(nanos(self.after));
        (MonoNs(self.at.0.saturating_sub(nanos(self.before))), MonoNs(until))
    }
}

impl RequestedClips {
    /// Returns what follows from a firing. A clip that begins counts towards the limit once
    /// [`Self::confirm`] is called.
    pub(super) fn admit(&mut self, firing: ClipSpan, limit: Rate) -> Admission {
        let (from, until) = firing.bounds();
        if let Some((last_from, last_until)) = self.last
            && firing.at <= last_until
            && last_from <= until
        {
            let first = from.min(last_from);
            let length = |until: MonoNs| until.0.saturating_sub(first.0);
            // A clip that was requested longer stays as it is, and is not extended.
            let max_length = MAX_LENGTH.max(last_until.0 - last_from.0).max(until.0 - from.0);
            if last_from <= from && until <= last_until {
                return Admission::Covered;
            }
            if length(until.max(last_until)) <= max_length {
                let excess = (firing.after / 8).clamp(MIN_EXCESS, MAX_EXCESS);
                let left = Duration::from_nanos(max_length - length(until));
                return Admission::Extend(ClipSpan { after: firing.after + excess.min(left), ..firing });
            }
        }
        match self.begun.has_room(firing.at.0, limit) {
            true => Admission::Begin(firing),
            false => Admission::Suppressed,
        }
    }

    /// Makes a clip whose request was sent and then refused count for nothing, and returns whether
    /// it had counted. `at` is the time of the firing that has begun it.
    ///
    /// Its span stays that of the last clip: firings within it request extensions, at a bounded
    /// rate, and the first one that is not refused becomes a clip.
    pub(super) fn refuse(&mut self, at: MonoNs) -> bool {
        self.begun.remove(at.0)
    }

    /// Counts a clip whose request was sent.
    pub(super) fn confirm(&mut self, admission: Admission) {
        match admission {
            Admission::Begin(span) => {
                self.begun.push(span.at.0);
                self.last = Some(span.bounds());
            }
            Admission::Extend(span) => {
                let (from, until) = span.bounds();
                let merged = |(first, last): (MonoNs, MonoNs)| (first.min(from), last.max(until));
                self.last = Some(self.last.map_or((from, until), merged));
            }
            Admission::Covered | Admission::Suppressed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3_600 * SECOND;
    const LIMIT: Rate = Rate { count: 2, within_ns: HOUR };

    /// A firing of a trigger with 30 s before and 10 s after.
    fn firing(seconds: u64) -> ClipSpan {
        let (before, after) = (Duration::from_secs(30), Duration::from_secs(10));
        ClipSpan { at: MonoNs(seconds * SECOND), before, after }
    }

    fn fire(clips: &mut RequestedClips, seconds: u64) -> Admission {
        let admission = clips.admit(firing(seconds), LIMIT);
        clips.confirm(admission);
        admission
    }

    #[test]
    fn a_firing_within_a_clip_extends_it_and_does_not_count() {
        let mut clips = RequestedClips::default();
        assert_eq!(fire(&mut clips, 100), Admission::Begin(firing(100)));
        for seconds in [101, 105, 115, 126] {
            assert!(matches!(fire(&mut clips, seconds), Admission::Extend(_)), "{seconds}");
        }
        assert_eq!(clips.last, Some((MonoNs(70 * SECOND), MonoNs(137 * SECOND))));
        // The clip is over, so the next firing begins one, although its time before overlaps.
        assert_eq!(fire(&mut clips, 138), Admission::Begin(firing(138)));
        assert_eq!(fire(&mut clips, 200), Admission::Suppressed);
        assert!(matches!(fire(&mut clips, 148), Admission::Extend(_)));
    }

    #[test]
    fn a_trigger_that_fires_all_the_time_requests_few_extensions() {
        let mut clips = RequestedClips::default();
        let mut requests = 0;
        for ms in 0..60_000 {
            let firing = ClipSpan { at: MonoNs((100_000 + ms) * 1_000_000), ..firing(0) };
            let admission = clips.admit(firing, LIMIT);
            clips.confirm(admission);
            requests += u32::from(admission != Admission::Covered);
            let (_, until) = clips.last.unwrap();
            assert!(until.0 >= firing.at.0 + 10 * SECOND && until.0 <= firing.at.0 + 11 * SECOND);
        }
        assert!(requests <= 61, "{requests}");
    }

    #[test]
    fn a_clip_is_extended_to_an_hour_at_most() {
        let mut clips = RequestedClips::default();
        let begun: Vec<_> = (100..100 + 3 * 3_600)
            .filter(|&seconds| matches!(fire(&mut clips, seconds), Admission::Begin(_)))
            .collect();
        // Each clip begins 30 s before its first firing, and ends 10 s after its last one.
        assert_eq!(begun, [100, 3_661, 7_222, 10_783]);
        let (from, until) = clips.last.unwrap();
        assert!(until.0 - from.0 <= HOUR);
    }

    #[test]
    fn a_request_that_was_not_sent_counts_for_nothing() {
        let mut clips = RequestedClips::default();
        for seconds in 0..5 {
            let admission = clips.admit(firing(seconds), LIMIT);
            assert_eq!(admission, Admission::Begin(firing(seconds)));
        }
        assert_eq!(clips.last, None);
    }

    #[test]
    fn a_request_that_was_refused_counts_for_nothing() {
        let mut clips = RequestedClips::default();
        let begun = (0..LIMIT.count)
            .filter(|&at| matches!(fire(&mut clips, u64::from(at) * 100), Admission::Begin(_)));
        assert_eq!(begun.count(), LIMIT.count as usize);
        let next = u64::from(LIMIT.count) * 100;
        assert_eq!(fire(&mut clips, next), Admission::Suppressed);
        assert!(clips.refuse(MonoNs(100 * SECOND)) && !clips.refuse(MonoNs(100 * SECOND)));
        assert_eq!(fire(&mut clips, next), Admission::Begin(firing(next)));
        assert_eq!(fire(&mut clips, next + 100), Admission::Suppressed);
    }

    #[test]
    fn an_earlier_firing_extends_the_beginning_and_one_long_before_has_its_own_clip() {
        let mut clips = RequestedClips::default();
        fire(&mut clips, 1_000);
        assert!(matches!(fire(&mut clips, 999), Admission::Extend(_)));
        assert_eq!(clips.last.unwrap().0, MonoNs(969 * SECOND));
        assert_eq!(fire(&mut clips, 900), Admission::Begin(firing(900)));
    }
}
