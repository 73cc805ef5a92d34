//! What the screen shows, and what keys change.

use pmon_analysis::groups::GroupBy;

use super::interval::Interval;
use super::keys::Key;
use super::screen::{LineStyle, ScreenLine};
use super::table::{summary, table};
use crate::args::{TopArgs, TopSortArg};

/// Lines of the screen that show no group: the summary, the names of the columns, the last line.
const OTHER_LINES: usize = 5;

/// The groupings, in the order of the key `b`.
const GROUPINGS: [GroupBy; 8] = [
    GroupBy::Comm,
    GroupBy::Exe,
    GroupBy::Args,
    GroupBy::User,
    GroupBy::Unit,
    GroupBy::Container,
    GroupBy::Parent,
    GroupBy::Subtree,
];

/// The orders, with their names, in the order of the key `s`.
const SORTS: [(TopSortArg, &str); 9] = [
    (TopSortArg::Cpu, "cpu"),
    (TopSortArg::Starts, "starts"),
    (TopSortArg::Ends, "ends"),
    (TopSortArg::Failed, "failed"),
    (TopSortArg::Running, "running"),
    (TopSortArg::P50, "p50"),
    (TopSortArg::Max, "max"),
    (TopSortArg::Memory, "memory"),
    (TopSortArg::Key, "key"),
];

const HELP: &[&str] = &[
    "q, Ctrl-C         quit",
    "s, S              sort by the next or previous column",
    "b, B              group by the next or previous property",
    "i                 show or hide groups without starts, ends and CPU time",
    "up, down          scroll by a line",
    "page up, down     scroll by a page",
    "home, end         first or last group",
];
const LIVE_HELP: &[&str] = &["space             pause the display; pmon continues to count"];
const RECORDED_HELP: &[&str] = &["left, right       previous or next interval of the recording"];

/// What a key requests of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The lines may have changed.
    Draw,
    /// Groups by [`Display::by`].
    Regroup,
    /// Another interval of the recording, by this number of intervals.
    Move(i64),
    /// Stop the process until it is continued.
    Suspend,
    Quit,
}

/// The state of the screen.
#[derive(Debug)]
pub(super) struct Display {
    /// The requested grouping.
    pub(super) by: GroupBy,
    sort: TopSortArg,
    has_idle: bool,
    is_live: bool,
    pub(super) is_paused: bool,
    is_help: bool,
    /// Number of groups above the first one shown.
    scroll: usize,
    /// Number of groups that the screen last had room for, and of all groups.
    page: (usize, usize),
}

impl Display {
    /// Creates the display of a live or recorded interval.
    pub(super) fn new(args: &TopArgs, is_live: bool) -> Self {
        Self {
            by: args.by,
            sort: args.sort,
            has_idle: args.idle,
            is_live,
            is_paused: false,
            is_help: false,
            scroll: 0,
            page: (1, 0),
        }
    }

    /// Applies a key.
    pub(super) fn key(&mut self, key: Key) -> Request {
        if self.is_help && !matches!(key, Key::Quit | Key::Suspend | Key::Char('q')) {
            self.is_help = false;
            return Request::Draw;
        }
        let (page, groups) = self.page;
        let last = groups.saturating_sub(page);
        match key {
            Key::Quit | Key::Char('q') => return Request::Quit,
            Key::Suspend => return Request::Suspend,
            Key::Char('h' | '?') => self.is_help = true,
            Key::Char('s') => self.sort = next(&SORTS.map(|(sort, _)| sort), self.sort, 1),
            Key::Char('S') => self.sort = next(&SORTS.map(|(sort, _)| sort), self.sort, SORTS.len() - 1),
            Key::Char('b') => {
                self.by = next(&GROUPINGS, self.by, 1);
                return Request::Regroup;
            }
            Key::Char('B') => {
                self.by = next(&GROUPINGS, self.by, GROUPINGS.len() - 1);
                return Request::Regroup;
            }
            Key::Char('i') => self.has_idle = !self.has_idle,
            Key::Char(' ') if self.is_live => self.is_paused = !self.is_paused,
            Key::Left if !self.is_live => return Request::Move(-1),
            Key::Right if !self.is_live => return Request::Move(1),
            Key::Up => self.scroll = self.scroll.saturating_sub(1),
            Key::Down => self.scroll = (self.scroll + 1).min(last),
            Key::PageUp => self.scroll = self.scroll.saturating_sub(page),
            Key::PageDown => self.scroll = (self.scroll + page).min(last),
            Key::Home => self.scroll = 0,
            Key::End => self.scroll = last,
            Key::Char(_) | Key::Left | Key::Right | Key::Escape => {}
        }
        Request::Draw
    }

