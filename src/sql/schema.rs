//! The views, and the reference of all tables.

use std::fmt::Write as _;
use std::sync::Arc;

use pmon_analysis::life::ColumnType;
use pmon_analysis::tables::EVENT_TABLES;
use pmon_sql::{FUNCTIONS, Table as _, TableColumn};

use super::osquery;
use super::{RecordingTable, SqlRecording, tables};

/// The views that have the names and columns of osquery's tables.
pub(crate) const VIEWS: &str = "\
CREATE VIEW process_events AS SELECT
  pid,
  coalesce(exe, filename) AS path,
  CAST(NULL AS TEXT) AS mode,
  cmdline(args) AS cmdline,
  CAST(length(CAST(cmdline(args) AS BLOB)) AS INTEGER) AS cmdline_size,
  CAST(NULL AS TEXT) AS env,
  CAST(NULL AS INTEGER) AS env_count,
  CAST(NULL AS INTEGER) AS env_size,
  cwd,
  CAST(coalesce(login_uid, 4294967295) AS INTEGER) AS auid,
  uid, euid, gid, egid,
  CAST(NULL AS INTEGER) AS owner_uid,
  CAST(NULL AS INTEGER) AS owner_gid,
  CAST(NULL AS INTEGER) AS atime,
  CAST(NULL AS INTEGER) AS mtime,
  CAST(NULL AS INTEGER) AS ctime,
  CAST(NULL AS INTEGER) AS btime,
  CAST(NULL AS TEXT) AS overflows,
  CAST(coalesce(ppid, -1) AS INTEGER) AS parent,
  CAST(timestamp_ns / 1000000000 AS INTEGER) AS time,
  CAST(mono_ns / 1000000000 AS INTEGER) AS uptime,
  printf('%d-%d-%d', mono_ns, cpu, seq) AS eid,
  CAST(NULL AS INTEGER) AS fsuid,
  CAST(NULL AS INTEGER) AS suid,
  CAST(NULL AS INTEGER) AS fsgid,
  CAST(NULL AS INTEGER) AS sgid,
  CAST('execve' AS TEXT) AS syscall
FROM execs;
CREATE VIEW bpf_process_events AS SELECT
  tid, pid,
  CAST(coalesce(ppid, -1) AS INTEGER) AS parent,
  uid, gid,
  CAST(NULL AS INTEGER) AS cid,
  CAST('0' AS TEXT) AS exit_code,
  CAST(missed IS NOT NULL OR coalesce(args_truncated, 0) AS INTEGER) AS probe_error,
  CAST('execve' AS TEXT) AS syscall,
  coalesce(exe, filename) AS path,
  cwd,
  cmdline(args) AS cmdline,
  CAST(NULL AS INTEGER) AS duration,
  args AS json_cmdline,
  CAST(mono_ns AS TEXT) AS ntime,
  CAST(timestamp_ns / 1000000000 AS INTEGER) AS time,
  CAST(seq AS INTEGER) AS eid
FROM execs;
CREATE VIEW hash AS SELECT
  path,
  CAST(NULL AS TEXT) AS directory,
  CAST(NULL AS TEXT) AS md5,
  CAST(NULL AS TEXT) AS sha1,
  CAST(NULL AS TEXT) AS sha256
FROM (
  SELECT exe AS path FROM execs GROUP BY exe
  UNION SELECT exe FROM processes GROUP BY exe
  UNION SELECT filename FROM execs WHERE exe IS NULL
) WHERE path IS NOT NULL;
CREATE VIEW uptime AS SELECT
  CAST(total_seconds / 86400 AS INTEGER) AS days,
  CAST(total_seconds / 3600 % 24 AS INTEGER) AS hours,
  CAST(total_seconds / 60 % 60 AS INTEGER) AS minutes,
  CAST(total_seconds % 60 AS INTEGER) AS seconds,
  CAST(total_seconds AS INTEGER) AS total_seconds
