//! Reads a recording part by part, and returns the rows that each part completes.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use pmon_analysis::WallClock;
use pmon_analysis::life::ColumnValue;
use pmon_sql::{Scan, ScanError};

use super::SqlRecording;
use crate::query::{Query, QueryOutcome, QueryStep};

/// Maximum number of rows that wait until they are complete.
const MAX_WAITING: usize = 1 << 14;

/// Makes rows of the records of a recording.
pub(crate) trait RowReader {
    /// A row.
    type Row;

    /// Adds the rows of a record, or of the end of a block or of a part of it.
    fn step(&mut self, step: QueryStep<'_, '_>, rows: &mut RowQueue<Self::Row>);

    /// Continues after a part of the recording, whose header may be another one.
    fn part_end(&mut self, _query: &Query, _rows: &mut RowQueue<Self::Row>) {}

    /// Adds the last rows.
    fn finish(&mut self, _outcome: &QueryOutcome, _rows: &mut RowQueue<Self::Row>) {}

    /// Returns whether a row is complete.
    fn is_complete(&self, _row: &Self::Row) -> bool {
        true
    }

    /// Returns the value of a column.
    fn value<'a>(&self, row: &'a Self::Row, clock: RowClock<'a>, column: usize) -> ColumnValue<'a>;
}

/// The machine and the boot of a row.
#[derive(Clone, Copy)]
pub(crate) struct RowClock<'a> {
    pub(crate) wall: &'a WallClock,
    pub(crate) host: &'a str,
}

/// Rows that the query has not read yet.
pub(crate) struct RowQueue<R> {
    rows: VecDeque<R>,
    /// Number of rows before the first one in `rows`.
    taken: u64,
    /// The clocks of the rows, each with the number of the first row after it.
    clocks: VecDeque<(u64, Rc<WallClock>)>,
}

impl<R> RowQueue<R> {
    /// Adds a row, and returns its number.
    pub(crate) fn push(&mut self, row: R) -> u64 {
        self.rows.push_back(row);
        self.taken + self.rows.len() as u64 - 1
    }

    /// Returns the row with a number, unless the query has read it.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut R> {
        self.rows.get_mut(usize::try_from(number.checked_sub(self.taken)?).ok()?)
    }

    /// Sets the clock of the rows that have none yet.
    fn set_clock(&mut self, wall: &WallClock) {
        let end = self.taken + self.rows.len() as u64;
        if self.clocks.back().map_or(self.taken, |&(end, _)| end) < end {
            self.clocks.push_back((end, Rc::new(wall.clone())));
        }
    }

    fn pop(&mut self) -> Option<(R, Rc<WallClock>)> {
        let row = self.rows.pop_front()?;
        while self.clocks.front().is_some_and(|&(end, _)| end <= self.taken) {
            self.clocks.pop_front();
        }
        self.taken += 1;
        let wall = self.clocks.front().map(|(_, wall)| Rc::clone(wall)).unwrap_or_default();
        Some((row, wall))
    }
}

/// A scan of a recording.
pub(crate) struct RecordingScan<R: RowReader> {
    recording: Arc<SqlRecording>,
    reader: R,
    /// `None` once everything was read.
    query: Option<Query>,
    host: String,
    rows: RowQueue<R::Row>,
    current: Option<(R::Row, Rc<WallClock>)>,
}

impl<R: RowReader> RecordingScan<R> {
    /// Begins a scan.
    pub(crate) fn new(recording: Arc<SqlRecording>, query: Query, reader: R) -> Self {
        let rows = RowQueue { rows: VecDeque::new(), taken: 0, clocks: VecDeque::new() };
        Self { recording, reader, host: query.host(), query: Some(query), rows, current: None }
    }

    fn is_ready(&self) -> bool {
        let Some(front) = self.rows.rows.front() else { return self.query.is_none() };
        self.query.is_none() || self.reader.is_complete(front) || self.rows.rows.len() > MAX_WAITING
    }

    /// Reads the next part of the recording.
    fn read(&mut self) -> Result<(), ScanError> {
        self.recording.check()?;
        let Some(query) = &mut self.query else { return Ok(()) };
        let (reader, rows) = (&mut self.reader, &mut self.rows);
        let has_more = query.advance(|step| {
            let (wall, is_end) = (step.wall, step.record.is_none());
            reader.step(step, rows);
            if is_end {
                rows.set_clock(wall);
            }
            Ok(())
        });
        let has_more = has_more.map_err(|failure| self.recording.fail(failure))?;
        reader.part_end(query, rows);
        if !has_more && let Some(mut query) = self.query.take() {
            self.reader.step(query.finish(), &mut self.rows);
            let wall = query.wall().clone();
            let outcome = query.outcome();
            self.reader.finish(&outcome, &mut self.rows);
            self.rows.set_clock(&wall);
            self.recording.add_outcome(outcome);
        }
        Ok(())
    }
}

impl<R: RowReader> Scan for RecordingScan<R> {
    fn advance(&mut self) -> Result<bool, ScanError> {
        while !self.is_ready() {
            self.read()?;
        }
        self.current = self.rows.pop();
        Ok(self.current.is_some())
    }

    fn value(&self, column: usize) -> ColumnValue<'_> {
        let Some((row, wall)) = &self.current else { return ColumnValue::Null };
        self.reader.value(row, RowClock { wall, host: &self.host }, column)
    }
}
