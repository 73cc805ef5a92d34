//! Selects the captures that a range of time needs.

use pmon_core::MonoNs;
use pmon_core::capture::ClockAnchor;

use super::list::SegmentList;
use crate::segment::{SegmentSummary, UtcSecond};

/// One end of a range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeBound {
    /// Wall-clock time in ns since 1970-01-01T00:00Z.
    pub real_ns: i64,
    /// The same moment by the monotonic clock, which then counts; `None` if the wall clock counts.
    pub mono: Option<MonoNs>,
}

impl RangeBound {
    /// Returns whether a capture starts before the moment.
    fn is_after_start(&self, summary: &SegmentSummary) -> bool {
        match self.mono {
            Some(mono) => summary.start.mono < mono,
            None => summary.start.real_ns < self.real_ns,
        }
    }

    /// Returns whether all events of a capture are after the moment.
    fn is_before_events(&self, summary: &SegmentSummary) -> bool {
        let (ClockAnchor { mono, real_ns, .. }, lead) = (summary.start, summary.max_lead_ns());
        match self.mono {
            Some(moment) => mono.0.saturating_sub(lead) > moment.0,
            None => real_ns.saturating_sub_unsigned(lead) > self.real_ns,
        }
    }
}

impl SegmentList {
    /// Keeps only the captures that can hold events between two moments, both included.
    ///
    /// While the names are in order, this reads the headers of a few captures: those selected by
    /// name, and their neighbours. If these headers contradict the names, all headers are read.
    pub fn restrict(&mut self, since: Option<RangeBound>, until: Option<RangeBound>) {
        if !self.restrict_by_name(since, until) {
            self.order();
            self.restrict_by_header(since, until);
        }
    }

    /// Returns `false`, and changes nothing, if the names cannot be trusted.
    fn restrict_by_name(&mut self, since: Option<RangeBound>, until: Option<RangeBound>) -> bool {
        let second = |bound: RangeBound| UtcSecond::of(bound.real_ns).to_string();
        let count = self.entries.len();
        if count == 0 || self.entries.iter().any(|entry| entry.second().is_none()) {
            return false;
        }
        // A capture ends where the next one begins. The one before the first that begins at or
        // after `since` holds the time before it.
        let first = since.map_or(0, |since| {
            let since = second(since);
            let at = self.entries.partition_point(|entry| entry.second() < Some(&since));
            at.saturating_sub(1)
        });
        let end = until.map_or(count, |until| {
            let until = second(until);
            self.entries.partition_point(|entry| entry.second() <= Some(&until))
        });
        let mut end = end.max(first + 1);
        let mut before = None;
        let mut at = first.saturating_sub(1);
        while let Some(entry) = self.entries.get_mut(at).filter(|_| at <= end) {
            let Some(summary) = entry.summary().cloned() else { return false };
            if entry.is_misnamed() || before.is_some_and(|before| summary.previous != Some(before)) {
                return false;
            }
            before = Some(summary.uuid);
            if let Some(until) = until.filter(|_| at == end) {
                // The clock may have been set.
                if until.is_after_start(&summary) {
                    return false;
                }
                // The first events of the next capture can be within the range.
                end += usize::from(!until.is_before_events(&summary));
            }
            at += 1;
        }
        if let Some(since) = since.filter(|_| first > 0)
            && self.entries[first].known_summary().is_some_and(|of| !since.is_after_start(of))
        {
            return false;
        }
        let end = end.min(count);
        self.entries.truncate(end);
        self.entries.drain(..first);
        true
    }

    fn restrict_by_header(&mut self, since: Option<RangeBound>, until: Option<RangeBound>) {
        let starts_before =
            |at: usize, bound: RangeBound| Some(bound.is_after_start(self.entries.get(at)?.known_summary()?));
        // A capture is needed unless the next one also begins before the range, or it begins after
        // the range. A capture with a damaged header is needed.
        let is_needed = |at: usize| {
            let is_before = since.is_some_and(|since| {
                starts_before(at, since) == Some(true) && starts_before(at + 1, since) == Some(true)
            });
            let is_after = until.is_some_and(|until| {
                self.entries[at].known_summary().is_some_and(|of| until.is_before_events(of))
            });
            !is_before && !is_after
        };
        let needed: Vec<usize> = (0..self.entries.len()).filter(|&at| is_needed(at)).collect();
        // If the range is outside of all captures, one of them still states the machine.
        let (first, last) = match (needed.first(), needed.last()) {
            (Some(&first), Some(&last)) => (first, last),
            _ => (0, 0),
        };
        self.entries.truncate(last + 1);
        self.entries.drain(..first);
    }
}
