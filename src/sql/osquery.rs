//! The columns of osquery's table `processes`, for queries that were written for osquery.

use pmon_analysis::life::{ColumnType, ColumnValue, LifeColumn, LifeRow};
use pmon_core::capture::argv;
use pmon_sql::TableColumn;

/// Introduces the columns in the reference.
pub(super) const HIDDEN_DOC: &str = "\
These columns are those of osquery's table `processes`. `SELECT *` leaves them out.

";

/// A column of osquery's table that pmon's table has under another name, or does not have.
pub(super) struct OsqueryColumn {
    pub(super) name: &'static str,
    pub(super) kind: ColumnType,
    pub(super) doc: &'static str,
    get: for<'a> fn(&LifeRow<'a>) -> ColumnValue<'a>,
}

impl OsqueryColumn {
    /// Returns the value in a row.
    pub(super) fn get<'a>(&self, row: &LifeRow<'a>) -> ColumnValue<'a> {
        (self.get)(row)
    }
}

const fn column(
    name: &'static str,
    kind: ColumnType,
    doc: &'static str,
    get: for<'a> fn(&LifeRow<'a>) -> ColumnValue<'a>,
) -> OsqueryColumn {
    OsqueryColumn { name, kind, doc, get }
}

/// A column whose values are not recorded.
const fn unknown(name: &'static str, kind: ColumnType) -> OsqueryColumn {
    column(name, kind, "Always null: not recorded.", |_| ColumnValue::Null)
}

/// The columns, those without values last.
pub(super) const OSQUERY_COLUMNS: &[OsqueryColumn] = {
    use ColumnType::{Integer, Text};
    &[
        column("path", Text, "`exe`, or else `filename`.", |row| match of("exe", row) {
            ColumnValue::Null => of("filename", row),
            exe => exe,
        }),
        column("name", Text, "`comm`.", |row| of("comm", row)),
        column("cmdline", Text, "`args`, with spaces between.", |row| match of("args", row) {
            ColumnValue::TextList(args) => {
                ColumnValue::Text(argv(args).collect::<Vec<_>>().join(&b' ').into())
            }
            _ => ColumnValue::Null,
        }),
        column("parent", Integer, "`ppid`.", |row| of("ppid", row)),
        column("pgroup", Integer, "`process_group`.", |row| of("process_group", row)),
        column("cgroup_path", Text, "`cgroup` without `0::`.", |row| match of("cgroup", row) {
            ColumnValue::Text(cgroup) => ColumnValue::Text(match cgroup.strip_prefix(b"0::") {
                Some(path) => path.to_vec().into(),
                None => cgroup,
            }),
            _ => ColumnValue::Null,
        }),
        column("user_time", Integer, "`user_ns` in ms.", |row| divided("user_ns", row, NS_PER_MS)),
        column("system_time", Integer, "`system_ns` in ms.", |row| divided("system_ns", row, NS_PER_MS)),
        column("resident_size", Integer, "`max_rss_bytes`, the peak.", |row| of("max_rss_bytes", row)),
        column("disk_bytes_read", Integer, "`read_bytes`.", |row| of("read_bytes", row)),
        column("disk_bytes_written", Integer, "`write_bytes`.", |row| of("write_bytes", row)),
        unknown("state", Text),
        unknown("root", Text),
        unknown("suid", Integer),
        unknown("sgid", Integer),
        unknown("on_disk", Integer),
        unknown("wired_size", Integer),
        unknown("total_size", Integer),
        unknown("nice", Integer),
    ]
};

/// The column `start_time` as in osquery.
pub(super) const START_TIME: TableColumn = TableColumn {
    name: "start_time",
    kind: ColumnType::Integer,
    doc: "Start of the process in seconds since 1970.",
    is_hidden: false,
};

const NS_PER_MS: i64 = 1_000_000;
const NS_PER_S: i64 = 1_000_000_000;

/// Returns the value of [`START_TIME`].
pub(super) fn start_time<'a>(row: &LifeRow<'a>) -> ColumnValue<'a> {
    divided("start_time_ns", row, NS_PER_S)
}

fn of<'a>(name: &str, row: &LifeRow<'a>) -> ColumnValue<'a> {
    LifeColumn::named(name).map_or(ColumnValue::Null, |column| column.get(row))
}

fn divided<'a>(name: &str, row: &LifeRow<'a>, by: i64) -> ColumnValue<'a> {
    match of(name, row) {
        ColumnValue::Integer(number) => ColumnValue::Integer(number.div_euclid(by)),
        _ => ColumnValue::Null,
    }
}
