//! Intervals as plain text, one block each, or as lines of JSON.

use std::io::Write as _;

use super::interval::Interval;
use super::json;
use super::table::{summary, table};
use crate::args::TopArgs;
use crate::exit::Failure;
use crate::terminal::{self, counted, cut};

/// Number of groups in a block without `--limit`.
const DEFAULT_LIMIT: usize = 20;

/// Prints an interval. A closed pipe ends pmon without an error.
pub(super) fn print(interval: &Interval, args: &TopArgs) -> Result<(), Failure> {
    let rows = interval.rows(args.sort, args.idle);
    let limit = args.limit.unwrap_or(if args.json { 0 } else { DEFAULT_LIMIT });
    let shown = if limit == 0 { rows.len() } else { limit.min(rows.len()) };
    let text = match args.json {
        true => json::lines(interval, &rows[..shown]),
        false => {
            let width = terminal::output_width();
            let lines = summary(interval).into_iter().chain(table(interval, &rows[..shown], width));
            let mut text: String = lines.map(|line| cut(&line, width).to_owned() + "\n").collect();
            if shown < rows.len() {
                let groups = counted((rows.len() - shown) as u64, "more group");
                text.push_str(&format!("{groups}; use --limit to show them\n"));
            }
            text + "\n"
        }
    };
    write(&text)
}

/// Writes text to standard output.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut out = terminal::output()?.lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
}
