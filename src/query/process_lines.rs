//! Processes as lines of JSON, for verbs that print many. The fields are those of
//! [`process_json`](super::process_json).

use pmon_analysis::WallClock;
use pmon_analysis::life::{ColumnType, ColumnValue, LIFE_COLUMNS, Life, LifeRow};

use crate::output::{TimestampWriter, push_json_string, push_number};

/// Writes processes of one recording as JSON.
pub(crate) struct ProcessLines {
    host: String,
    /// A writer for each column with a time: consecutive processes often have times of the same
    /// second in the same column.
    timestamps: [TimestampWriter; 2],
}

impl ProcessLines {
    /// Creates a writer of processes that were recorded on `host`.
    pub(crate) fn new(host: String) -> Self {
        Self { host, timestamps: [TimestampWriter::utc(), TimestampWriter::utc()] }
    }

    /// Appends a process and `more` fields, each a name and a value in JSON, and ends the line.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, life: &Life, wall: &WallClock, more: &[(&str, String)]) {
        let row = LifeRow::new(life, wall, &self.host);
        let mut timestamps = self.timestamps.iter_mut();
        out.extend_from_slice(br#"{"kind":"process""#);
        for column in LIFE_COLUMNS {
            push_name(out, column.name);
            let timestamp = if column.kind == ColumnType::Timestamp { timestamps.next() } else { None };
            match column.get(&row) {
                ColumnValue::Null => out.extend_from_slice(b"null"),
                ColumnValue::Integer(number) => push_number(out, number),
                ColumnValue::Boolean(is_true) => {
                    out.extend_from_slice(if is_true { b"true" } else { b"false" })
                }
                ColumnValue::Timestamp(real_ns) => {
                    out.push(b'"');
                    timestamp.into_iter().for_each(|writer| writer.push(out, real_ns, 9));
                    out.extend_from_slice(b"Z\"");
                }
                ColumnValue::Text(text) => push_json_string(out, &text),
                list @ ColumnValue::TextList(_) => {
                    out.push(b'[');
                    for (number, text) in list.list().enumerate() {
                        if number > 0 {
                            out.push(b',');
                        }
                        push_json_string(out, text);
                    }
                    out.push(b']');
                }
            }
        }
        for (name, value) in more {
            push_name(out, name);
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(b"}\n");
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use pmon_analysis::life::LifeTracker;
    use pmon_testkit::support::*;
    use serde_json::Value;

    use super::*;
    use crate::query::process_json;

    #[test]
    fn a_line_has_the_fields_of_the_process() {
        let mut wall = WallClock::new();
        wall.observe(header().meta.start);
        let records = [
            scanned(10, 1, "sh"),
            scan_end(),
            fork(1, 2, 10, (20, 20)),
            exec(2, 3, 20),
            details(2, 20, "git", b"git\0\xff\x1b\"\\\n\0\0"),
            exit(5, 4, (20, 20), 9),
            exec(1_000_006, 5, 30),
            missed(1_000_006, 30),
            exit(2_000_000, 6, (30, 30), 3 << 8),
            end(3_000_000, 8),
        ];
        let mut tracker = LifeTracker::new(&header());
        records.iter().for_each(|record| tracker.apply(record));
        tracker.finish();
        let lives: Vec<_> = std::iter::from_fn(|| tracker.pop()).collect();
        assert_eq!(lives.len(), 3);
        let mut lines = ProcessLines::new("web-1".into());
        for life in &lives {
            let mut out = Vec::new();
            lines.push(&mut out, life, &wall, &[("more", "7".into())]);
            let text = String::from_utf8(out).expect("UTF-8");
            assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
            let mut expected = process_json(life, &wall, "web-1");
            expected.insert("more".into(), 7.into());
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), Value::Object(expected));
        }
    }
}
