//! `pmon ps`: lists the processes that were running at a moment.

mod column;

use std::fmt::Write as _;

use pmon_analysis::WallClock;
use pmon_analysis::life::Life;
use pmon_core::MonoNs;

pub(crate) use self::column::PsColumn;
use crate::args::PsArgs;
use crate::exit::Failure;
use crate::query::{ProcessLines, ProcessSelector, Query, RunningProcesses, time};
use crate::terminal;
use crate::users::UserNames;

/// A process and the moment at which it is listed.
struct PsRow<'a> {
    life: &'a Life,
    wall: &'a WallClock,
    users: &'a UserNames,
    at: MonoNs,
}

/// Runs the verb.
pub(crate) fn run(args: &PsArgs) -> Result<u8, Failure> {
    args.process.check_running()?;
    let query = Query::at(&args.source, args.at)?;
    args.process.check_users(query.header())?;
    let users = UserNames::of(query.header());
    let RunningProcesses { mut lives, wall, at, host, mut outcome } = query.running()?;
    let (known, mut selector) = (lives.len(), ProcessSelector::new(&args.process));
    lives.retain(|life| selector.selects(life, at));
    selector.note(&mut outcome);
    let rows = lives.iter().map(|life| PsRow { life, wall: &wall, users: &users, at });
    if args.json {
        let (mut lines, mut out) = (ProcessLines::new(host), Vec::new());
        rows.for_each(|row| row.push_json(&mut lines, &mut out));
        out.extend_from_slice(outcome.json().as_bytes());
        terminal::print(&out)?;
    } else {
        let rows: Vec<_> = rows.collect();
        terminal::print(&table(&rows, args))?;
        if rows.is_empty() {
            terminal::eprintln(match known {
                0 => "pmon: no running process is known at that moment".into(),
                _ => format!(
                    "pmon: none of {} at that moment matches",
                    terminal::counted(known as u64, "process")
                ),
            });
        }
    }
    outcome.report();
    Ok(outcome.exit_code())
}

impl PsRow<'_> {
    /// Returns the time since the start of the process in ns.
    fn elapsed_ns(&self) -> Option<u64> {
        self.life.start.map(|start| self.at.0.saturating_sub(start.0))
    }

    fn push_json(&self, lines: &mut ProcessLines, out: &mut Vec<u8>) {
        let elapsed_ns = self.elapsed_ns().map_or_else(|| "null".into(), |ns| ns.to_string());
        let more = [("at", time(self.wall.at(self.at)).to_string()), ("elapsed_ns", elapsed_ns)];
        lines.push(out, self.life, self.wall, &more);
    }
}

/// Returns aligned columns. On a terminal, lines are cut to its width.
fn table(rows: &[PsRow<'_>], args: &PsArgs) -> String {
    let default = PsColumn::default_columns();
    let columns = if args.columns.is_empty() { default.as_slice() } else { args.columns.as_slice() };
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| column.cell(row)).collect()).collect();
    let header: Vec<_> = columns.iter().map(|column| column.header().to_owned()).collect();
    let header = (!args.no_headers).then_some(&header);
    let mut widths = vec![0; columns.len()];
    for row in header.into_iter().chain(&cells) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let screen = terminal::output_width();
    let mut text = String::new();
    for row in header.into_iter().chain(&cells) {
        let mut line = String::new();
        for ((cell, column), width) in row.iter().zip(columns).zip(&widths) {
            let _ = match column.is_number() {
                true => write!(line, "{cell:>width$} "),
                false => write!(line, "{cell:<width$} "),
            };
        }
        let _ = writeln!(text, "{}", terminal::cut(line.trim_end(), screen));
    }
    text
}
