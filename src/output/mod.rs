//! The output formats for events, one file each.

mod classic;
mod columns;
mod csv;
mod escape;
mod fields;
mod identity;
mod json;
mod number;
mod signal_origin;
mod text;
mod timestamps;

use std::io::Write as _;

use pmon_analysis::life::{LifeRef, LifeTracker, ProcessId};
use pmon_analysis::{ProcessExit, TimelineItem, WaitStatus, WallClock};
use pmon_core::MonoNs;
use pmon_core::capture::{Blind, Loss, Unobserved};

pub(crate) use classic::ClassicRenderer;
pub(crate) use columns::fitting_columns;
pub(crate) use csv::CsvRenderer;
pub(crate) use escape::{harmless, json_line, json_text, printable, shell_word, shell_words};
pub(crate) use json::{JsonRenderer, push_json_string};
pub(crate) use number::{Number, push_number};
pub(crate) use signal_origin::{ended, signal_origin};
pub(crate) use text::{TextRenderer, TextStyle};
pub(crate) use timestamps::TimestampWriter;

/// The state of the capture at the record that is rendered.
#[derive(Clone, Copy)]
pub(crate) struct RenderContext<'a> {
    /// The processes after the record, if the format needs them.
    pub(crate) processes: Option<&'a LifeTracker>,
    /// The process of the event; of a fork, the parent.
    pub(crate) life: Option<LifeRef<'a>>,
    /// The process that a fork starts.
    pub(crate) child: Option<ProcessId>,
    /// The relation of monotonic to wall-clock time.
    pub(crate) wall: &'a WallClock,
    /// The start of the recording.
    pub(crate) start: MonoNs,
}

impl<'a> RenderContext<'a> {
    /// Creates the context of a record whose processes are unknown.
    pub(crate) fn of_clock(wall: &'a WallClock, start: MonoNs) -> Self {
        Self { processes: None, life: None, child: None, wall, start }
    }

    /// Returns the effect of the exit on its process.
    fn exit(&self) -> Option<ProcessExit> {
        self.processes?.last_exit()
    }
}

/// An output format. All functions append to `out`.
pub(crate) trait Render: Send {
    /// Appends the header, if the format has one.
    fn begin(&mut self, _out: &mut Vec<u8>) {}
    /// Appends an event.
    fn event(&mut self, item: &TimelineItem, context: RenderContext<'_>, out: &mut Vec<u8>);
    /// Appends a loss.
    fn loss(&mut self, _: &Loss, _: RenderContext<'_>, _out: &mut Vec<u8>) {}
    /// Appends a blind time.
    fn blind(&mut self, _: &Blind, _: RenderContext<'_>, _out: &mut Vec<u8>) {}
    /// Appends an unobserved time.
    fn unobserved(&mut self, _: &Unobserved, _: RenderContext<'_>, _out: &mut Vec<u8>) {}
    /// Whether the format uses [`TimelineItem::details`].
    fn needs_details(&self) -> bool {
        false
    }
    /// Whether the format uses the processes of the context.
    fn needs_processes(&self) -> bool {
        false
    }
}

/// Appends how a task ended.
fn push_status(out: &mut Vec<u8>, status: WaitStatus) {
    match status {
        WaitStatus::Exited(code) => {
            out.extend_from_slice(b"exit ");
            push_number(out, code);
        }
        WaitStatus::Killed { .. } => _ = write!(out, "{status}"),
    }
}

/// Appends bytes in hexadecimal.
fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]));
}
