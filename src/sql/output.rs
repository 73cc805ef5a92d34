//! The results of queries as text.

use std::io::Write;

use clap::ValueEnum;
use pmon_sql::{RowSink, ValueRef};
use serde_json::Value;

use crate::exit::Failure;
use crate::output::{json_line, printable};
use crate::terminal::{cell_width, cut, push_cell};

/// Number of rows of a table whose widths determine the columns.
const TABLE_ROWS: usize = 1000;
/// Maximum width of a column that others follow, if the table has the width of a terminal.
const MAX_WIDTH: usize = 60;

/// A format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Aligned columns.
    Table,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object per row.
    Json,
    /// One value per line, without names.
    Line,
}

/// Writes results in a format.
pub(crate) struct OutputSink<W> {
    out: W,
    format: OutputFormat,
    /// Width of the terminal; `None` if lines are not cut.
    screen: Option<usize>,
    columns: Vec<String>,
    /// The first rows of a table, and whether each value is a number.
    buffered: Vec<Vec<(String, bool)>>,
    widths: Vec<usize>,
    /// Number of rows of all results.
    rows: u64,
    results: u64,
}

impl<W: Write> OutputSink<W> {
    /// Creates a sink. Tables are cut to the width of `screen`.
    pub(crate) fn new(out: W, format: OutputFormat, screen: Option<usize>) -> Self {
        Self {
            out,
            format,
            screen,
            columns: Vec::new(),
            buffered: Vec::new(),
            widths: Vec::new(),
            rows: 0,
            results: 0,
        }
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Sets the format of the next results.
    pub(crate) fn set_format(&mut self, format: OutputFormat) {
        self.format = format;
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(Failure::output)
    }

    fn csv(&mut self, cells: impl Iterator<Item = String>) -> Result<(), Failure> {
        let cells: Vec<_> = cells
            .map(|cell| match cell.contains([',', '"', '\r', '\n']) {
                true => format!("\"{}\"", cell.replace('"', "\"\"")),
                false => cell,
            })
            .collect();
        self.write(&(cells.join(",") + "\n"))
    }

    /// Writes the header and the buffered rows of a table.
    fn begin_table(&mut self) -> Result<(), Failure> {
        self.widths = (self.columns.iter().enumerate())
            .map(|(at, name)| {
                let cells = self.buffered.iter().filter_map(|row| Some(row.get(at)?.0.as_str()));
                cell_width(cells.chain([name.as_str()]))
            })
            .collect();
        if self.screen.is_some() {
            self.widths.iter_mut().for_each(|width| *width = (*width).min(MAX_WIDTH));
        }
        let header: Vec<_> = self.columns.iter().map(|name| (name.clone(), false)).collect();
        let rule: Vec<_> = self.widths.iter().map(|&width| ("-".repeat(width), false)).collect();
        self.table_row(&header)?;
        self.table_row(&rule)?;
        for row in std::mem::take(&mut self.buffered) {
            self.table_row(&row)?;
        }
        Ok(())
    }

    fn table_row(&mut self, row: &[(String, bool)]) -> Result<(), Failure> {
        let mut line = String::new();
        for (at, ((cell, is_number), &width)) in row.iter().zip(&self.widths).enumerate() {
            let is_last = at + 1 == row.len();
            let cell = if self.screen.is_some() && !is_last { cut(cell, Some(width)) } else { cell };
            push_cell(&mut line, cell, width, *is_number);
            line += if is_last { "" } else { "  " };
        }
        let line = cut(line.trim_end(), self.screen).to_owned();
        self.write(&(line + "\n"))
    }
}

impl<W: Write> RowSink for OutputSink<W> {
    type Error = Failure;

