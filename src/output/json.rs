//! JSON, one object per line. `docs/json.md` documents the fields; they are only ever added.

use pmon_analysis::TimelineItem;
use pmon_core::capture::{Blind, Loss, Unobserved, argv};

use super::escape::{is_plain_ascii, push_json};
use super::fields::{self, EventFields, FieldWriter, OutputField};
use super::{Render, RenderContext};

/// Writes events as JSON, one object per line.
pub(crate) struct JsonRenderer {
    fields: EventFields,
}

impl JsonRenderer {
    /// Creates a renderer with times in UTC.
    pub(crate) fn new() -> Self {
        Self { fields: EventFields::new() }
    }
}

impl Render for JsonRenderer {
    fn event(&mut self, item: &TimelineItem, context: RenderContext<'_>, out: &mut Vec<u8>) {
        let mut line = JsonObject::begin(out);
        fields::event(&mut line, &mut self.fields, item, context);
        line.end();
    }

    fn loss(&mut self, loss: &Loss, _: RenderContext<'_>, out: &mut Vec<u8>) {
        let mut line = JsonObject::begin(out);
        fields::loss(&mut line, loss);
        line.end();
    }

    fn blind(&mut self, blind: &Blind, _: RenderContext<'_>, out: &mut Vec<u8>) {
        let mut line = JsonObject::begin(out);
        fields::blind(&mut line, blind);
        line.end();
    }

    fn unobserved(&mut self, span: &Unobserved, _: RenderContext<'_>, out: &mut Vec<u8>) {
        let mut line = JsonObject::begin(out);
        fields::unobserved(&mut line, span);
        line.end();
    }

    fn needs_details(&self) -> bool {
        true
    }

    fn needs_processes(&self) -> bool {
        true
    }
}

/// A line while it is built. Each key has a comma before it; in the end, the brace replaces the
/// first one.
struct JsonObject<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> JsonObject<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start }
    }

    fn end(self) {
        self.out[self.start] = b'{';
        self.out.extend_from_slice(b"}\n");
    }
}

impl FieldWriter for JsonObject<'_> {
    #[inline(always)]
    fn bare(&mut self, field: OutputField, write: Option<impl FnOnce(&mut Vec<u8>)>) {
        self.out.extend_from_slice(field.key.as_bytes());
        match write {
            Some(write) => write(self.out),
            None => self.out.extend_from_slice(b"null"),
        }
    }

    #[inline(always)]
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

    #[inline(always)]
    fn text(&mut self, field: OutputField, text: Option<&[u8]>) {
        self.bare(field, text.map(|text| |out: &mut Vec<u8>| push_json_string(out, text)));
    }

    fn args(&mut self, field: OutputField, args: Option<&[u8]>) {
        let write = |args: &[u8], out: &mut Vec<u8>| {
            out.push(b'[');
            for (n, arg) in argv(args).enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                push_json_string(out, arg);
            }
            out.push(b']');
        };
        self.bare(field, args.map(|args| move |out: &mut Vec<u8>| write(args, out)));
    }
}

/// Appends a string. Bytes that are not UTF-8 become U+FFFD, and characters that could control the
/// terminal are escaped.
pub(crate) fn push_json_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if is_plain_ascii(bytes, [b'"', b'\\']) {
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
            push_json_string(&mut out, text.as_bytes());
            assert!(!out.iter().any(|byte| byte.is_ascii_control()));
            assert_eq!(serde_json::from_slice::<String>(&out).ok().as_deref(), Some(text));
        }
        let mut out = Vec::new();
        push_json_string(&mut out, b"a\xffb");
        assert_eq!(serde_json::from_slice::<String>(&out).ok().as_deref(), Some("a\u{fffd}b"));
    }
}
