//! `pmon stats`: sums over groups of processes.

use std::cmp::Ordering;
use std::fmt::Write as _;

use pmon_analysis::groups::{GroupBy, GroupKey, GroupSums, GroupTable};
use serde_json::{Value, json};

use crate::args::{SortArg, StatsArgs};
use crate::exit::Failure;
use crate::output::{fitting_columns, json_line};
use crate::query::{ProcessSelector, Query, group_json, group_order, group_text, report_no_match};
use crate::terminal::{self, counted, grouped, size};
use crate::time_spec::brief;
use crate::users::UserNames;

/// Runs the verb.
pub(crate) fn run(args: &StatsArgs) -> Result<u8, Failure> {
    let query = Query::over(&args.source, &args.time)?;
    args.process.check_users(query.header())?;
    let (begin_ns, users) = (query.begin_ns(), UserNames::of(query.header()));
    let mut selector = ProcessSelector::new(&args.process);
    let mut table = GroupTable::new(args.by);
    let mut examined = 0;
    let mut outcome = query.lives_at_once(|item| {
        examined += 1;
        if selector.selects(&item.life, item.now) {
            let start_ns = item.life.start.and_then(|start| item.wall.at(start));
            table.add(&item.life, start_ns >= begin_ns && start_ns.is_some());
        }
        Ok(())
    })?;
    selector.note(&mut outcome);
    let length_ns = begin_ns.zip(outcome.last_ns).map(|(begin, last)| last.saturating_sub(begin));
    let seconds = length_ns.filter(|&ns| ns > 0).map(|ns| ns as f64 / 1e9);
    let mut rows: Vec<_> =
        table.into_groups().into_iter().map(|group| StatsRow::new(group, seconds)).collect();
    rows.sort_by(|a, b| a.compare(b, args.sort));
    let total = rows.len();
    // Those that ended have durations.
    let lacks_usage = rows.iter().all(|row| row.sums.cpu_ns.is_none())
        && rows.iter().any(|row| row.sums.durations.max().is_some());
    let limit = args.limit.or_else(|| screenful().filter(|_| !args.json)).filter(|&limit| limit > 0);
    rows.truncate(limit.unwrap_or(total));
    let left_out = total - rows.len();
    if args.json {
        let mut text: String = rows.iter().map(|row| row.json(args.by)).collect();
        text.push_str(&outcome.json());
        terminal::print(&text)?;
    } else {
        terminal::print(&text(&rows, args.by, &users))?;
        if total == 0 {
            report_no_match(None, examined);
        }
        if total > 0 && lacks_usage {
            outcome.report_without_usage();
        }
        if left_out > 0 {
            let groups = counted(left_out as u64, "more group");
            terminal::eprintln(format_args!("pmon: {groups}; use --limit to show them"));
        }
    }
    outcome.report();
    Ok(outcome.exit_code())
}

/// Returns the number of groups that fit the terminal, with the header and two lines of messages.
fn screenful() -> Option<usize> {
    terminal::output_height().map(|rows| rows.saturating_sub(4).max(1))
}

/// A group.
struct StatsRow {
    key: GroupKey,
    sums: GroupSums,
    p50: Option<u64>,
    p95: Option<u64>,
    /// Processes started per second.
    rate: Option<f64>,
    /// Number of ancestors of the group's process.
    depth: usize,
}

impl StatsRow {
    fn new((key, sums): (GroupKey, GroupSums), seconds: Option<f64>) -> Self {
        Self {
            key,
            p50: sums.durations.percentile(50),
            p95: sums.durations.percentile(95),
            rate: seconds.map(|seconds| sums.started as f64 / seconds),
            depth: sums.ancestor.as_ref().map_or(0, |ancestor| ancestor.chain().count()),
            sums,
        }
    }