    fn begin(&mut self, columns: &[&str]) -> Result<(), Failure> {
        self.columns = columns.iter().map(|name| printable(name.as_bytes())).collect();
        self.widths.clear();
        self.buffered.clear();
        self.results += 1;
        match self.format {
            OutputFormat::Csv => self.csv(self.columns.clone().into_iter()),
            OutputFormat::Table if self.results > 1 => self.write("\n"),
            _ => Ok(()),
        }
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<(), Failure> {
        self.rows += 1;
        match self.format {
            OutputFormat::Table => {
                let is_number =
                    |value: &ValueRef<'_>| matches!(value, ValueRef::Integer(_) | ValueRef::Real(_));
                let cells: Vec<_> = values
                    .iter()
                    .map(|value| (text(*value).unwrap_or_else(|| "NULL".into()), is_number(value)))
                    .collect();
                if !self.widths.is_empty() {
                    return self.table_row(&cells);
                }
                self.buffered.push(cells);
                if self.buffered.len() >= TABLE_ROWS { self.begin_table() } else { Ok(()) }
            }
            OutputFormat::Csv => self.csv(values.iter().map(|value| text(*value).unwrap_or_default())),
            OutputFormat::Json => {
                // In the order of the columns, of which two can have the same name.
                let fields: Vec<_> = self
                    .columns
                    .iter()
                    .zip(values)
                    .map(|(name, value)| {
                        format!("{}:{}", json_line(&name.as_str().into()), json_line(&json(*value)))
                    })
                    .collect();
                self.write(&format!("{{{}}}\n", fields.join(",")))
            }
            OutputFormat::Line => {
                let lines: String =
                    values.iter().map(|value| text(*value).unwrap_or_default() + "\n").collect();
                self.write(&lines)
            }
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.format == OutputFormat::Table && self.widths.is_empty() && !self.columns.is_empty() {
            self.begin_table()?;
        }
        self.out.flush().map_err(Failure::output)
    }
}

/// Returns a value as text that cannot control a terminal; `None` if it is null.
fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(Value::from(number).to_string()),
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(printable(text)),
    }
}

fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(format: OutputFormat, screen: Option<usize>) -> String {
        let mut out = Vec::new();
        let mut sink = OutputSink::new(&mut out, format, screen);
        for _ in 0..2 {
            sink.begin(&["name", "a \"b\""]).expect("writes");
            sink.row(&[ValueRef::Text(b"x,\"y\"\n\x1b\xff"), ValueRef::Integer(-5)]).expect("writes");
            sink.row(&[ValueRef::Null, ValueRef::Real(0.5)]).expect("writes");
            sink.row(&[ValueRef::Text(b""), ValueRef::Real(f64::INFINITY)]).expect("writes");
            sink.end().expect("writes");
        }
        assert_eq!(sink.rows(), 6);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_table_is_aligned() {
        let expected = "\
name             a \"b\"
---------------  -----
x,\"y\"\\n\\x1b\\xff     -5
NULL               0.5
                  null
";
        assert_eq!(output(OutputFormat::Table, None), [expected, expected].join("\n"));
    }

    #[test]
    fn a_table_is_cut_to_the_terminal() {
        let table = output(OutputFormat::Table, Some(20));
        assert!(table.lines().all(|line| line.chars().count() <= 20), "{table}");
    }

    #[test]
    fn other_formats_escape_as_needed() {
        let csv = "name,\"a \"\"b\"\"\"\n\"x,\"\"y\"\"\\n\\x1b\\xff\",-5\n,0.5\n,null\n";
        assert_eq!(output(OutputFormat::Csv, None), csv.repeat(2));
        assert_eq!(output(OutputFormat::Line, None), "x,\"y\"\\n\\x1b\\xff\n-5\n\n0.5\n\nnull\n".repeat(2));
        let json = output(OutputFormat::Json, None);
        let first: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
        assert_eq!(first["name"], "x,\"y\"\n\u{1b}\u{fffd}");
        assert!(!json.contains('\u{1b}') && json.starts_with("{\"name\":"), "{json}");
    }

    #[test]
    fn a_long_table_keeps_the_widths_of_its_first_rows() {
        let mut out = Vec::new();
        let mut sink = OutputSink::new(&mut out, OutputFormat::Table, None);
        sink.begin(&["n"]).expect("writes");
        for number in 0..TABLE_ROWS as i64 + 5 {
            sink.row(&[ValueRef::Integer(number)]).expect("writes");
        }
        sink.end().expect("writes");
        let lines: Vec<_> = std::str::from_utf8(&out).expect("UTF-8").lines().collect();
        assert_eq!(lines.len(), TABLE_ROWS + 7);
        assert_eq!((lines[2], lines[TABLE_ROWS + 6]), ("  0", "1004"));
    }
}
