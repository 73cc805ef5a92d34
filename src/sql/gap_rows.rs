//! The rows of the tables `losses`, `coverage` and `hosts`.

use pmon_analysis::coverage::Gap;
use pmon_analysis::life::ColumnValue;
use pmon_analysis::tables::{GAP_COLUMNS, GapRow, HOST_COLUMNS, HostRow, LOSS_COLUMNS, LossRow};
use pmon_core::capture::{Loss, Meta, Record};

use super::scan::{RowClock, RowQueue, RowReader};
use crate::query::{Query, QueryOutcome, QueryStep};

/// Makes a row of each loss.
pub(crate) struct LossRows;

impl RowReader for LossRows {
    type Row = Loss;

    fn step(&mut self, step: QueryStep<'_, '_>, rows: &mut RowQueue<Loss>) {
        if let Some(Record::Loss(loss)) = step.record
            && step.range.matches_span(loss.after, loss.before, step.wall)
        {
            rows.push(*loss);
        }
    }

    fn value<'a>(&self, loss: &'a Loss, clock: RowClock<'a>, column: usize) -> ColumnValue<'a> {
        let row = LossRow { loss, wall: clock.wall, host: clock.host };
        LOSS_COLUMNS.get(column).map_or(ColumnValue::Null, |column| column.get(&row))
    }
}

/// Makes a row of each time in which events may be missing.
pub(crate) struct GapRows;

impl RowReader for GapRows {
    type Row = Gap;

    fn step(&mut self, _: QueryStep<'_, '_>, _: &mut RowQueue<Gap>) {}

    fn finish(&mut self, outcome: &QueryOutcome, rows: &mut RowQueue<Gap>) {
        for gap in outcome.coverage.gaps() {
            rows.push(*gap);
        }
    }

    fn value<'a>(&self, gap: &'a Gap, clock: RowClock<'a>, column: usize) -> ColumnValue<'a> {
        let row = GapRow { gap, host: clock.host };
        GAP_COLUMNS.get(column).map_or(ColumnValue::Null, |column| column.get(&row))
    }
}

/// Makes a row of each boot.
#[derive(Default)]
pub(crate) struct HostRows {
    current: Option<HostItem>,
    /// Events since the last boundary between captures.
    events: u64,
    end_ns: Option<i64>,
}

/// A boot.
pub(crate) struct HostItem {
    meta: Meta,
    end_ns: Option<i64>,
    events: u64,
}

impl RowReader for HostRows {
    type Row = HostItem;

    fn step(&mut self, step: QueryStep<'_, '_>, _: &mut RowQueue<HostItem>) {
        match step.record {
            Some(Record::Event(..)) => self.events += 1,
            Some(_) => {}
            None => self.end_ns = step.wall.at(step.now).or(self.end_ns),
        }
    }

    fn part_end(&mut self, query: &Query, rows: &mut RowQueue<HostItem>) {
        let Some(meta) = query.header().map(|header| &header.meta) else { return };
        let is_same = self.current.as_ref().is_some_and(|current| current.meta.boot_id == meta.boot_id);
        // At a boundary, the header is the next one's, and the records were those before.
        if !is_same
            && let Some(last) = self.current.replace(HostItem { meta: meta.clone(), end_ns: None, events: 0 })
        {
            rows.push(last);
        }
        if let Some(current) = &mut self.current {
            current.events += std::mem::take(&mut self.events);
            current.end_ns = self.end_ns.take().or(current.end_ns);
        }
    }

    fn finish(&mut self, _: &QueryOutcome, rows: &mut RowQueue<HostItem>) {
        if let Some(last) = self.current.take() {
            rows.push(last);
        }
    }

    fn value<'a>(&self, row: &'a HostItem, _: RowClock<'a>, column: usize) -> ColumnValue<'a> {
        let row = HostRow { meta: &row.meta, end_ns: row.end_ns, events: row.events };
        HOST_COLUMNS.get(column).map_or(ColumnValue::Null, |column| column.get(&row))
    }
}
