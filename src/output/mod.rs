//! Events as bytes: one file a format.

mod classic;
mod csv;
mod escape;
mod figures;
mod json;
mod text;
mod timestamps;

use pmon_analysis::{ProcessTable, TimelineItem, WallClock};
use pmon_core::MonoNs;
use pmon_core::capture::{Blind, Loss};

pub(crate) use classic::ClassicRenderer;
pub(crate) use csv::CsvRenderer;
pub(crate) use escape::{harmless, json_text, printable, shell_words};
pub(crate) use json::JsonRenderer;
pub(crate) use text::TextRenderer;

/// What is known around the record at hand.
#[derive(Clone, Copy)]
pub(crate) struct RenderContext<'a> {
    /// The processes, which have learned of it.
    pub(crate) processes: &'a ProcessTable,
    /// The wall clock.
    pub(crate) wall: &'a WallClock,
    /// When the recording began.
    pub(crate) start: MonoNs,
}

/// A format. What it writes, it appends to `out`.
pub(crate) trait Render: Send {
    /// What stands before the first record.
    fn begin(&mut self, _out: &mut Vec<u8>) {}
    /// An event record.
    fn event(&mut self, occurrence: &TimelineItem, context: RenderContext<'_>, out: &mut Vec<u8>);
    /// Lost events; `false` if the format has nothing for them.
    fn loss(&mut self, loss: &Loss, context: RenderContext<'_>, out: &mut Vec<u8>) -> bool;
    /// A time in which the kernel emitted no events; `false` if the format has nothing for it.
    fn blind(&mut self, blind: &Blind, context: RenderContext<'_>, out: &mut Vec<u8>) -> bool;
    /// Whether it looks at [`TimelineItem::details`].
    fn needs_details(&self) -> bool;
    /// Whether it looks at [`RenderContext::processes`].
    fn needs_processes(&self) -> bool;
    /// Whether the format shows which exits end a process, from [`ProcessTable::exit`] or from the
    /// recorder's observation.
    fn tells_ends(&self) -> bool {
        false
    }
}

/// Appends a number in decimal.
fn push_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends bytes in hex.
fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]));
}
