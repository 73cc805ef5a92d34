//! The sums of one interval.

use std::cmp::Ordering;
use std::sync::Arc;

use pmon_analysis::groups::{GroupBy, GroupKey, GroupSums, GroupTable};
use pmon_analysis::life::{Life, LifeEnd};

use crate::args::TopSortArg;
use crate::query::group_order;
use crate::users::UserNames;

/// Sums over all selected processes of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Number of events of all processes, without self-generated ones.
    pub(super) events: u64,
    /// Number of processes that started.
    pub(super) started: u64,
    /// Number of processes that ended.
    pub(super) ended: u64,
    /// Number of processes that returned another code than 0, or that a signal killed.
    pub(super) failures: u64,
    /// Number of processes that were running at the end.
    pub(super) running: u64,
    /// Sum of the CPU times in ns; `None` if it is unknown of all.
    pub(super) cpu_ns: Option<u64>,
    /// Number of processes that ended, and whose CPU time is unknown.
    pub(super) ended_without_cpu: u64,
}

/// The sums of an interval that has not ended yet.
#[derive(Debug)]
pub(super) struct IntervalSums {
    by: GroupBy,
    table: GroupTable,
    pub(super) totals: Totals,
}

impl IntervalSums {
    /// Creates empty sums over groups by this property.
    pub(super) fn new(by: GroupBy) -> Self {
        Self { by, table: GroupTable::small(by), totals: Totals::default() }
    }

    /// Adds a process that ended in the interval, or that was running at its end. `has_started`
    /// states whether it started in the interval.
    pub(super) fn add(&mut self, life: &Life, has_started: bool) {
        let totals = &mut self.totals;
        totals.started += u64::from(has_started);
        match life.end {
            LifeEnd::Running => totals.running += 1,
            LifeEnd::Ended { .. } | LifeEnd::Unobserved { .. } => {
                totals.ended += 1;
                totals.ended_without_cpu += u64::from(life.usage.is_none());
            }
        }
        totals.failures += u64::from(life.has_failed());
        if let Some(usage) = &life.usage {
            totals.cpu_ns = Some(totals.cpu_ns.unwrap_or(0).saturating_add(usage.cpu_ns));
        }
        self.table.add(life, has_started);
    }

    /// Ends the interval.
    pub(super) fn into_interval(self, facts: IntervalFacts) -> Interval {
        let groups = self.table.into_groups().into_iter().map(TopRow::new).collect();
        Interval { facts, by: self.by, totals: self.totals, groups }
    }
}

/// What is known of an interval besides its processes.
#[derive(Clone, Debug)]
pub(super) struct IntervalFacts {
    /// The users of the machine.
    pub(super) users: Arc<UserNames>,
    /// Name of the machine.
    pub(super) host: String,
    /// Wall-clock time of the end in ns.
    pub(super) until_ns: Option<i64>,
    /// Length in ns.
    pub(super) length_ns: u64,
    /// Whether the CPU times are those used in the interval; otherwise they are all CPU times of
    /// the processes that ended.
    pub(super) has_running_cpu: bool,
    /// What may be missing, in words; `None` if the interval is complete.
    pub(super) missing: Option<String>,
}

/// The sums of an interval.
#[derive(Debug)]
pub(super) struct Interval {
    pub(super) facts: IntervalFacts,
    pub(super) by: GroupBy,
    pub(super) totals: Totals,
    groups: Vec<TopRow>,
}

impl Interval {
    /// Returns a number of items per second of the interval.
    pub(super) fn rate(&self, count: u64) -> f64 {
        count as f64 * 1e9 / self.facts.length_ns.max(1) as f64
    }

    /// Returns the groups in this order; those without a start, an end or CPU time only if
    /// `has_idle`.
    pub(super) fn rows(&self, sort: TopSortArg, has_idle: bool) -> Vec<&TopRow> {
        let mut rows: Vec<_> = self.groups.iter().filter(|row| has_idle || row.is_active()).collect();
        rows.sort_by(|a, b| a.compare(b, sort));
        rows
    }
}

/// A group of processes in an interval.
#[derive(Debug)]
pub(super) struct TopRow {
    pub(super) key: GroupKey,
    pub(super) sums: GroupSums,
    /// Median duration in ns of the processes that ended.
    pub(super) p50: Option<u64>,
    /// Number of ancestors of the group's process.
    depth: usize,
}

impl TopRow {
    fn new((key, sums): (GroupKey, GroupSums)) -> Self {
        let depth = sums.ancestor.as_ref().map_or(0, |ancestor| ancestor.chain().count());
        Self { key, p50: sums.durations.percentile(50), depth, sums }
    }

    /// Returns the number of processes that ended.
    pub(super) fn ended(&self) -> u64 {
        self.sums.count - self.sums.running
    }

    fn is_active(&self) -> bool {
        self.sums.started > 0 || self.ended() > 0 || self.sums.cpu_ns.is_some_and(|cpu_ns| cpu_ns > 0)
    }

    /// Orders rows for the output. Of equal groups, the more active ones come first, and then
    /// ancestors.
    fn compare(&self, other: &Self, by: TopSortArg) -> Ordering {
        let (a, b) = (&self.sums, &other.sums);
        let activity = |row: &Self| (row.sums.started + row.ended(), row.sums.running);
        let is_other = |row: &Self| row.key == GroupKey::Other;
        let is_none = |row: &Self| row.key == GroupKey::None;
        let primary = match by {
            TopSortArg::Cpu => b.cpu_ns.cmp(&a.cpu_ns),
            TopSortArg::Starts => b.started.cmp(&a.started),
            TopSortArg::Ends => other.ended().cmp(&self.ended()),
            TopSortArg::Failed => b.failures.cmp(&a.failures),
            TopSortArg::Running => b.running.cmp(&a.running),
            TopSortArg::P50 => other.p50.cmp(&self.p50),
            TopSortArg::Max => b.durations.max().cmp(&a.durations.max()),
            TopSortArg::Memory => b.max_rss_bytes.cmp(&a.max_rss_bytes),
            TopSortArg::Key => Ordering::Equal,
        };
        let secondary = match by {
            TopSortArg::Key => Ordering::Equal,
            _ => activity(other).cmp(&activity(self)),
        };
        is_other(self)
            .cmp(&is_other(other))
            .then(primary)
            .then(secondary)
            .then_with(|| is_none(self).cmp(&is_none(other)))
            .then_with(|| self.depth.cmp(&other.depth))
            .then_with(|| group_order(&self.key).cmp(&group_order(&other.key)))
    }
}
