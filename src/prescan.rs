//! Reads a capture in advance: its end, to which times may refer, and its exits, which complete the
//! tree of a capture that lacks forks.

use std::fs::File;
use std::path::Path;

use jiff::tz::TimeZone;
use pmon_analysis::WallClock;
use pmon_analysis::filter::ExitIndex;
use pmon_core::MonoNs;
use pmon_core::capture::{Header, Item, Reader, Record, RecordedDatagram};
use pmon_core::wire::ByteOrder;

use crate::exit::{self, Failure, OrFail};
use crate::input::{is_stdio, shown, skip_hole};
use crate::terminal;
use crate::time_spec::{Extent, Moment, resolve};
use crate::view::Range;

/// Number of blocks at the start of a capture in which the recorder states its scope.
const SCOPE_BLOCKS: u32 = 4;

/// Returns the exits of a capture with a limited scope. They name the parents of processes whose
/// forks the capture may lack.
///
/// Returns `None` for a capture of all events, and for an input that can be read only once.
pub(crate) fn exits(path: &Path) -> Result<Option<ExitIndex>, Failure> {
    if is_stdio(path) || !path.metadata().is_ok_and(|meta| meta.is_file()) {
        return Ok(None);
    }
    let unreadable = format!("cannot read {}", shown(path));
    let file = File::open(path).or_fail(exit::ENVIRONMENT, &unreadable)?;
    let mut reader = Reader::open_sparse(file, skip_hole).or_fail(exit::REFUSED, &unreadable)?;
    let (order, mut exits, mut is_partial, mut blocks) =
        (reader.byte_order(), ExitIndex::default(), false, 0);
    while let Some(item) = reader.next_item().or_fail(exit::ENVIRONMENT, &unreadable)? {
        let Item::Block(block) = item else { continue };
        for record in block.records() {
            is_partial |= matches!(record, Record::Scope(_));
            exits.count(&record, order);
        }
        blocks += 1;
        if !is_partial && blocks == SCOPE_BLOCKS {
            return Ok(None);
        }
    }
    Ok(is_partial.then_some(exits))
}

/// Returns the range of time between two moments in the capture `file`. `names` are the options
/// that gave the moments. Standard error states which time is used if a moment is ambiguous.
pub(crate) fn range(
    file: &Path,
    header: Option<&Header>,
    names: [&str; 2],
    moments: [Option<Moment>; 2],
) -> Result<Range, Failure> {
    let start = header.map(|header| header.meta.start);
    let mut extent = Extent { start: start.map(|start| (start.mono, start.real_ns)), end: None };
    let is_file = !is_stdio(file) && file.metadata().is_ok_and(|meta| meta.is_file());
    let mut moments_given = moments.iter().flatten();
    if moments_given.clone().any(|moment| matches!(moment, Moment::BeforeEnd(_)))
        || is_file && moments_given.any(|moment| moment.depends_on_the_end())
    {
        extent.end = Some(end(file)?);
    }
    let resolved = resolve(names, moments, &extent, &TimeZone::system());
    let resolved = resolved.map_err(|why| Failure::new(exit::USAGE, why))?;
    resolved.notes.iter().for_each(|note| terminal::eprintln(format_args!("pmon: {note}")));
    let [since, until] = resolved.bounds;
    Ok(Range { since, until })
}

/// Returns the end of the capture by both clocks. The index leads to its last block; without one,
/// the whole capture is read.
fn end(path: &Path) -> Result<(MonoNs, i64), Failure> {
    if is_stdio(path) {
        return Err(Failure::new(
            exit::USAGE,
            "a time before the end needs a file, because standard input can be read only once",
        ));
    }
    let unreadable = format!("cannot read {}", shown(path));
    let file = File::open(path).or_fail(exit::ENVIRONMENT, &unreadable)?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(Failure::new(exit::USAGE, "a time before the end needs a file that can be read twice"));
    }
    let mut reader = Reader::open_sparse(file, skip_hole).or_fail(exit::REFUSED, &unreadable)?;
    let mut wall = WallClock::new();
    reader.header().iter().for_each(|header| wall.observe(header.meta.start));
    reader.seek(MonoNs(u64::MAX)).or_fail(exit::ENVIRONMENT, &unreadable)?;
    let (order, mut end) = (reader.byte_order(), MonoNs(0));
    while let Some(item) = reader.next_item().or_fail(exit::ENVIRONMENT, &unreadable)? {
        if let Item::Block(block) = item {
            for record in block.records() {
                if let Record::Clock(anchor) = record {
                    wall.observe(anchor);
                }
                end = time_of(&record, order).unwrap_or(end).max(end);
            }
        }
    }
    Ok((end, wall.at(end).unwrap_or(i64::MAX)))
}

/// Returns the time of an event or of the end of a recording.
pub(crate) fn time_of(record: &Record<'_>, order: ByteOrder) -> Option<MonoNs> {
    match record {
        Record::Event(RecordedDatagram::Event(event), _) => Some(event.time),
        Record::Event(frame, _) => frame.event(order).map(|event| event.time),
        Record::End(end) => Some(end.time),
        _ => None,
    }
}
