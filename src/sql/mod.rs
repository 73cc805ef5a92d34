//! SQL on a recording: its tables, and how a query reads them.

mod event_rows;
mod gap_rows;
mod life_rows;
mod osquery;
mod output;
mod recording;
mod scan;
mod schema;
mod shell;
mod table;

pub(crate) use output::{OutputFormat, OutputSink};
pub(crate) use recording::SqlRecording;
pub(crate) use schema::{VIEWS, markdown, table_names};
pub(crate) use shell::Shell;
pub(crate) use table::{RecordingTable, tables};
