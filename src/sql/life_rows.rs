//! The rows of the table `processes`.

use pmon_analysis::life::{ColumnValue, LIFE_COLUMNS, Life, LifeRow};
use pmon_sql::{Bound, ScanRequest};

use super::osquery::{self, OSQUERY_COLUMNS};
use super::scan::{RowClock, RowQueue, RowReader};
use crate::query::QueryStep;

/// Makes a row of each process.
pub(crate) struct LifeRows {
    /// Conditions on the process ID, and on the identity.
    pids: Vec<Bound>,
    ids: Vec<Bound>,
    /// The column that has osquery's value, if one does.
    osquery_start: Option<usize>,
}

impl LifeRows {
    /// Creates a reader. With `for_osquery`, `start_time` has osquery's value.
    pub(crate) fn new(request: &ScanRequest, for_osquery: bool) -> Self {
        let of = |name| {
            let column = column(name);
            request.bounds.iter().copied().filter(|bound| Some(bound.column) == column).collect()
        };
        let osquery_start = if for_osquery { column("start_time") } else { None };
        Self { pids: of("pid"), ids: of("process_id"), osquery_start }
    }

    fn is_wanted(&self, life: &Life) -> bool {
        let matches = |bounds: &[Bound], value: u64| {
            i64::try_from(value).is_ok_and(|value| bounds.iter().all(|bound| bound.matches(value)))
        };
        matches(&self.pids, life.pid.into()) && matches(&self.ids, life.id.0)
    }
}

impl RowReader for LifeRows {
    type Row = Life;

    fn step(&mut self, mut step: QueryStep<'_, '_>, rows: &mut RowQueue<Life>) {
        while let Some(life) = step.pop() {
            if self.is_wanted(&life) {
                rows.push(life);
            }
        }
    }

    fn value<'a>(&self, row: &'a Life, clock: RowClock<'a>, column: usize) -> ColumnValue<'a> {
        let row = LifeRow::new(row, clock.wall, clock.host);
        if self.osquery_start == Some(column) {
            return osquery::start_time(&row);
        }
        match LIFE_COLUMNS.get(column) {
            Some(column) => column.get(&row),
            None => OSQUERY_COLUMNS
                .get(column - LIFE_COLUMNS.len())
                .map_or(ColumnValue::Null, |column| column.get(&row)),
        }
    }
}

/// Returns the index of a column.
pub(crate) fn column(name: &str) -> Option<usize> {
    LIFE_COLUMNS.iter().position(|column| column.name == name)
}
