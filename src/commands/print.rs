//! `pmon print`: prints the events of a capture.

mod follow;
mod last_events;

use std::io::{IsTerminal as _, stdout};

use indicatif::ProgressBar;

use crate::args::PrintArgs;
use crate::captures::Captures;
use crate::exit::Failure;
use crate::input::{InputItem, report_damage};
use crate::prescan::{exits, open_range, scanned_starts, time_of};
use crate::read_ahead::ReadAhead;
use crate::selection;
use crate::terminal;
use crate::view::View;

/// Runs the verb.
pub(crate) fn run(args: &PrintArgs) -> Result<u8, Failure> {
    selection::check(&args.view.selection)?;
    if args.follow {
        return follow::run(args);
    }
    let mut captures = Captures::find(&args.source.files, args.source.host.as_deref())?;
    let (input, range) = open_range(&mut captures, ["--since", "--until"], [args.since, args.until])?;
    args.view.selection.process.check_users(input.header())?;
    let name = input.name().to_owned();
    let order = input.order();
    let recorder = input.is_recorded_by;
    let mut view =
        View::new(&args.view, args.text.style(), range, input.header(), order, terminal::output()?.lock());
    view.expect_scan(|| scanned_starts(&captures))?;
    if args.view.selection.process.tree.is_some()
        && let Some(exits) = exits(&captures)?
    {
        view.add_exits(exits);
    }
    let (mut last, mut is_empty) = (None, true);
    let bar = match input.file_bytes() {
        Some(bytes) if !stdout().is_terminal() => terminal::reading_bar(bytes),
        _ => ProgressBar::hidden(),
    };
    let input = ReadAhead::new(input);
    view.recycle(input.recycler());
    let outcome = input.read(&bar, |item| match item {
        InputItem::Record(record) => {
            last = time_of(&record, order).or(last);
            is_empty = false;
            view.record(record).map_err(Failure::output)
        }
        InputItem::BlockEnd => view.flush().map_err(Failure::output),
        InputItem::Segment(header, junction) => view.begin_segment(header, junction).map_err(Failure::output),
        InputItem::Damage(name, damage) => {
            // Events before the damage are printed before the report.
            view.damage();
            view.flush().map_err(Failure::output)?;
            bar.suspend(|| report_damage(name, &damage));
            Ok(())
        }
    })?;
    view.release().map_err(Failure::output)?;
    view.flush().map_err(Failure::output)?;
    for remark in [view.unmatched(), view.uncertainty()].into_iter().flatten() {
        terminal::eprintln(format_args!("pmon: {name}: {remark}"));
    }
    let how_far = match (last, outcome.damaged) {
        (None, 1..) if is_empty => "nothing could be read".into(),
        (None, 1..) => "no event could be read".into(),
        (None, 0) => "it holds no event yet".into(),
        (Some(last), 0) => format!("complete up to {}", view.moment(last)),
        (Some(last), _) => format!("read up to {}", view.moment(last)),
    };
    let mut lacking = view.into_outcome(outcome, recorder);
    if !outcome.clean_end && lacking.lacks_end {
        lacking.omit_end();
        match recorder {
            Some(pid) => {
                terminal::eprintln(format_args!("pmon: {name}: process {pid} is still recording; {how_far}"));
            }
            None => terminal::eprintln(format_args!("pmon: {name}: not ended cleanly; {how_far}")),
        }
    }
    lacking.report();
    Ok(outcome.exit_code())
}
