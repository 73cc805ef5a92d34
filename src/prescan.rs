//! Reads a capture in advance: its end, to which times may refer, its exits, which complete the
//! tree of a capture that lacks forks, and the scan at its start, which identifies processes.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use pmon_analysis::WallClock;
use pmon_analysis::filter::{ExitIndex, TimeBound};
use pmon_core::capture::{
    DetailsSubject, Part, Record, RecordedDatagram, RecordingReader as _, SeekRecording as _,
};
use pmon_core::wire::ByteOrder;
use pmon_core::{MonoNs, Tgid};
use pmon_store::{RangeBound, SegmentList};

use crate::captures::{CaptureSource, Captures};
use crate::exit::{self, Failure, OrFail};
use crate::input::CaptureInput;
use crate::terminal;
use crate::time_spec::{Extent, Moment, resolve};
use crate::view::Range;

/// Number of blocks at the start of a capture in which the recorder states its scope.
const SCOPE_BLOCKS: u32 = 4;
/// Number of blocks at the start of a capture in which the first scan ends.
const SCAN_BLOCKS: u32 = 16;

/// Returns the exits of a capture with a limited scope. They name the parents of processes whose
/// forks the capture may lack.
///
/// Returns `None` for a capture of all events, and for an input that can be read only once.
pub(crate) fn exits(captures: &Captures) -> Result<Option<ExitIndex>, Failure> {
    if !captures.is_rereadable() {
        return Ok(None);
    }
    let unreadable = format!("cannot read {}", captures.name());
    let mut reader = captures.open()?.reader;
    let (order, mut exits, mut is_partial, mut blocks) =
        (reader.byte_order(), ExitIndex::default(), false, 0);
    while let Some(part) = reader.next_part().or_fail(exit::ENVIRONMENT, &unreadable)? {
        let Part::Block(block) = part else { continue };
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

/// Returns the start times in clock ticks that the scan at the start of a recording has found; none
/// for an input that can be read only once, and for an excerpt, which begins with its processes.
pub(crate) fn scanned_starts(captures: &Captures) -> Result<HashMap<Tgid, u64>, Failure> {
    let mut starts = HashMap::new();
    if !captures.is_rereadable() {
        return Ok(starts);
    }
    let unreadable = format!("cannot read {}", captures.name());
    let mut reader = captures.open()?.reader;
    for _ in 0..SCAN_BLOCKS {
        let part = reader.next_part().or_fail(exit::ENVIRONMENT, &unreadable)?;
        let block = match part {
            Some(Part::Block(block)) => block,
            Some(Part::Damage(_)) => continue,
            Some(Part::Segment) | None => break,
        };
        for record in block.records() {
            match record {
                Record::Details(details) => {
                    if let (DetailsSubject::Snapshot { tgid }, Some(ticks)) =
                        (details.subject, details.start_ticks)
                    {
                        starts.insert(tgid, ticks);
                    }
                }
                Record::Snapshot(_) => return Ok(starts),
                _ => {}
            }
        }
    }
    Ok(starts)
}

/// Opens a recording, and returns the range of time between two moments in it. Of several captures,
/// opens only those that the range needs. `names` are the options that gave the moments. Standard
/// error states which time is used if a moment is ambiguous.
pub(crate) fn open_range(
    captures: &mut Captures,
    names: [&str; 2],
    moments: [Option<Moment>; 2],
) -> Result<(CaptureInput, Range), Failure> {
    if let CaptureSource::Several(list) = &captures.source {
        let (list, range) = restricted(captures, list.clone(), names, moments)?;
        captures.source = CaptureSource::Several(list);
        return Ok((captures.open()?, range));
    }
    let input = captures.open()?;
    let start = input.header().map(|header| header.meta.start);
    let mut extent = Extent { start: start.map(|start| (start.mono, start.real_ns)), end: None };
    let mut moments_given = moments.iter().flatten();
    if moments_given.clone().any(|moment| matches!(moment, Moment::BeforeEnd(_)))
        || captures.is_rereadable() && moments_given.any(|moment| moment.depends_on_the_end())
    {
        extent.end = Some(end(captures)?);
    }
    let [since, until] = bounds(names, moments, &extent)?;
    Ok((input, Range { since, until }))
}

/// Resolves the moments, and reports which time is used if a moment is ambiguous.
fn bounds(
    names: [&str; 2],
    moments: [Option<Moment>; 2],
    extent: &Extent,
) -> Result<[Option<TimeBound>; 2], Failure> {
    let resolved = resolve(names, moments, extent, &TimeZone::system());
    let mut resolved = resolved.map_err(|why| Failure::new(exit::USAGE, why))?;
    // A range of one moment has the same note twice.
    resolved.notes.dedup();
    resolved.notes.iter().for_each(|note| terminal::eprintln(format_args!("pmon: {note}")));
    Ok(resolved.bounds)
}

/// Returns the captures that a range of time needs, and the range.
fn restricted(
    captures: &Captures,
    mut list: SegmentList,
    names: [&str; 2],
    moments: [Option<Moment>; 2],
) -> Result<(SegmentList, Range), Failure> {
    if moments.iter().all(Option::is_none) {
        return Ok((list, Range::default()));
    }
    let (first, last) = (list.first().cloned(), list.last().cloned());
    let start = first.as_ref().map(|first| first.start);
    let mut extent = Extent { start: start.map(|start| (start.mono, start.real_ns)), end: None };
    if moments.iter().flatten().any(|moment| moment.depends_on_the_end()) {
        extent.end = Some(end(&captures.with_last_of(&list))?);
    }
    let resolved = bounds(names, moments, &extent)?;
    let is_one_boot = first.zip(last).is_some_and(|(first, last)| first.is_same_boot(&last));
    let mut range = [None; 2];
    let mut kept = [None; 2];
    for (at, bound) in resolved.into_iter().enumerate() {
        let Some(bound) = bound else { continue };
        let is_from_end = matches!(moments[at], Some(Moment::BeforeEnd(_)));
        let anchor = if is_from_end { extent.end } else { extent.start };
        let (real_ns, mono) = match (bound, anchor) {
            (TimeBound::Wall(real_ns), _) => (real_ns, None),
            (TimeBound::Mono(mono), Some((from, real_ns))) => {
                let since = i128::from(mono.0) - i128::from(from.0);
                let real_ns = (i128::from(real_ns) + since).clamp(i64::MIN.into(), i64::MAX.into());
                (i64::try_from(real_ns).unwrap_or(i64::MAX), Some(mono))
            }
            (TimeBound::Mono(mono), None) => (0, Some(mono)),
        };
        // The monotonic clock restarts with each boot.
        let mono = mono.filter(|_| is_one_boot);
        kept[at] = Some(RangeBound { real_ns, mono });
        range[at] = Some(mono.map_or(TimeBound::Wall(real_ns), TimeBound::Mono));
    }
    let [since, until] = kept;
    list.restrict(since, until);
    let [since, until] = range;
    Ok((list, Range { since, until }))
}

/// Returns the wall-clock times of the start and the end of a recording; `None` if the start is
/// unreadable.
pub(crate) fn extent(captures: &Captures) -> Result<Option<[i64; 2]>, Failure> {
    let (start, last) = match &captures.source {
        CaptureSource::One(_) => {
            (captures.open()?.header().map(|header| header.meta.start.real_ns), captures.clone())
        }
        CaptureSource::Several(list) => {
            let mut list = list.clone();
            list.order();
            (list.first().map(|first| first.start.real_ns), captures.with_last_of(&list))
        }
    };
    let (_, end) = end(&last)?;
    Ok(start.map(|start| [start, end]))
}

/// Returns the end of the recording by both clocks. The index leads to the last block of its last
/// capture; without one, the whole capture is read.
fn end(captures: &Captures) -> Result<(MonoNs, i64), Failure> {
    if !captures.is_rereadable() {
        let why = if captures.is_stdin() {
            "a time before the end needs a file, because standard input can be read only once"
        } else {
            "a time before the end needs a file that can be read twice"
        };
        return Err(Failure::new(exit::USAGE, why));
    }
    let unreadable = format!("cannot read {}", captures.name());
    let mut reader = captures.open()?.reader;
    let mut wall = WallClock::new();
    let start = reader.header().map(|header| header.meta.start);
    start.iter().for_each(|&start| wall.observe(start));
    reader.seek(MonoNs(u64::MAX)).or_fail(exit::ENVIRONMENT, &unreadable)?;
    let (order, mut end) = (reader.byte_order(), MonoNs(0));
    while let Some(part) = reader.next_part().or_fail(exit::ENVIRONMENT, &unreadable)? {
        if let Part::Block(block) = part {
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
