//! The output formats for events, one file each.

mod classic;
mod csv;
mod escape;
mod fields;
mod json;
mod text;
mod timestamps;

use pmon_analysis::{ProcessTable, TimelineItem, WallClock};
use pmon_core::MonoNs;
use pmon_core::capture::{Blind, Loss, Unobserved};

pub(crate) use classic::ClassicRenderer;
pub(crate) use csv::CsvRenderer;
pub(crate) use escape::{harmless, json_line, json_text, printable, shell_word, shell_words};
pub(crate) use json::JsonRenderer;
pub(crate) use text::TextRenderer;

/// The state of the capture at the record that is rendered.
#[derive(Clone, Copy)]
pub(crate) struct RenderContext<'a> {
    /// The processes after the record.
    pub(crate) processes: &'a ProcessTable,
    /// The relation of monotonic to wall-clock time.
    pub(crate) wall: &'a WallClock,
    /// The start of the recording.
    pub(crate) start: MonoNs,
}

/// An output format. All functions append to `out`.
pub(crate) trait Render: Send {
    /// Appends the header, if the format has one.
    fn begin(&mut self, _out: &mut Vec<u8>) {}
    /// Appends an event.
    fn event(&mut self, item: &TimelineItem, context: RenderContext<'_>, out: &mut Vec<u8>);
    /// Appends a loss; returns `false` if the format has no line for losses.
    fn loss(&mut self, _: &Loss, _: RenderContext<'_>, _out: &mut Vec<u8>) -> bool {
        false
    }
    /// Appends a blind time; returns `false` if the format has no line for it.
    fn blind(&mut self, _: &Blind, _: RenderContext<'_>, _out: &mut Vec<u8>) -> bool {
        false
    }
    /// Appends an unobserved time; returns `false` if the format has no line for it.
    fn unobserved(&mut self, _: &Unobserved, _: RenderContext<'_>, _out: &mut Vec<u8>) -> bool {
        false
    }
    /// Whether the format uses [`TimelineItem::details`].
    fn needs_details(&self) -> bool {
        false
    }
    /// Whether the format uses [`RenderContext::processes`].
    fn needs_processes(&self) -> bool {
        false
    }
    /// Whether the format shows which exits end a process, from [`ProcessTable::exit`] or from the
    /// recorder's observation.
    fn shows_process_ends(&self) -> bool {
        false
    }
}

/// Appends a number in decimal.
fn push_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends bytes in hexadecimal.
fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]));
}
