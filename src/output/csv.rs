//! Comma-separated values (RFC 4180): a header line, then one line per record.

use pmon_analysis::TimelineItem;
use pmon_core::capture::{Blind, Loss, Unobserved, argv};

use super::escape::{printable, shell_words};
use super::fields::{self, EventFields, FieldWriter, HEADER, OutputField};
use super::{Render, RenderContext};

/// Writes events as CSV.
pub(crate) struct CsvRenderer {
    fields: EventFields,
    row: CsvRow,
}

impl CsvRenderer {
    /// Creates a renderer with times in UTC.
    pub(crate) fn new() -> Self {
        let row = CsvRow(HEADER.split(',').map(|_| Vec::new()).collect());
        Self { fields: EventFields::new(), row }
    }
}

impl Render for CsvRenderer {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(HEADER.as_bytes());
        out.push(b'\n');
    }

    fn event(&mut self, item: &TimelineItem, context: RenderContext<'_>, out: &mut Vec<u8>) {
        fields::event(&mut self.row, &mut self.fields, item, context);
        self.row.end(out);
    }

    fn loss(&mut self, loss: &Loss, _: RenderContext<'_>, out: &mut Vec<u8>) {
        fields::loss(&mut self.row, loss);
        self.row.end(out);
    }

    fn blind(&mut self, blind: &Blind, _: RenderContext<'_>, out: &mut Vec<u8>) {
        fields::blind(&mut self.row, blind);
        self.row.end(out);
    }

    fn unobserved(&mut self, span: &Unobserved, _: RenderContext<'_>, out: &mut Vec<u8>) {
        fields::unobserved(&mut self.row, span);
        self.row.end(out);
    }

    fn needs_details(&self) -> bool {
        true
    }

    fn needs_processes(&self) -> bool {
        true
    }
}

/// A row while it is built. Its buffers are reused.
struct CsvRow(Vec<Vec<u8>>);

impl FieldWriter for CsvRow {
    fn bare(&mut self, field: OutputField, write: Option<impl FnOnce(&mut Vec<u8>)>) {
        if let Some(write) = write {
            write(&mut self.0[field.index]);
        }
    }

    fn plain(&mut self, field: OutputField, write: Option<impl FnOnce(&mut Vec<u8>)>) {
        self.bare(field, write);
    }

    fn text(&mut self, field: OutputField, text: Option<&[u8]>) {
        self.name(field, text.map(printable).as_deref());
    }

    fn args(&mut self, field: OutputField, args: Option<&[u8]>) {
        self.name(field, args.map(|args| shell_words(argv(args))).as_deref());
    }
}

impl CsvRow {
    fn end(&mut self, out: &mut Vec<u8>) {
        for (n, cell) in self.0.iter_mut().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            push_cell(out, cell);
            cell.clear();
        }
        out.push(b'\n');
    }
}

fn push_cell(out: &mut Vec<u8>, cell: &[u8]) {
    if !cell.iter().any(|byte| b",\"\r\n".contains(byte)) {
        return out.extend_from_slice(cell);
    }
    out.push(b'"');
    for &byte in cell {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_needed() {
        let mut out = Vec::new();
        push_cell(&mut out, b"a,\"b\"");
        assert_eq!(out, b"\"a,\"\"b\"\"\"");
    }
}
