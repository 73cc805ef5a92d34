//! The rows of the tables of events.

use std::collections::HashMap;

use pmon_analysis::life::{ColumnValue, Life, ProcessId};
use pmon_analysis::tables::{EventRow, EventTable, EventTableColumn};
use pmon_core::capture::{DetailsSubject, Record};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{MonoNs, Tgid};
use pmon_sql::{Bound, ScanRequest};

use super::scan::{RowClock, RowQueue, RowReader};
use crate::query::QueryStep;

/// Columns of the event itself that need its process, too.
const OF_PROCESS: [&str; 2] = ["child_process_id", "process_ended"];

/// Makes a row of each event of a table.
pub(crate) struct EventRows {
    table: &'static EventTable,
    columns: Vec<EventTableColumn>,
    needs_process: bool,
    /// Conditions on columns that need no process.
    bounds: Vec<(EventTableColumn, Bound)>,
    /// The execs whose details have not arrived, with the numbers of their rows.
    execs: HashMap<(Tgid, MonoNs), u64>,
}

/// An event and its process.
pub(crate) struct EventItem {
    event: Event,
    real_ns: Option<i64>,
    life: Option<Life>,
    child: Option<ProcessId>,
}

impl EventRows {
    pub(crate) fn new(table: &'static EventTable, request: &ScanRequest) -> Self {
        let columns = table.columns();
        let needs_process = columns.iter().enumerate().any(|(at, column)| {
            request.uses(at)
                && (matches!(column, EventTableColumn::Process(_)) || OF_PROCESS.contains(&column.name()))
        });
        let bounds = request.bounds.iter().filter_map(|&bound| {
            let column = *columns.get(bound.column)?;
            let is_of_event =
                matches!(column, EventTableColumn::Event(_)) && !OF_PROCESS.contains(&column.name());
            is_of_event.then_some((column, bound))
        });
        let bounds = bounds.collect();
        Self { table, columns, needs_process, bounds, execs: HashMap::new() }
    }

    /// Returns whether the rows need the processes.
    pub(crate) fn needs_process(&self) -> bool {
        self.needs_process
    }

    fn add(&mut self, event: Event, step: QueryStep<'_, '_>, rows: &mut RowQueue<EventItem>) {
        let real_ns = step.wall.at(event.time);
        let row = EventRow { event: &event, life: None, child: None, real_ns, wall: step.wall, host: "" };
        let is_wanted = self.bounds.iter().all(|(column, bound)| match column.get(&row) {
            ColumnValue::Integer(value) => bound.matches(value),
            _ => false,
        });
        if !is_wanted || !step.range.matches_time(event.time, step.wall) {
            return;
        }
        let (task, child) = match event.body {
            EventBody::Fork { parent, child } => (Some(parent), Some(child)),
            _ => (event.task(), None),
        };
        let mut process = |pid| if self.needs_process { step.tracker.last_known(pid) } else { None };
        let child = child.and_then(|child| process(child.tgid)).map(|child| child.id);
        let life = task.and_then(|task| process(task.tgid));
        let number = rows.push(EventItem { event, real_ns, life, child });
        if let (EventBody::Exec { task }, true) = (event.body, self.needs_process) {
            self.execs.insert((task.tgid, event.time), number);
        }
    }
}

impl RowReader for EventRows {
    type Row = EventItem;

    fn step(&mut self, step: QueryStep<'_, '_>, rows: &mut RowQueue<EventItem>) {
        // The tracker keeps the processes that have ended until they are taken.
        while step.tracker.pop().is_some() {}
        match step.record {
            Some(Record::Event(datagram, _)) => {
                if let Some(event) = datagram.event(step.order)
                    && self.table.has(event.kind())
                {
                    self.add(event, step, rows);
                }
            }
            Some(Record::Details(details)) => {
                let DetailsSubject::Exec { tgid, time } = details.subject else { return };
                let Some(number) = self.execs.remove(&(tgid, time)) else { return };
                // The details also have the ids after the exec.
                if let (Some(row), Some(now)) = (rows.get_mut(number), step.tracker.last_known(tgid))
                    && row.life.as_ref().is_some_and(|life| life.id == now.id)
                {
                    row.life = Some(now);
                }
            }
            Some(_) => {}
            None => {
                // The tracker gives up the execs whose details do not arrive.
                self.execs.retain(|_, number| rows.get_mut(*number).is_some());
            }
        }
    }

    fn is_complete(&self, row: &EventItem) -> bool {
        row.life.as_ref().is_none_or(|life| !life.program.is_awaited())
    }

    fn value<'a>(&self, row: &'a EventItem, clock: RowClock<'a>, column: usize) -> ColumnValue<'a> {
        let Some(column) = self.columns.get(column) else { return ColumnValue::Null };
        let EventItem { event, real_ns, life, child } = row;
        let (wall, host) = (clock.wall, clock.host);
        column.get(&EventRow { event, life: life.as_ref(), child: *child, real_ns: *real_ns, wall, host })
    }
}