    /// Orders rows for the output. Of equal groups, ancestors come first.
    fn compare(&self, other: &Self, by: SortArg) -> Ordering {
        let (a, b) = (&self.sums, &other.sums);
        let is_other = |row: &Self| row.key == GroupKey::Other;
        let is_none = |row: &Self| row.key == GroupKey::None;
        let primary = match by {
            SortArg::Count => b.count.cmp(&a.count),
            SortArg::Failed => b.failures.cmp(&a.failures),
            SortArg::Cpu => b.cpu_ns.cmp(&a.cpu_ns),
            SortArg::P50 => other.p50.cmp(&self.p50),
            SortArg::P95 => other.p95.cmp(&self.p95),
            SortArg::Max => b.durations.max().cmp(&a.durations.max()),
            SortArg::Memory => b.max_rss_bytes.cmp(&a.max_rss_bytes),
            SortArg::Rate => b.started.cmp(&a.started),
            SortArg::Key => Ordering::Equal,
        };
        is_other(self)
            .cmp(&is_other(other))
            .then(primary)
            .then_with(|| is_none(self).cmp(&is_none(other)))
            .then_with(|| self.depth.cmp(&other.depth))
            .then_with(|| group_order(&self.key).cmp(&group_order(&other.key)))
    }

    fn json(&self, by: GroupBy) -> String {
        let mut fields = group_json(&self.key, &self.sums, by);
        let sums = json!({
            "count": self.sums.count,
            "started": self.sums.started,
            "failures": self.sums.failures,
            "cpu_ns": self.sums.cpu_ns,
            "duration_p50_ns": self.p50,
            "duration_p95_ns": self.p95,
            "duration_max_ns": self.sums.durations.max(),
            "max_rss_bytes": self.sums.max_rss_bytes,
            "rate": self.rate,
        });
        fields.extend(sums.as_object().cloned().unwrap_or_default());
        json_line(&Value::Object(fields)) + "\n"
    }
}

const COLUMNS: [&str; 8] = ["COUNT", "FAILED", "CPU", "P50", "P95", "MAX", "MEMORY", "RATE/S"];
/// The columns that are left out on a narrow terminal, the least important first.
const OPTIONAL: &[&str] = &["P95", "RATE/S", "P50", "MEMORY", "MAX", "FAILED"];
/// Returns the number of characters of the group for which less important columns are left out.
fn min_key(by: GroupBy) -> usize {
    match by {
        GroupBy::Args | GroupBy::Parent | GroupBy::Subtree => 40,
        GroupBy::Exe => 30,
        GroupBy::Comm | GroupBy::User | GroupBy::Unit | GroupBy::Container => 15,
    }
}

/// Returns aligned columns. On a terminal, less important columns are left out if there is no room,
/// and lines are cut to its width.
fn text(rows: &[StatsRow], by: GroupBy, users: &UserNames) -> String {
    let shown = |ns: Option<u64>| ns.map_or_else(|| "-".into(), brief);
    let header = COLUMNS.map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let sums = &row.sums;
        [
            grouped(sums.count),
            grouped(sums.failures),
            shown(sums.cpu_ns),
            shown(row.p50),
            shown(row.p95),
            shown(sums.durations.max()),
            sums.max_rss_bytes.map_or_else(|| "-".into(), size),
            row.rate.map_or_else(|| "-".into(), |rate| format!("{rate:.1}")),
        ]
    });
    let cells: Vec<_> = std::iter::once(header).chain(cells).collect();
    let mut widths = [0; 8];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let labels = rows.iter().map(|row| group_text(&row.key, &row.sums, by, users));
    let labels = std::iter::once(by.name().to_uppercase()).chain(labels);
    let screen = terminal::output_width();
    let mut columns = COLUMNS.map(|name| (name, 0));
    columns.iter_mut().zip(widths).for_each(|((_, of_column), width)| *of_column = width);
    let shown = fitting_columns(columns, OPTIONAL, min_key(by), screen);
    let mut text = String::new();
    for (cells, label) in cells.iter().zip(labels) {
        let mut line = String::new();
        for ((cell, width), _) in cells.iter().zip(widths).zip(shown).filter(|(_, is_shown)| *is_shown) {
            let _ = write!(line, "{cell:>width$} ");
        }
        line.push_str(&label);
        let _ = writeln!(text, "{}", terminal::cut(&line, screen));
    }
    text
}
