//! Selects events as `print` does.

use std::collections::{BTreeSet, VecDeque};

use pmon_analysis::process::ProcessModel;
use pmon_analysis::{DetailsJoiner, Filter, OwnedRecord, ProcessTable, WallClock};
use pmon_core::capture::{ClockAnchor, DetailsSubject, Meta, Record};
use pmon_core::wire::{ByteOrder, EventBody};
use pmon_core::{MonoNs, Tgid};

use super::Selection;
use super::described::DescribedProcesses;
use super::range::Range;

/// Maximum number of selected execs whose details may arrive late.
const MAX_LATE: usize = 1 << 16;

/// Selects the events of an excerpt. Records wait here until the details of the execs before them
/// have arrived.
pub(super) struct SelectedEvents {
    joiner: DetailsJoiner,
    /// The processes as the filter needs them, after the latest record.
    processes: ProcessTable,
    /// The processes as the excerpt describes them.
    model: ProcessModel,
    filter: Filter,
    wall: WallClock,
    /// Selected execs without details.
    late: BTreeSet<(Tgid, MonoNs)>,
    /// Whether an event of the range, and one after it, has been returned or left out.
    has_begun: bool,
    is_past: bool,
    /// Whether the first scan of `/proc` belongs to the process table.
    skips_scan: bool,
    described: DescribedProcesses,
    /// Records that belong to the excerpt.
    ready: VecDeque<OwnedRecord>,
}

impl SelectedEvents {
    /// Creates the state for a source from its first record on. `meta` is from its header, and
    /// `skips_scan` states whether the first scan of `/proc` belongs to the process table.
    pub(super) fn new(
        selection: &Selection,
        order: ByteOrder,
        meta: Option<&Meta>,
        has_begun: bool,
        skips_scan: bool,
    ) -> Self {
        let mut filter = Filter { since: None, until: None, ..selection.filter.clone() };
        if let (Some(tree), Some(exits)) = (&mut filter.tree, &selection.exits) {
            tree.expect_missing_forks(exits.clone());
        }
        let start = meta.map_or_else(ClockAnchor::default, |meta| meta.start);
        let mut wall = WallClock::new();
        wall.observe(start);
        Self {
            joiner: DetailsJoiner::new(order),
            processes: ProcessTable::detailed(meta.unwrap_or(&Meta::default())),
            model: ProcessModel::new(order, meta.map_or(0, |meta| meta.ticks_per_second), start),
            filter,
            wall,
            late: BTreeSet::new(),
            has_begun,
            is_past: false,
            skips_scan,
            described: DescribedProcesses::default(),
            ready: VecDeque::new(),
        }
    }

    /// Adds a process of the process table at the start of the excerpt.
    pub(super) fn add_described(&mut self, pid: Tgid) {
        self.described.add(pid);
    }

    /// Adds the next record.
    pub(super) fn push(&mut self, record: &Record<'_>) {
        self.joiner.push(record.clone());
    }

    /// Makes all records due.
    pub(super) fn release(&mut self) {
        self.joiner.release();
    }

    /// Returns the next record that belongs to the excerpt, or may do so.
    pub(super) fn pop(&mut self, range: &Range) -> Option<OwnedRecord> {
        while self.ready.is_empty() {
            let mut record = self.joiner.pop()?;
            self.processes.apply(&record);
            self.filter.observe(&record);
            let is_selected = self.selects(&record, range);
            self.describe(&mut record, is_selected, range);
            record.visit(|record| self.model.apply(record));
            if let OwnedRecord::Event(item) = &record {
                self.described.remove_ended(item, &self.model);
            }
            if is_selected {
                self.ready.push_back(record);
            }
        }
        self.ready.pop_front()
    }

    /// Adds descriptions of the processes that the record is about, if the excerpt lacks them.
    fn describe(&mut self, record: &mut OwnedRecord, is_selected: bool, range: &Range) {
        match record {
            OwnedRecord::Event(item) if range.contains(item.event.map(|event| event.time)) => {
                self.ready.extend(self.described.follow(item, is_selected, &self.model));
            }
            OwnedRecord::Details(details) if is_selected => {
                if matches!(details.subject, DetailsSubject::Snapshot { .. }) {
                    DescribedProcesses::complete(details, &self.model);
                }
                self.described.add(details.subject.tgid());
            }
            _ => {}
        }
    }

    fn selects(&mut self, record: &OwnedRecord, range: &Range) -> bool {
        match record {
            OwnedRecord::Event(item) => {
                let event = item.event.as_ref();
                let time = event.map(|event| event.time);
                let is_within = range.contains(time);
                self.has_begun |= is_within;
                self.is_past |= time.is_some_and(|time| time > range.until);
                let is_selected = is_within && self.filter.matches(event, &self.processes, &self.wall);
                if let (true, Some(event), None) = (is_selected, event, &item.details)
                    && let EventBody::Exec { task } = event.body
                    && self.late.len() < MAX_LATE
                {
                    self.late.insert((task.tgid, event.time));
                }
                is_selected
            }
            OwnedRecord::Details(details) => match details.subject {
                DetailsSubject::Exec { tgid, time } => self.late.remove(&(tgid, time)),
                DetailsSubject::Snapshot { .. } => self.has_begun && !self.is_past && !self.skips_scan,
            },
            OwnedRecord::Snapshot(_) => {
                !std::mem::take(&mut self.skips_scan) && self.has_begun && !self.is_past
            }
            OwnedRecord::Loss(_) | OwnedRecord::Blind(_) | OwnedRecord::Clock(_) => true,
            _ => false,
        }
    }
}
