//! An interval as lines of text.

use std::fmt::Write as _;

use super::interval::{Interval, TopRow};
use crate::output::{fitting_columns, printable};
use crate::query::{group_text, precise_time};
use crate::terminal::{counted, grouped, size};
use crate::time_spec::brief;

/// Names and minimum widths of the columns of numbers.
const COLUMNS: [(&str, usize); 9] = [
    ("STARTS", 6),
    ("ENDS", 4),
    ("FAILED", 6),
    ("RUN", 3),
    ("CPU", 7),
    ("P50", 6),
    ("MAX", 6),
    ("MEMORY", 6),
    ("RATE/S", 6),
];

/// Columns that a narrow terminal does not show, the least important first.
const OPTIONAL: [&str; 6] = ["MEMORY", "RATE/S", "P50", "MAX", "RUN", "FAILED"];
/// Minimum width of the group on a narrow terminal.
const MIN_KEY: usize = 16;

/// Returns three lines about all processes of an interval; the third is about its completeness.
pub(super) fn summary(interval: &Interval) -> [String; 3] {
    let (totals, facts) = (&interval.totals, &interval.facts);
    let rate = |count| rate_text(interval.rate(count)) + "/s";
    let until = facts.until_ns.map_or_else(|| "an unknown time".into(), precise_time);
    let (events, starts, ends) =
        (counted(totals.events, "event"), counted(totals.started, "start"), counted(totals.ended, "end"));
    let cpu = totals.cpu_ns.map_or_else(|| "unknown".into(), brief);
    let without_cpu = match totals.ended_without_cpu {
        count if count == 0 || totals.cpu_ns.is_none() => String::new(),
        count => format!(" without {} ended", grouped(count)),
    };
    let cpu_name = if facts.has_running_cpu { "CPU" } else { "CPU at exit" };
    [
        format!(
            "{}, {until}, {}: {} running, {events} ({})",
            printable(facts.host.as_bytes()),
            brief(facts.length_ns),
            grouped(totals.running),
            rate(totals.events)
        ),
        format!(
            "{starts} ({}), {ends} ({}), {} failed, {cpu_name} {cpu}{without_cpu}",
            rate(totals.started),
            rate(totals.ended),
            grouped(totals.failures)
        ),
        facts.missing.as_ref().map_or_else(|| "complete".into(), |missing| format!("incomplete: {missing}")),
    ]
}

/// Returns the line with the names of the columns, and one line per group. Less important columns
/// are left out if the terminal has only this width.
pub(super) fn table(interval: &Interval, rows: &[&TopRow], width: Option<usize>) -> Vec<String> {
    let names = COLUMNS.map(|(name, _)| name.to_owned());
    let cells: Vec<_> = std::iter::once(names).chain(rows.iter().map(|row| cells(interval, row))).collect();
    let mut widths = COLUMNS.map(|(_, width)| width);
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let (shown, facts) = (shown_columns(widths, width), &interval.facts);
    let text = |row: &&TopRow| group_text(&row.key, &row.sums, interval.by, &facts.users);
    let keys = std::iter::once(interval.by.name().to_uppercase()).chain(rows.iter().map(text));
    let line = |(cells, key): (&[String; 9], String)| {
        let mut line = String::new();
        for ((cell, width), _) in cells.iter().zip(widths).zip(shown).filter(|(_, is_shown)| *is_shown) {
            let _ = write!(line, "{cell:>width$} ");
        }
        line + &key
    };
    cells.iter().zip(keys).map(line).collect()
}

/// Returns which columns of these widths fit the width of the terminal, beside the group.
fn shown_columns(widths: [usize; 9], width: Option<usize>) -> [bool; 9] {
    let mut columns = COLUMNS;
    columns.iter_mut().zip(widths).for_each(|((_, of_column), width)| *of_column = width);
    fitting_columns(columns, &OPTIONAL, MIN_KEY, width)
}

fn cells(interval: &Interval, row: &TopRow) -> [String; 9] {
    let sums = &row.sums;
    let shown = |ns: Option<u64>| ns.map_or_else(|| "-".into(), brief);
    [
        grouped(sums.started),
        grouped(row.ended()),
        grouped(sums.failures),
        grouped(sums.running),
        shown(sums.cpu_ns),
        shown(row.p50),
        shown(sums.durations.max()),
        sums.max_rss_bytes.map_or_else(|| "-".into(), short_size),
        rate_text(interval.rate(sums.started)),
    ]
}

/// Formats a number per second, with a decimal if it is small.
fn rate_text(rate: f64) -> String {
    if rate < 1_000.0 { format!("{rate:.1}") } else { grouped(rate as u64) }
}

/// Formats a number of bytes in few characters: `1.52M` for 1.52 MiB.
fn short_size(bytes: u64) -> String {
    size(bytes).replace(' ', "").replace("iB", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_shows_the_most_important_columns() {
        let widths = COLUMNS.map(|(_, width)| width);
        let shown = |width| {
            let shown = shown_columns(widths, width).into_iter();
            shown.zip(COLUMNS).filter(|(shown, _)| *shown).map(|(_, (name, _))| name).collect::<Vec<_>>()
        };
        assert_eq!(shown(None).len(), 9);
        assert_eq!(shown(Some(80)).len(), 9);
        assert_eq!(shown(Some(60)), ["STARTS", "ENDS", "FAILED", "RUN", "CPU", "MAX"]);
        assert_eq!(shown(Some(0)), ["STARTS", "ENDS", "CPU"]);
    }

    #[test]
    fn sizes_and_rates_are_short() {
        assert_eq!((rate_text(0.25), rate_text(1_234.5)), ("0.2".into(), "1,234".into()));
        assert_eq!(short_size(0), "0B");
        assert_eq!(short_size(1_593_836), "1.52M");
    }
}
