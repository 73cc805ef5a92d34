//! Values of columns as SQL values.

use std::borrow::Cow;

use jiff::Timestamp;
use pmon_analysis::life::ColumnValue;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

/// Formats ns since 1970 in RFC 3339 and UTC, with nine decimals.
pub fn iso(ns: i64) -> String {
    // A timestamp can represent every i64 of nanoseconds.
    Timestamp::from_nanosecond(ns.into()).map(|time| format!("{time:.9}")).unwrap_or_default()
}

/// Converts a value for SQLite. A time becomes text, and a list becomes a JSON array. Text is
/// passed on byte by byte, also if it is not UTF-8.
pub(crate) fn to_sql<'a>(value: &'a ColumnValue<'a>) -> ToSqlOutput<'a> {
    match value {
        ColumnValue::Null => ToSqlOutput::Borrowed(ValueRef::Null),
        ColumnValue::Integer(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
        ColumnValue::Boolean(value) => ToSqlOutput::Borrowed(ValueRef::Integer((*value).into())),
        ColumnValue::Timestamp(ns) => ToSqlOutput::Owned(Value::Text(iso(*ns))),
        ColumnValue::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text)),
        ColumnValue::TextList(_) => ToSqlOutput::Owned(Value::Text(json_array(value.list()))),
    }
}

/// Returns a JSON array of strings. Bytes that are not UTF-8 become U+FFFD.
fn json_array<'a>(items: impl Iterator<Item = &'a [u8]>) -> String {
    let items: Vec<Cow<'_, str>> = items.map(String::from_utf8_lossy).collect();
    serde_json::to_string(&items).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_decimals() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(iso(1_700_000_000_000_000_001), "2023-11-14T22:13:20.000000001Z");
        assert_eq!(iso(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(iso(i64::MAX), "2262-04-11T23:47:16.854775807Z");
        assert_eq!(iso(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    }

    #[test]
    fn lists_are_json() {
        let text = |bytes| to_sql(&ColumnValue::TextList(bytes)).to_owned_text();
        assert_eq!(text(b""), "[]");
        assert_eq!(text(b"\0"), "[\"\"]");
        assert_eq!(text(b"a\"b\0\0\xff\x1b\0"), "[\"a\\\"b\",\"\",\"\u{fffd}\\u001b\"]");
    }

    trait OwnedText {
        fn to_owned_text(&self) -> String;
    }

    impl OwnedText for ToSqlOutput<'_> {
        fn to_owned_text(&self) -> String {
            match self {
                ToSqlOutput::Owned(Value::Text(text)) => text.clone(),
                other => panic!("{other:?}"),
            }
        }
    }
}
