//! The summary at the end of a recording: the programs of the command, losses, and what to do next.

use std::fs::File;
use std::path::Path;

use jiff::tz::TimeZone;
use pmon_analysis::Filter;
use pmon_analysis::filter::{ExitIndex, ProcessTree};
use pmon_core::Tgid;
use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{Item, Reader};
use pmon_record::RecordOptions;
use serde_json::{Map, Value};

use crate::output::{TextRenderer, shell_word};
use crate::report::programs::ProgramCounter;
use crate::report::summary::{Summary, VerbParts};
use crate::terminal::{self, size};
use crate::view::View;

/// Maximum number of programs that are named.
const PROGRAMS: usize = 3;
/// Maximum number of events of the command that are shown.
const EVENTS: usize = 16;
/// Number of blocks that are searched for these events, which keeps the end of a long recording
/// short.
const BLOCKS: usize = 2;

/// The summary of a recording.
pub(crate) struct RecordSummary<'a> {
    pub(crate) summary: Summary<'a>,
    pub(crate) options: &'a RecordOptions,
    /// The process id of the recorded command.
    pub(crate) command: Option<u32>,
    pub(crate) programs: Option<ProgramCounter>,
}

impl RecordSummary<'_> {
    /// Returns lines for standard error.
    pub(crate) fn text(&self) -> String {
        let Summary { file, completeness, header, .. } = &self.summary;
        let parts = VerbParts {
            duration_label: Some("recorded"),
            hints: hints(&completeness.report.lost, header.meta.socket_buffer, self.options),
            programs: PROGRAMS,
            next: file.current_path().map(|path| self.next(path)).unwrap_or_default(),
        };
        let mut text = String::new();
        if let Some(programs) = self.programs.as_ref().and_then(ProgramCounter::sentence) {
            let at_least = if completeness.report.lost.total() > 0 { "at least " } else { "" };
            text = format!("The command and its descendants ran {at_least}{programs}.\n");
        }
        text + &self.excerpt() + &self.summary.text(&parts)
    }

    /// Returns the fields of the JSON object.
    pub(crate) fn json(&self) -> Map<String, Value> {
        let mut fields = self.summary.json();
        fields.insert("socket_buffer".into(), self.summary.header.meta.socket_buffer.into());
        fields.insert("command_pid".into(), self.command.into());
        fields
    }

    fn next(&self, path: &Path) -> Vec<String> {
        let file = shell_word(path.as_os_str().as_encoded_bytes());
        match self.command {
            Some(pid) => vec![format!("pmon tree {file} {pid}"), format!("pmon print {file} --tree {pid}")],
            None => vec![format!("pmon print {file}"), format!("pmon info {file}")],
        }
    }

    /// Returns the first events of the command and its descendants, or nothing if they cannot be
    /// read.
    fn excerpt(&self) -> String {
        let command = self.command.zip(self.summary.file.current_path());
        let lines = command.and_then(|(pid, path)| self.lines(pid, path)).unwrap_or_default();
        if lines.is_empty() {
            return lines;
        }
        let width = terminal::width().map_or(usize::MAX, |width| width.saturating_sub(2));
        let shown = lines.lines().take(EVENTS).map(|line| format!("  {}\n", cut(line, width)));
        let more = if lines.lines().count() > EVENTS { "  ...\n" } else { "" };
        format!(
            "The first events of the command, in seconds since the start:\n{}{more}\n",
            shown.collect::<String>()
        )
    }

    /// Returns the lines of the first events of a process and its descendants.
    fn lines(&self, pid: u32, path: &Path) -> Option<String> {
        let header = self.summary.header;
        let mut exits = ExitIndex::default();
        let mut reader = Reader::open(File::open(path).ok()?).ok()?;
        let order = reader.byte_order();
        for _ in 0..BLOCKS {
            let Some(Item::Block(block)) = reader.next_item().ok()? else { break };
            block.records().for_each(|record| exits.count(&record, order));
        }
        let mut reader = Reader::open(File::open(path).ok()?).ok()?;
        let filter = Filter {
            tree: Some(ProcessTree::new(Tgid(pid))),
            hide_threads: true,
            hide_self_generated: header.meta.recorder(),
            ..Filter::default()
        };
        let mut lines = Vec::new();
        let render = Box::new(TextRenderer::brief(TimeZone::system()));
        let mut view = View::with_renderer(render, filter, Some(header), order, &mut lines);
        if self.summary.completeness.report.scope.is_some() {
            view.add_exits(exits);
        }
        for _ in 0..BLOCKS {
            let Some(Item::Block(block)) = reader.next_item().ok()? else { break };
            block.records().try_for_each(|record| view.record(record)).ok()?;
        }
        view.release().and_then(|()| view.flush()).ok()?;
        let uncertainty = view.uncertainty();
        drop(view);
        let uncertainty = uncertainty.map_or_else(String::new, |uncertainty| format!("({uncertainty})\n"));
        Some(uncertainty + &String::from_utf8(lines).ok()?)
    }
}

/// Cuts a line to `width` columns.
fn cut(line: &str, width: usize) -> String {
    if terminal::text_width(line) <= width {
        return line.to_owned();
    }
    terminal::cut(line, Some(width.saturating_sub(3))).to_owned() + "..."
}

/// Returns remedies for the losses, if there are any.
fn hints(lost: &LossByCause, socket_buffer: u64, options: &RecordOptions) -> Vec<String> {
    let mut hints = Vec::new();
    if lost.of(LossCause::Socket) > 0 {
        let buffer = size(socket_buffer);
        if socket_buffer < options.socket_buffer as u64 {
            hints.push(format!(
                "the socket's buffer has only {buffer}: run as root or with CAP_NET_ADMIN for a larger one"
            ));
        } else if options.socket_buffer < RecordOptions::default().socket_buffer {
            hints.push(format!("a --socket-buffer of more than {buffer} bridges longer bursts"));
        }
    }
    if lost.of(LossCause::Backpressure) > 0 {
        let buffer = size(options.buffer as u64);
        hints.push(format!(
            "the output did not keep up: write to a faster one, or bridge longer stalls with a --buffer of more than {buffer}"
        ));
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(cause: LossCause, socket_buffer: u64, requested: usize) -> String {
        let mut lost = LossByCause::default();
        lost.add(cause, 1);
        let options = RecordOptions { socket_buffer: requested, ..RecordOptions::default() };
        hints(&lost, socket_buffer, &options).join("\n")
    }

    #[test]
    fn a_remedy_is_proposed_only_where_it_helps() {
        let all = RecordOptions::default().socket_buffer;
        let text = hint(LossCause::Socket, 425_984, all);
        assert!(text.contains("416 KiB") && text.contains("CAP_NET_ADMIN"), "{text}");
        assert!(hint(LossCause::Socket, 1 << 20, 1 << 20).contains("--socket-buffer"));
        assert_eq!(hint(LossCause::Socket, all as u64, all), "");
        assert_eq!(hint(LossCause::KernelMemory, 425_984, all), "");
        assert!(hint(LossCause::Backpressure, all as u64, all).contains("--buffer"));
        assert!(hints(&LossByCause::default(), 1, &RecordOptions::default()).is_empty());
    }
}
