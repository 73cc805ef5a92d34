//! Selects the captures that a range of time needs.

use super::list::SegmentList;
use crate::segment::UtcSecond;

impl SegmentList {
    /// Keeps only the captures that can hold events between two wall-clock times, in ns since
    /// 1970-01-01T00:00Z, both included.
    ///
    /// While the names are in order, the headers of a few captures are read: those selected by
    /// name, and their neighbours. If these headers contradict the names, all headers are read.
    pub fn restrict(&mut self, since_ns: Option<i64>, until_ns: Option<i64>) {
        if !self.restrict_by_name(since_ns, until_ns) {
            self.order();
            self.restrict_by_header(since_ns, until_ns);
        }
    }

    /// Returns `false`, and changes nothing, if names cannot be trusted.
    fn restrict_by_name(&mut self, since_ns: Option<i64>, until_ns: Option<i64>) -> bool {
        let second = |ns: i64| UtcSecond::of(ns).to_string();
        if self.entries.iter().any(|entry| entry.second.is_none()) {
            return false;
        }
        // A capture ends where the next one begins. The one before the first that begins at or
        // after `since` holds the time before it.
        let first = since_ns.map_or(0, |since| {
            let since = second(since);
            let at = self.entries.partition_point(|entry| entry.second.as_deref() < Some(&since));
            at.saturating_sub(1)
        });
        let end = until_ns.map_or(self.entries.len(), |until| {
            let until = second(until);
            self.entries.partition_point(|entry| entry.second.as_deref() <= Some(&until))
        });
        let end = end.clamp(first + 1, self.entries.len().max(first + 1)).min(self.entries.len());
        let (from, to) = (first.saturating_sub(1), (end + 1).min(self.entries.len()));
        let mut before: Option<[u8; 16]> = None;
        for entry in &mut self.entries[from..to] {
            entry.summary();
            let Some(summary) = entry.known_summary() else { return false };
            let is_chained = before.is_none() || summary.previous == before;
            if entry.is_misnamed() || !is_chained {
                return false;
            }
            before = Some(summary.uuid);
        }
        self.entries.truncate(end);
        self.entries.drain(..first);
        true
    }

    fn restrict_by_header(&mut self, since_ns: Option<i64>, until_ns: Option<i64>) {
        let starts: Vec<Option<i64>> = self
            .entries
            .iter()
            .map(|entry| entry.known_summary().map(|summary| summary.start.real_ns))
            .collect();
        // The wall clock may have been set back, so a capture is needed unless it and the next one
        // begin before the range, or it begins after the range. A step of the clock within a
        // capture is not in its header, so one more capture stays on each side.
        let is_needed = |at: usize| {
            let Some(start) = starts[at] else { return true };
            let is_after = until_ns.is_some_and(|until| start > until);
            let next = starts.get(at + 1).copied().flatten();
            let is_before =
                since_ns.is_some_and(|since| start < since && next.is_some_and(|next| next < since));
            !is_after && !is_before
        };
        let first = (0..starts.len()).find(|&at| is_needed(at));
        let last = (0..starts.len()).rfind(|&at| is_needed(at));
        let (first, last) = match (first, last) {
            (Some(first), Some(last)) => (first, last),
            // The range is before or after all captures; one of them still has the process table.
            _ if since_ns.is_some() => (starts.len().saturating_sub(1), starts.len().saturating_sub(1)),
            _ => (0, 0),
        };
        self.entries.truncate(last + 1);
        self.entries.drain(..first.min(self.entries.len()));
    }
}
