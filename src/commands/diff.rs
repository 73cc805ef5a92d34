//! `pmon diff`: compares the events and losses of two captures.

use std::path::PathBuf;

use pmon_analysis::WallClock;
use pmon_analysis::diff::{Diff, DiffOptions, DiffOutcome, Side};
use pmon_core::capture::Record;

use crate::args::DiffArgs;
use crate::captures::Captures;
use crate::exit::{self, Failure};
use crate::input::{CaptureInput, InputItem, is_stdio, report_damage};
use crate::output::json_text;
use crate::report::diff::{ComparedCapture, Comparison};
use crate::terminal;

/// Runs the verb.
pub(crate) fn run(args: &DiffArgs) -> Result<u8, Failure> {
    if is_stdio(&args.a) && is_stdio(&args.b) {
        return Err(Failure::new(
            exit::USAGE,
            "only one of the two captures can be standard input; name a file for the other",
        ));
    }
    let open = |path: &PathBuf| {
        let host = args.host.as_deref().filter(|_| path.is_dir());
        Captures::find(std::slice::from_ref(path), host)?.open()
    };
    let comparison = compare(args, [open(&args.a)?, open(&args.b)?])?;
    let text = if args.json { json_text(&comparison.json()) + "\n" } else { comparison.text() };
    // If the reader closes the pipe early, the exit code still states the result.
    terminal::print(&text)?;
    Ok(match comparison.finding.outcome {
        _ if comparison.is_damaged() => exit::DAMAGED,
        DiffOutcome::Identical => exit::DONE,
        DiffOutcome::Different(_) | DiffOutcome::TooFarApart(_) => exit::DIFFERENT,
    })
}

/// Reads both captures, each time from the one that the comparison needs next.
fn compare(args: &DiffArgs, mut inputs: [CaptureInput; 2]) -> Result<Comparison, Failure> {
    let options = DiffOptions { by_cpu: args.by_cpu, renumbered: args.renumbered };
    let mut diff = Diff::new(options, [inputs[0].order(), inputs[1].order()]);
    let mut clocks = [WallClock::new(), WallClock::new()];
    for (clock, input) in clocks.iter_mut().zip(&inputs) {
        input.header().iter().for_each(|header| clock.observe(header.meta.start));
    }
    let bar = terminal::reading_bar(inputs.iter().filter_map(CaptureInput::file_bytes).sum());
    while let Some(side) = diff.next_side() {
        let (input, clock) = (&mut inputs[side as usize], &mut clocks[side as usize]);
        let has_more = input.read_some(|item| {
            match item {
                InputItem::Record(record) => {
                    if let Record::Clock(anchor) = &record {
                        clock.observe(*anchor);
                    }
                    diff.push(side, &record);
                }
                InputItem::Segment(Some(header), _) => clock.observe(header.meta.start),
                InputItem::Damage(name, damage) => bar.suspend(|| report_damage(name, &damage)),
                InputItem::BlockEnd | InputItem::Segment(None, _) => {}
            }
            Ok(())
        })?;
        if !has_more {
            diff.end(side);
        }
        bar.set_position(
            inputs.iter().filter(|it| it.file_bytes().is_some()).map(CaptureInput::offset).sum(),
        );
    }
    bar.finish_and_clear();
    let [a, b] = clocks;
    let capture = |side: Side, wall| {
        let input = &inputs[side as usize];
        ComparedCapture {
            name: input.name().to_owned(),
            order: input.order(),
            wall,
            outcome: input.outcome(),
        }
    };
    Ok(Comparison { options, captures: [capture(Side::A, a), capture(Side::B, b)], finding: diff.finish() })
}
