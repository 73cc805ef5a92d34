//! A process as JSON. All verbs use the same names.

use pmon_analysis::WallClock;
use pmon_analysis::life::{ColumnValue, LIFE_COLUMNS, Life, LifeRow, Program};
use serde_json::{Map, Value};

use crate::time_spec::rfc3339;

/// Returns the fields of a process that was recorded on `host`. Unknown ones are null.
pub(crate) fn process_json(life: &Life, wall: &WallClock, host: &str) -> Map<String, Value> {
    let row = LifeRow::new(life, wall, host);
    let kind = ("kind".to_owned(), "process".into());
    let fields = LIFE_COLUMNS.iter().map(|column| (column.name.to_owned(), value(column.get(&row))));
    std::iter::once(kind).chain(fields).collect()
}

/// Returns the fields of a program. Unknown ones are null.
pub(crate) fn program_json(program: &Program, comm: Option<&[u8]>) -> Map<String, Value> {
    let args = program.args.as_ref().map(|_| program.argv().map(String::from_utf8_lossy).collect());
    let text = |text: Option<&[u8]>| text.map(String::from_utf8_lossy).into();
    let fields =
        [("comm", text(comm)), ("exe", text(program.exe.as_deref())), ("args", args.unwrap_or(Value::Null))];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Returns a wall-clock time as JSON: RFC 3339 in UTC.
pub(crate) fn time(real_ns: Option<i64>) -> Value {
    real_ns.and_then(rfc3339).into()
}

fn value(value: ColumnValue<'_>) -> Value {
    match value {
        ColumnValue::Null => Value::Null,
        ColumnValue::Integer(number) => number.into(),
        ColumnValue::Boolean(is_true) => is_true.into(),
        ColumnValue::Timestamp(real_ns) => time(Some(real_ns)),
        ColumnValue::Text(text) => String::from_utf8_lossy(&text).into(),
        list @ ColumnValue::TextList(_) => list.list().map(String::from_utf8_lossy).collect(),
    }
}
