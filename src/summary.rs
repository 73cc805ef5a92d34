//! What is said at the end of a recording: what was recorded, and what to do next.

use std::fs::File;
use std::path::Path;

use pmon_core::capture::{End, Header, Item, Reader};
use pmon_record::Options;

use crate::args::{Clock, Format, ViewArgs};
use crate::input::shown;
use crate::render::shell_words;
use crate::sheet::Sheet;
use crate::tape::Tape;
use crate::term::size;
use crate::view::{Range, View};
use crate::when::brief;

/// Programs that are named, and lines of the command's own events.
const PROGRAMS: usize = 3;
const LINES: usize = 16;
/// These come from the first so many blocks, which keeps the end of a long recording short.
const BLOCKS: usize = 2;
/// See the module.
pub(crate) struct Summary<'a> {
    pub(crate) tape: &'a Tape,
    pub(crate) header: &'a Header,
    pub(crate) end: End,
    /// The process of the command that was recorded.
    pub(crate) command: Option<u32>,
}

impl Summary<'_> {
    /// Lines for standard error.
    pub(crate) fn text(&self) -> String {
        let Tape { file, tally, .. } = self.tape;
        let mut sheet = Sheet::default();
        let mut text = self.excerpt();
        sheet.line("recorded", brief(self.end.time.0.saturating_sub(self.header.meta.start.mono.0)));
        sheet.kinds(tally);
        sheet.losses(tally);
        if let Some(hint) = hint(tally.lost, self.header.meta.socket_buffer) {
            sheet.line("hint", hint);
        }
        sheet.rejected(self.end.rejected);
        sheet.details(tally, PROGRAMS);
        sheet.size(file.bytes(), tally.events);
        if let Some(path) = file.path() {
            sheet.line("file", shown(path));
        }
        // What went down a stream cannot be read again.
        if let Some(path) = file.current_path() {
            sheet.line("next", self.next(path));
        }
        text.push_str(&sheet.into_text());
        text
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
        let Some((pid, path)) = self.command.zip(self.tape.file.current_path()) else { return String::new() };
        // It is an extra, not worth an error.
        self.lines(pid, path).filter(|lines| !lines.is_empty()).map_or_else(String::new, |lines| {
            let shown = lines.lines().take(LINES).map(|line| format!("  {line}\n")).collect::<String>();
            let more = if lines.lines().count() > LINES { "  ...\n" } else { "" };
            format!("What the command did, as far as {LINES} lines tell:\n{shown}{more}\n")
        })
    }

    fn lines(&self, pid: u32, path: &Path) -> Option<String> {
        let mut reader = Reader::open(File::open(path).ok()?).ok()?;
        let args = ViewArgs {
            format: Format::Text,
            kind: Vec::new(),
            pid: Vec::new(),
            tree: Some(pid),
            comm: None,
            threads: false,
            clock: Clock::Relative,
        };
        let mut lines = Vec::new();
        let order = reader.frame_order();
        let mut view = View::new(&args, Range::default(), Some(self.header), order, false, &mut lines);
        for _ in 0..BLOCKS {
            let Some(Item::Block(block)) = reader.next_item().ok()? else { break };
            block.records().try_for_each(|record| view.record(record)).ok()?;
        }
        view.release().and_then(|()| view.flush()).ok()?;
        drop(view);
        String::from_utf8(lines).ok()
    }
}

/// What to do about losses, where that is known.
fn hint(lost: u64, socket_buffer: u64) -> Option<String> {
    let buffer = size(socket_buffer);
    // The kernel grants twice what is asked for, unless it lacks privilege.
    let asked = Options::default().socket_buffer as u64;
    (lost > 0 && socket_buffer < 2 * asked).then(|| {
        format!("the socket's buffer has only {buffer}: run as root or with CAP_NET_ADMIN for a larger one")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privilege_is_proposed_only_where_it_helps() {
        assert!(
            hint(1, 425_984).is_some_and(|hint| hint.contains("416 KiB") && hint.contains("CAP_NET_ADMIN"))
        );
        assert_eq!(hint(0, 425_984), None);
        assert_eq!(hint(1, 64 << 20), None);
    }
}
