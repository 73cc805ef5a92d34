//! The tables of a recording.

use std::sync::Arc;

use pmon_analysis::life::LIFE_COLUMNS;
use pmon_analysis::tables::{EVENT_TABLES, EventTable, GAP_COLUMNS, HOST_COLUMNS, LOSS_COLUMNS};
use pmon_sql::{Scan, ScanError, ScanRequest, Table, TableColumn};

use super::SqlRecording;
use super::event_rows::EventRows;
use super::gap_rows::{GapRows, HostRows, LossRows};
use super::life_rows::{self, LifeRows};
use super::osquery::{self, OSQUERY_COLUMNS};
use super::recording::range;
use super::scan::RecordingScan;

/// A table of a recording.
pub(crate) struct RecordingTable {
    recording: Arc<SqlRecording>,
    kind: TableKind,
    columns: Vec<TableColumn>,
}

#[derive(Clone, Copy)]
enum TableKind {
    Processes,
    Events(&'static EventTable),
    Losses,
    Coverage,
    Hosts,
}

/// Returns the tables of a recording.
pub(crate) fn tables(recording: &Arc<SqlRecording>) -> Vec<RecordingTable> {
    let events = EVENT_TABLES.iter().map(TableKind::Events);
    let kinds = std::iter::once(TableKind::Processes).chain(events);
    let kinds = kinds.chain([TableKind::Losses, TableKind::Coverage, TableKind::Hosts]);
    kinds
        .map(|kind| {
            let columns = kind.columns(recording.for_osquery);
            RecordingTable { recording: Arc::clone(recording), kind, columns }
        })
        .collect()
}

impl TableKind {
    /// Returns the columns. With `for_osquery`, those of `processes` have osquery's types.
    fn columns(self, for_osquery: bool) -> Vec<TableColumn> {
        macro_rules! column {
            ($c:expr, $is_hidden:expr) => {
                TableColumn { name: $c.name, kind: $c.kind, doc: $c.doc, is_hidden: $is_hidden }
            };
        }
        macro_rules! columns {
            ($columns:expr) => {
                $columns.iter().map(|c| column!(c, false)).collect()
            };
        }
        match self {
            Self::Processes => {
                let own = LIFE_COLUMNS.iter().map(|c| match for_osquery && c.name == "start_time" {
                    true => osquery::START_TIME,
                    false => column!(c, false),
                });
                own.chain(OSQUERY_COLUMNS.iter().map(|c| column!(c, true))).collect()
            }
            Self::Events(table) => table
                .columns()
                .into_iter()
                .map(|c| TableColumn { name: c.name(), kind: c.kind(), doc: c.doc(), is_hidden: false })
                .collect(),
            Self::Losses => columns!(LOSS_COLUMNS),
            Self::Coverage => columns!(GAP_COLUMNS),
            Self::Hosts => columns!(HOST_COLUMNS),
        }
    }
}

impl RecordingTable {
    /// Returns what a row of the table is.
    pub(crate) fn doc(&self) -> &'static str {
        match self.kind {
            TableKind::Processes => {
                "A process, from its start to its end. First those that ended, in the order of their ends, then those that were still running."
            }
            TableKind::Events(table) => table.doc,
            TableKind::Losses => "Events of a CPU that were lost.",
            TableKind::Coverage => {
                "A time in which events may be missing. Without rows, nothing is known to be missing. At most 1,024 rows."
            }
            TableKind::Hosts => "A boot of the machine.",
        }
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

impl Table for RecordingTable {
    fn name(&self) -> &'static str {
        match self.kind {
            TableKind::Processes => "processes",
            TableKind::Events(table) => table.name,
            TableKind::Losses => "losses",
            TableKind::Coverage => "coverage",
            TableKind::Hosts => "hosts",
        }
    }

    fn columns(&self) -> &[TableColumn] {
        &self.columns
    }

    fn scan(&self, request: &ScanRequest) -> Result<Box<dyn Scan>, ScanError> {
        let recording = || Arc::clone(&self.recording);
        let bounds = &request.bounds;
        Ok(match self.kind {
            TableKind::Processes => {
                // A process that started before a time may end after it, so only the time of the
                // end limits how far the recording must be read.
                let (started, _) = range(bounds, life_rows::column("start_time_ns"));
                let (ended, until) = range(bounds, life_rows::column("end_time_ns"));
                let query = self.recording.open(started.max(ended), until)?;
                let rows = LifeRows::new(request, self.recording.for_osquery);
                Box::new(RecordingScan::new(recording(), query, rows))
            }
            TableKind::Events(table) => {
                let (since, until) = range(bounds, self.column("timestamp_ns"));
                let reader = EventRows::new(table, request);
                let query = self.recording.open(since, until)?;
                let query = if reader.needs_process() { query } else { query.without_processes() };
                Box::new(RecordingScan::new(recording(), query, reader))
            }
            TableKind::Losses => {
                let query = self.recording.open(None, None)?.without_processes();
                Box::new(RecordingScan::new(recording(), query, LossRows))
            }
            TableKind::Coverage => {
                let query = self.recording.open(None, None)?.without_processes();
                Box::new(RecordingScan::new(recording(), query, GapRows))
            }
            TableKind::Hosts => {
                let query = self.recording.open(None, None)?.without_processes();
                Box::new(RecordingScan::new(recording(), query, HostRows::default()))
            }
        })
    }
}