    /// Returns the lines of a screen of this size. `status` is shown before the keys.
    pub(super) fn lines(
        &mut self,
        interval: Option<&Interval>,
        (columns, rows): (usize, usize),
        status: Option<&str>,
    ) -> Vec<ScreenLine> {
        let mut lines = match interval {
            _ if self.is_help => self.help(),
            Some(interval) => self.groups(interval, columns, rows),
            None => Vec::new(),
        };
        let empty = ScreenLine { text: String::new(), style: LineStyle::Plain };
        lines.resize(rows.saturating_sub(1), empty);
        lines.push(ScreenLine { text: self.last_line(interval, status), style: LineStyle::Reverse });
        lines
    }

    fn groups(&mut self, interval: &Interval, columns: usize, rows: usize) -> Vec<ScreenLine> {
        let groups = interval.rows(self.sort, self.has_idle);
        self.page = (rows.saturating_sub(OTHER_LINES).max(1), groups.len());
        self.scroll = self.scroll.min(groups.len().saturating_sub(1));
        let shown = &groups[self.scroll..groups.len().min(self.scroll + self.page.0)];
        let missing = interval.facts.missing.is_some();
        let summary_styles =
            [LineStyle::Bold, LineStyle::Plain, if missing { LineStyle::Warning } else { LineStyle::Plain }];
        let summary = summary(interval).into_iter().zip(summary_styles);
        let failed = shown.iter().map(|row| match row.sums.failures {
            0 => LineStyle::Plain,
            _ => LineStyle::Warning,
        });
        let styles = std::iter::once(LineStyle::Reverse).chain(failed);
        let table = table(interval, shown, Some(columns)).into_iter().zip(styles);
        summary.chain(table).map(|(text, style)| ScreenLine { text, style }).collect()
    }

    fn help(&self) -> Vec<ScreenLine> {
        let more = if self.is_live { LIVE_HELP } else { RECORDED_HELP };
        let texts = ["Keys", ""].iter().chain(HELP).chain(more).chain(&["", "Any key closes this help."]);
        texts.map(|&text| ScreenLine { text: text.into(), style: LineStyle::Plain }).collect()
    }

    fn last_line(&self, interval: Option<&Interval>, status: Option<&str>) -> String {
        let sort = SORTS.iter().find(|(sort, _)| *sort == self.sort).map_or("", |(_, name)| name);
        let (first, (_, groups)) = (self.scroll, self.page);
        let paused = if self.is_paused { "PAUSED  " } else { "" };
        let status = status.map_or_else(String::new, |status| format!("{status}  "));
        let position = match interval {
            Some(_) if groups > 0 => format!("  {}/{groups}", first + 1),
            _ => String::new(),
        };
        let keys = if self.is_live { "space pause" } else { "left, right time" };
        format!("{paused}{status}q quit  h help  s sort: {sort}  b by: {}  {keys}{position}", self.by.name())
    }
}

/// Returns the item this number of places after `current`, from the start again after the last.
fn next<T: Copy + PartialEq>(items: &[T], current: T, places: usize) -> T {
    let at = items.iter().position(|&item| item == current).unwrap_or(0);
    items[(at + places) % items.len()]
}

#[cfg(test)]
mod tests;