FROM (SELECT max(mono_ns) / 1000000000 AS total_seconds FROM events);
";

/// The names of the views.
pub(crate) const VIEW_NAMES: [&str; 4] = ["process_events", "bpf_process_events", "hash", "uptime"];

/// Returns the names of all tables and views.
pub(crate) fn table_names() -> Vec<&'static str> {
    let events = EVENT_TABLES.iter().map(|table| table.name);
    let tables = std::iter::once("processes").chain(events).chain(["losses", "coverage", "hosts"]);
    tables.chain(VIEW_NAMES).collect()
}

/// Returns the names of all tables and views, each with its columns.
pub(crate) fn columns(recording: &Arc<SqlRecording>) -> Vec<(&'static str, Vec<&'static str>)> {
    let tables = tables(recording);
    let names =
        |table: &RecordingTable| (table.name(), table.columns().iter().map(|column| column.name).collect());
    tables.iter().map(names).chain(VIEW_NAMES.map(|name| (name, Vec::new()))).collect()
}

/// Returns the reference of the tables, views and functions in Markdown. A column of an event that
/// an earlier table has as well is only named.
pub(crate) fn markdown(recording: &Arc<SqlRecording>) -> String {
    let mut text = String::new();
    let tables = tables(recording);
    for (number, table) in tables.iter().enumerate() {
        // The tables after those of events have columns of the same names for other things.
        let earlier = if number <= EVENT_TABLES.len() { &tables[..number] } else { &[] };
        push_table(&mut text, table, earlier);
    }
    text.push_str("### Views\n\n```sql\n");
    text.push_str(VIEWS);
    text.push_str("```\n\n### Functions\n\n| function | value |\n| --- | --- |\n");
    for (function, doc) in FUNCTIONS {
        let _ = writeln!(text, "| `{function}` | {doc} |");
    }
    text
}

/// Returns the reference of a table, with all of its columns; `None` if there is none.
pub(crate) fn table_markdown(recording: &Arc<SqlRecording>, name: &str) -> Option<String> {
    let tables = tables(recording);
    let table = tables.iter().find(|table| table.name() == name)?;
    let mut text = String::new();
    push_table(&mut text, table, &[]);
    Some(text)
}

/// Appends the reference of a table. Columns that one of `earlier` has are only named.
fn push_table(text: &mut String, table: &RecordingTable, earlier: &[RecordingTable]) {
    let _ = write!(text, "### `{}`\n\n{}\n\n", table.name(), table.doc());
    let (hidden, shown): (Vec<&TableColumn>, Vec<_>) =
        table.columns().iter().partition(|column| column.is_hidden);
    let known_from =
        |column: &TableColumn| earlier.iter().find(|of| of.columns().contains(column)).map(|of| of.name());
    let own: Vec<_> = shown.iter().copied().filter(|column| known_from(column).is_none()).collect();
    if !own.is_empty() {
        push_columns(text, &own);
    }
    for from in earlier.iter().map(|of| of.name()) {
        let names = shown.iter().filter(|column| known_from(column) == Some(from));
        let names: Vec<_> = names.map(|column| format!("`{}`", column.name)).collect();
        if !names.is_empty() {
            let _ = writeln!(text, "As in `{from}`: {}.\n", names.join(", "));
        }
    }
    if !hidden.is_empty() {
        text.push_str(osquery::HIDDEN_DOC);
        push_columns(text, &hidden);
    }
}

fn push_columns(text: &mut String, columns: &[&TableColumn]) {
    text.push_str("| column | type | meaning |\n| --- | --- | --- |\n");
    for TableColumn { name, kind, doc, .. } in columns {
        let _ = writeln!(text, "| `{name}` | {} | {doc} |", type_name(*kind));
    }
    text.push('\n');
}

fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Integer => "integer",
        ColumnType::Boolean => "0 or 1",
        ColumnType::Timestamp => "time",
        ColumnType::Text => "text",
        ColumnType::TextList => "JSON array",
    }
}
