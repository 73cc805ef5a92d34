//! The summary at the end of a recording: what was recorded, and what to do next.

use std::fs::File;
use std::path::Path;

use pmon_analysis::Statistics;
use pmon_analysis::filter::ExitIndex;
use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{Header, Item, Reader};
use pmon_record::{CaptureFile, RecordOptions};
use serde_json::Value;

use crate::args::{ClockArg, FormatArg, ViewArgs};
use crate::counting_sink::facts;
use crate::input::shown;
use crate::output::shell_words;
use crate::report::text_table::TextTable;
use crate::report::verdict::Completeness;
use crate::terminal::size;
use crate::time_spec::brief;
use crate::view::{Range, View};

/// Maximum number of programs that are named.
const PROGRAMS: usize = 3;
/// Maximum number of lines for the command's own events.
const LINES: usize = 16;
/// Number of first blocks from which these come, which keeps the end of a long recording short.
const BLOCKS: usize = 2;

/// The facts that the summary of a recording shows.
pub(crate) struct RecordSummary<'a> {
    pub(crate) file: &'a CaptureFile,
    pub(crate) tally: &'a Statistics,
    pub(crate) completeness: &'a Completeness,
    pub(crate) header: &'a Header,
    pub(crate) options: &'a RecordOptions,
    /// The process of the command that was recorded.
    pub(crate) command: Option<u32>,
}

impl RecordSummary<'_> {
    /// Lines for standard error.
    pub(crate) fn text(&self) -> String {
        let Self { file, tally, completeness, .. } = self;
        let mut table = TextTable::default();
        let mut text = self.excerpt();
        table.line("recorded", brief(self.duration_ns()));
        table.verdict(completeness);
        for hint in hints(&completeness.report.lost, self.header.meta.socket_buffer, self.options) {
            table.line("hint", hint);
        }
        table.kinds(tally);
        table.losses(completeness);
        table.rejected(completeness);
        table.details(tally, PROGRAMS);
        table.size(file.bytes(), tally.events);
        if let Some(path) = file.path() {
            table.line("file", shown(path));
        }
        // What went down a stream cannot be read again.
        if let Some(path) = file.current_path() {
            table.line("next", self.next(path));
        }
        text.push_str(&table.into_text());
        text
    }

    /// One object, for programs.
    pub(crate) fn json(&self) -> Value {
        let mut facts = facts(self.file, self.tally, self.completeness, self.header);
        facts.insert("socket_buffer".into(), self.header.meta.socket_buffer.into());
        facts.insert("command_pid".into(), self.command.into());
        Value::Object(facts)
    }

    fn duration_ns(&self) -> u64 {
        let end = self.completeness.report.end.map_or(0, |end| end.time.0);
        end.saturating_sub(self.header.meta.start.mono.0)
    }

    fn next(&self, path: &Path) -> String {
        let file = shell_words([path.as_os_str().as_encoded_bytes()].into_iter());
        match self.command {
            Some(pid) => format!("pmon print {file} --tree {pid}   or   pmon info {file}"),
            None => format!("pmon print {file}   or   pmon info {file}"),
        }
    }

    /// The first events of the command and its descendants.
    fn excerpt(&self) -> String {
        let Some((pid, path)) = self.command.zip(self.file.current_path()) else { return String::new() };
        // It is an extra, not worth an error.
        self.lines(pid, path).filter(|lines| !lines.is_empty()).map_or_else(String::new, |lines| {
            let shown = lines.lines().take(LINES).map(|line| format!("  {line}\n")).collect::<String>();
            let more = if lines.lines().count() > LINES { "  ...\n" } else { "" };
            format!("What the command did, as far as {LINES} lines tell:\n{shown}{more}\n")
        })
    }

    fn lines(&self, pid: u32, path: &Path) -> Option<String> {
        let mut exits = ExitIndex::default();
        let mut reader = Reader::open(File::open(path).ok()?).ok()?;
        let order = reader.byte_order();
        for _ in 0..BLOCKS {
            let Some(Item::Block(block)) = reader.next_item().ok()? else { break };
            block.records().for_each(|record| exits.count(&record, order));
        }
        let mut reader = Reader::open(File::open(path).ok()?).ok()?;
        let args = ViewArgs {
            format: FormatArg::Text,
            kind: Vec::new(),
            pid: Vec::new(),
            tree: Some(pid),
            comm: None,
            threads: false,
            own: false,
            clock: ClockArg::Relative,
        };
        let mut lines = Vec::new();
        let mut view = View::new(&args, Range::default(), Some(self.header), order, false, &mut lines);
        if self.completeness.report.scope.is_some() {
            view.add_exits(exits);
        }
        for _ in 0..BLOCKS {
            let Some(Item::Block(block)) = reader.next_item().ok()? else { break };
            block.records().try_for_each(|record| view.record(record)).ok()?;
        }
        view.release().and_then(|()| view.flush()).ok()?;
        let doubt = view.doubt();
        drop(view);
        let mut lines = String::from_utf8(lines).ok()?;
        if let Some(doubt) = doubt {
            lines = format!("({doubt})\n{lines}");
        }
        Some(lines)
    }
}

/// What to do about losses, where something helps.
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

    fn hint(cause: LossCause, socket_buffer: u64, asked: usize) -> String {
        let mut lost = LossByCause::default();
        lost.add(cause, 1);
        let options = RecordOptions { socket_buffer: asked, ..RecordOptions::default() };
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
