//! JSON, one object per line. `docs/json.md` documents the fields; they are only ever added.

use pmon_analysis::TimelineItem;
use pmon_core::capture::{Blind, Details, Loss, Unobserved};

use super::escape::push_json;
use super::fields::{self, FieldWriter, OutputField};
use super::timestamps::TimestampWriter;
use super::{Render, RenderContext};

/// Writes events as JSON, one object per line.
pub(crate) struct JsonRenderer {
    timestamps: TimestampWriter,
}

impl JsonRenderer {
    /// Creates a renderer with times in UTC.
    pub(crate) fn new() -> Self {
        Self { timestamps: TimestampWriter::utc() }
    }
}

impl Render for JsonRenderer {
    fn event(&mut self, item: &TimelineItem, context: RenderContext<'_>, out: &mut Vec<u8>) {
        let mut line = JsonObject::begin(out);
        fields::event(&mut line, &mut self.timestamps, item, context);
        line.end();
    }

    fn loss(&mut self, loss: &Loss, _: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        let mut line = JsonObject::begin(out);
        fields::loss(&mut line, loss);
        line.end();
        true
    }

    fn blind(&mut self, blind: &Blind, _: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        let mut line = JsonObject::begin(out);
        fields::blind(&mut line, blind);
        line.end();
        true
    }

    fn unobserved(&mut self, span: &Unobserved, _: RenderContext<'_>, out: &mut Vec<u8>) -> bool {
        let mut line = JsonObject::begin(out);
        fields::unobserved(&mut line, span);
        line.end();
        true
    }

    fn needs_details(&self) -> bool {
        true
    }

    fn shows_process_ends(&self) -> bool {
        true
    }
}

/// A line while it is built.
struct JsonObject<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> JsonObject<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }
}

impl FieldWriter for JsonObject<'_> {
    fn bare(&mut self, field: OutputField, write: Option<impl FnOnce(&mut Vec<u8>)>) {
        self.out.extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.first = false;
        self.out.extend_from_slice(field.name.as_bytes());
        self.out.extend_from_slice(b"\":");
        match write {
            Some(write) => write(self.out),
            None => self.out.extend_from_slice(b"null"),
        }
    }

    fn plain(&mut self, field: OutputField, write: Option<impl FnOnce(&mut Vec<u8>)>) {
        let quoted = write.map(|write| {
            |out: &mut Vec<u8>| {
                out.push(b'"');
                write(out);
                out.push(b'"');
            }
        });
        self.bare(field, quoted);
    }

    fn text(&mut self, field: OutputField, text: Option<&[u8]>) {
        self.bare(field, text.map(|text| |out: &mut Vec<u8>| push_string(out, text)));
    }

    fn args(&mut self, field: OutputField, details: Option<&Details>) {
        let write = |details: &Details, out: &mut Vec<u8>| {
            out.push(b'[');
            for (n, arg) in details.argv().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                push_string(out, arg);
            }
            out.push(b']');
        };
        let details = details.filter(|details| details.args.is_some());
        self.bare(field, details.map(|details| move |out: &mut Vec<u8>| write(details, out)));
    }
}

/// Appends a string. Bytes that are not UTF-8 become U+FFFD, and characters that could control the
/// terminal are escaped.
fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if bytes.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        out.extend_from_slice(bytes);
    } else {
        push_json(out, &String::from_utf8_lossy(bytes));
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parser_returns_the_original_strings() {
        for text in ["plain", "a\"b\\c", "\u{1b}[2J\n\t\u{7f}\u{9b}\u{202e}", "größe 𝄞", ""] {
            let mut out = Vec::new();
            push_string(&mut out, text.as_bytes());
            assert!(!out.iter().any(|byte| byte.is_ascii_control()));
            assert_eq!(serde_json::from_slice::<String>(&out).ok().as_deref(), Some(text));
        }
        let mut out = Vec::new();
        push_string(&mut out, b"a\xffb");
        assert_eq!(serde_json::from_slice::<String>(&out).ok().as_deref(), Some("a\u{fffd}b"));
    }
}
