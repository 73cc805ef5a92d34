//! `pmon ps`: lists the processes that were running at a moment.

mod column;

use std::io::{self, BufWriter, Write};

use pmon_analysis::WallClock;
use pmon_analysis::life::Life;
use pmon_core::MonoNs;

pub(crate) use self::column::PsColumn;
use crate::args::PsArgs;
use crate::exit::Failure;
use crate::query::{ProcessLines, ProcessSelector, Query, RunningProcesses, time};
use crate::terminal::{self, cell_width, push_cell};
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
    let rows = || lives.iter().map(|life| PsRow { life, wall: &wall, users: &users, at });
    let mut out = BufWriter::new(terminal::output()?.lock());
    if args.json {
        write_json(&mut out, rows(), ProcessLines::new(host))
            .and_then(|()| out.write_all(outcome.json().as_bytes()))
            .and_then(|()| out.flush())
            .or_else(Failure::unless_closed)?;
    } else {
        write_table(&mut out, rows, args).and_then(|()| out.flush()).or_else(Failure::unless_closed)?;
        if lives.is_empty() {
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

/// Writes each row as a line of JSON.
fn write_json<'a>(
    out: &mut impl Write,
    rows: impl Iterator<Item = PsRow<'a>>,
    mut lines: ProcessLines,
) -> io::Result<()> {
    let mut line = Vec::new();
    for row in rows {
        line.clear();
        row.push_json(&mut lines, &mut line);
        out.write_all(&line)?;
    }
    Ok(())
}

/// Writes aligned columns. On a terminal, lines are cut to its width.
fn write_table<'a, R: Iterator<Item = PsRow<'a>>>(
    out: &mut impl Write,
    rows: impl Fn() -> R,
    args: &PsArgs,
) -> io::Result<()> {
    let default = PsColumn::default_columns();
    let columns = if args.columns.is_empty() { default.as_slice() } else { args.columns.as_slice() };
    let header =
        (!args.no_headers).then(|| columns.iter().map(|column| column.header().to_owned()).collect());
    // The cells of all rows would take much memory, so each is made twice.
    let lines = || {
        let cells = rows().map(|row| columns.iter().map(|column| column.cell(&row)).collect::<Vec<_>>());
        header.clone().into_iter().chain(cells)
    };
    let mut widths = vec![0; columns.len()];
    for cells in lines() {
        for (width, cell) in widths.iter_mut().zip(&cells) {
            *width = cell_width([cell.as_str()]).max(*width);
        }
    }
    let screen = terminal::output_width();
    for cells in lines() {
        let mut line = String::new();
        for ((cell, column), width) in cells.iter().zip(columns).zip(&widths) {
            push_cell(&mut line, cell, *width, column.is_number());
            line.push(' ');
        }
        writeln!(out, "{}", terminal::cut(line.trim_end(), screen))?;
    }
    Ok(())
}
