//! The steps of an excerpt.

use std::io::Write;

use pmon_analysis::TimeBound;
use pmon_core::MonoNs;
use pmon_core::capture::{
    ClockAnchor, End, Fence, FencePosition, Header, Meta, Positions, Record, ScopeInfo, SegmentInfo,
    SegmentReason, Snapshot, SnapshotReason, Unobserved, UnobservedReason, UnreachedCpu, UnreachedReason,
};

use super::copy::{Copier, SourceEnd};
use super::coverage;
use super::output::Output;
use super::range::{CLOCK_ERROR, Range};
use super::selected::SelectedEvents;
use super::start::{Capture, StartState, Survey, clocks, open};
use super::{CutError, CutOptions, CutReport, CutSource};

/// Writes the excerpt of `source` that `options` describe to `output`.
///
/// The excerpt is a capture of its own: it begins with the process table as of its first event, and
/// states what it does not contain. Blocks that lie within the range are copied without decoding
/// their events. `progress` receives the number of bytes read so far.
///
/// # Errors
/// When a source cannot be read, when no part of the range is recorded, or when the excerpt cannot
/// be written. Damaged parts of a source are no error.
pub fn cut(
    source: &dyn CutSource,
    options: &CutOptions,
    output: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<CutReport, CutError> {
    let survey = Survey::of(source)?;
    let range = resolve(source, options, &survey.captures)?;
    let captures = within(&survey.captures, range);
    let (Some(first), Some(last)) = (captures.first(), captures.last()) else {
        return Err(CutError::NoCapture);
    };
    let (lacks_start, lacks_end) = survey.lacks_around(first, last);
    let begin = first.begin().unwrap_or_default();
    let range = match options.since {
        Some(TimeBound::Wall(_)) => range.or_begin_at(begin),
        _ => range,
    };
    check_boots(source, captures)?;
    coverage::check(source, captures, range)?;
    let clock = survey.clock_before(source, first, range.from)?;
    let state = StartState::read(source, first, clock, &captures[1..], range)?;
    let started = if range.has_start() { range.from.max(begin) } else { first.clock().mono };
    let clock = state.clock.at(started);
    let header = header(options, first, &state, clock);
    let mut copier = Copier::new(range, Output::begin(&header, output)?);
    let processes = write_opening(&mut copier, &state, started)?;
    if range.has_start() && range.from < begin {
        let previous = first.header.as_ref().is_some_and(|header| header.meta.previous.is_some());
        let reason = match options.before {
            _ if lacks_start => UnobservedReason::Missing,
            Some(reason) => reason,
            None if previous => UnobservedReason::Pruned,
            None => UnobservedReason::Stopped,
        };
        copier.add_unobserved(Unobserved { from: range.from, until: begin, reason })?;
    } else if !range.has_start() && lacks_start {
        let (from, until) = (started, started);
        copier.add_unobserved(Unobserved { from, until, reason: UnobservedReason::Missing })?;
    }
    write_start(&mut copier, options, &state, started)?;
    if started < first.clock().mono {
        // The first events of a segment can be earlier than the reading in its header.
        copier.record_clock(first.clock())?;
    }
    let end = copy_all(&mut copier, source, options, captures, &state, progress)?;
    let until = write_end(&mut copier, options, &end, lacks_end || options.lacks_end)?;
    let unreached = state.unreached().into_iter().chain(copier.unreached(&end));
    let silent_cpus = unreached.filter(|cpu| cpu.why == UnreachedReason::Silent).count() as u64;
    let Copier { output, accounts, unobserved, damaged, .. } = copier;
    let witness = accounts.witness(until).unwrap_or_default();
    Ok(CutReport {
        from: if range.has_start() { range.from } else { started.min(until) },
        until,
        clock,
        events: accounts.events,
        processes,
        lost: accounts.lost,
        blind_ns: accounts.blind_ns,
        unobserved,
        damaged,
        skipped: survey.skipped(),
        silent_cpus,
        copied_blocks: output.copied,
        encoded_blocks: output.encoded,
        bytes: output.bytes,
        unexplained_drops: witness.drops.saturating_sub(witness.gaps),
    })
}

fn resolve(source: &dyn CutSource, options: &CutOptions, captures: &[Capture]) -> Result<Range, CutError> {
    let bounds = [options.since, options.until];
    let known = captures.iter().filter(|capture| capture.header.is_some());
    let mut anchors: Vec<ClockAnchor> = known.map(Capture::clock).collect();
    for bound in bounds.into_iter().flatten() {
        let TimeBound::Wall(real_ns) = bound else { continue };
        // The clock may have been set within the source that holds the time.
        let at = captures.iter().rposition(|capture| capture.clock().real_ns <= real_ns).unwrap_or(0);
        if let Some(capture) = captures.get(at) {
            anchors.extend(clocks(source, capture.index)?);
        }
    }
    anchors.sort_by_key(|clock| clock.mono);
    anchors.dedup_by_key(|clock| clock.mono);
    Ok(Range::new(options.since, options.until, &anchors))
}

/// Returns the sources that can hold a part of the range, at least one.
fn within(captures: &[Capture], range: Range) -> &[Capture] {
    let is_until = |time: Option<MonoNs>, end| time.is_some_and(|time| time <= end);
    let first = captures.iter().rposition(|capture| is_until(capture.begin(), range.from)).unwrap_or(0);
    let last = captures.iter().rposition(|capture| is_until(capture.earliest(), range.until));
    let last = last.unwrap_or(first).max(first);
    // A capture with a damaged header may begin within the range.
    let unknown = captures.iter().skip(last + 1).take_while(|capture| capture.header.is_none()).count();
    captures.get(first..=last + unknown).unwrap_or_default()
}

fn check_boots(source: &dyn CutSource, captures: &[Capture]) -> Result<(), CutError> {
    let boots = captures.iter().filter_map(|of| Some((of.index, &of.header.as_ref()?.meta.boot_id)));
    let boots: Vec<_> = boots.collect();
    match boots.windows(2).find(|pair| pair[0].1 != pair[1].1) {
        Some(pair) => Err(CutError::Reboot { name: source.name(pair[1].0) }),
        None => Ok(()),
    }
}

fn header(options: &CutOptions, first: &Capture, state: &StartState, clock: ClockAnchor) -> Header {
    let meta = first.header.as_ref().map(|header| header.meta.clone()).unwrap_or_default();
    let segment = Some(SegmentInfo { reason: SegmentReason::Cut, positions: state.positions() });
    let tool = options.tool.clone();
    let byte_order = state.order();
    let meta = Meta { tool, start: clock, previous: None, segment, ..meta };
    Header { uuid: options.uuid, byte_order, meta }
}

/// Writes the process table at the start. Returns its number of processes.
fn write_opening(copier: &mut Copier<'_>, state: &StartState, at: MonoNs) -> Result<u64, CutError> {
    copier.accounts.continue_from(&state.positions());
    if let Some(witness) = &state.witness {
        copier.accounts.add_witness(witness, true);
    }
    (copier.late, copier.edge, copier.began_at) = (state.late_at_edge, state.edge, at);
    copier.skips_scan = state.holds_scan;
    if !copier.range.has_start() {
        // The source's own opening is part of the range.
        return Ok(0);
    }
    let mut processes = 0;
    for details in state.model.processes() {
        processes += 1;
        copier.output.record(&Record::Details(Box::new(details)))?;
    }
    let snapshot = Snapshot {
        started: at,
        ended: at,
        processes: u32::try_from(processes).unwrap_or(u32::MAX),
        reason: SnapshotReason::Segment,
        atomic: true,
    };
    copier.output.record(&Record::Snapshot(snapshot))?;
    Ok(processes)
}

/// Writes the scope of the excerpt, and which CPUs are unknown at its start.
fn write_start(
    copier: &mut Copier<'_>,
    options: &CutOptions,
    state: &StartState,
    at: MonoNs,
) -> Result<(), CutError> {
    let scope = scope(options, state.scope.as_deref());
    copier.is_partial = scope.is_some();
    if let Some(text) = scope {
        copier.output.record(&Record::Scope(ScopeInfo { text }))?;
    }
    let unreached = state.unreached();
    if !unreached.is_empty() {
        write_fence(copier, at, FencePosition::Start, unreached)?;
    }
    Ok(())
}

fn write_fence(
    copier: &mut Copier<'_>,
    time: MonoNs,
    position: FencePosition,
    unreached: Vec<UnreachedCpu>,
) -> Result<(), CutError> {
    copier.output.record(&Record::Fence(Fence { time, position, unreached }))
}

/// Copies the range of each source. Returns the end of the last one.
fn copy_all(
    copier: &mut Copier<'_>,
    source: &dyn CutSource,
    options: &CutOptions,
    captures: &[Capture],
    state: &StartState,
    progress: &mut dyn FnMut(u64),
) -> Result<SourceEnd, CutError> {
    let mut last = SourceEnd::default();
    let mut read = 0;
    for (at, capture) in captures.iter().enumerate() {
        let previous = at.checked_sub(1).and_then(|before| captures.get(before));
        let continues = previous.is_some_and(|previous| capture.continues(previous));
        if copier.is_past() && (!continues || !last.is_complete) {
            break;
        }
        let mut reader = open(source, capture.index)?;
        if let Some(previous) = previous {
            join(copier, previous, capture, &last)?;
            // The process table is as of the start of the first source.
            copier.edge = 0;
        }
        if at == 0 {
            copier.selected = options.selection.as_ref().map(|selection| {
                let has_begun = !copier.range.has_start();
                SelectedEvents::new(
                    selection,
                    reader.byte_order(),
                    capture.header.as_ref().map(|header| &header.meta),
                    has_begun,
                    state.holds_scan,
                )
            });
            if let Some(selected) = copier.selected.as_mut().filter(|_| copier.range.has_start()) {
                state.model.processes().for_each(|details| selected.add_described(details.subject.tgid()));
            }
            // A selection follows the processes from the first record on. An opening after the
            // start of the range can have losses of the range.
            let is_inside = capture.clock().mono < copier.range.from && !state.has_early_notes;
            if copier.range.has_start() && is_inside && copier.selected.is_none() {
                let failed = |error| CutError::Read { name: source.name(capture.index), source: error };
                reader.seek(copier.range.from).map_err(failed)?;
            }
        }
        let before = read;
        last = copier.copy(source, capture.index, reader, continues, &mut |bytes| {
            read = before + bytes;
            progress(read);
        })?;
    }
    copier.release_selected()?;
    Ok(last)
}

fn scope(options: &CutOptions, source: Option<&str>) -> Option<String> {
    let selection = options.selection.as_ref().map(|selection| selection.text.as_str());
    match (selection, source) {
        (Some(selection), Some(source)) => Some(format!("{selection} of {source}")),
        (selection, source) => selection.or(source).map(str::to_owned),
    }
}

/// Connects a source with the previous one.
fn join(
    copier: &mut Copier<'_>,
    previous: &Capture,
    capture: &Capture,
    end: &SourceEnd,
) -> Result<(), CutError> {
    let (Some(before), Some(after)) = (&previous.header, &capture.header) else {
        // The connection is unknown.
        let until = capture.clock().mono.max(end.last_time.unwrap_or_default());
        return gap(copier, end, until, UnobservedReason::Missing);
    };
    let follows = after.meta.previous == Some(before.uuid);
    if capture.continues(previous) {
        let positions = after.meta.segment.as_ref().map(|segment| &*segment.positions).unwrap_or_default();
        for loss in copier.accounts.absent_before(positions, after.meta.start.mono) {
            copier.record(&Record::Loss(loss), false)?;
        }
        copier.finish_damage(after.meta.start.mono)?;
        return copier.record_clock(after.meta.start);
    }
    let reason = match (end.end, follows || after.meta.previous.is_none()) {
        (_, false) => UnobservedReason::Missing,
        (Some(_), true) => UnobservedReason::Stopped,
        (None, true) => UnobservedReason::Killed,
    };
    gap(copier, end, after.meta.start.mono, reason)?;
    copier.record_clock(after.meta.start)
}

/// Records the time without events between two sources.
fn gap(
    copier: &mut Copier<'_>,
    end: &SourceEnd,
    until: MonoNs,
    reason: UnobservedReason,
) -> Result<(), CutError> {
    copier.release_selected()?;
    copier.finish_damage(end.last_time.unwrap_or_default())?;
    let from = end.time().unwrap_or(copier.range.from).min(until);
    copier.reset_numbers()?;
    copier.add_unobserved(Unobserved { from, until, reason })
}

/// Writes the records at the end. `lacks_end` states whether a later source cannot be read. Returns
/// the last time of the excerpt.
fn write_end(
    copier: &mut Copier<'_>,
    options: &CutOptions,
    end: &SourceEnd,
    lacks_end: bool,
) -> Result<MonoNs, CutError> {
    let range = copier.range;
    let ended = end.time();
    let until = if range.has_end() { range.until } else { ended.unwrap_or(range.from) };
    let unread = if lacks_end { UnobservedReason::Missing } else { UnobservedReason::Stopped };
    copier.finish_damage(until)?;
    // The numbers end where the time without events begins.
    copier.record_excluded()?;
    if end.is_complete {
        let last = ended.unwrap_or(range.from);
        let error = if matches!(options.until, Some(TimeBound::Wall(_))) { CLOCK_ERROR } else { 0 };
        let is_short = range.has_end() && last.0.saturating_add(error) < until.0;
        match (end.end, options.now) {
            (_, Some(now)) if is_short && now < until => {
                if last < now {
                    let reason = if end.end.is_some() { unread } else { UnobservedReason::Killed };
                    copier.add_unobserved(Unobserved { from: last, until: now, reason })?;
                }
                let reason = UnobservedReason::Future;
                copier.add_unobserved(Unobserved { from: last.max(now), until, reason })?;
            }
            (Some(_), _) if is_short || lacks_end && !range.has_end() => {
                copier.add_unobserved(Unobserved { from: last, until: until.max(last), reason: unread })?;
            }
            // Without an end, the last events of any CPU may be missing.
            (None, _) if is_short || !range.has_end() => {
                let reason = UnobservedReason::Killed;
                copier.add_unobserved(Unobserved { from: last, until: until.max(last), reason })?;
            }
            _ => {}
        }
    }
    let witness = copier.accounts.witness(until);
    if let Some(witness) = witness {
        copier.output.record(&Record::Witness(witness))?;
    }
    let unreached = copier.unreached(end);
    if !unreached.is_empty() {
        write_fence(copier, until, FencePosition::End, unreached)?;
    }
    let drops = witness.map(|witness| witness.drops);
    let positions = Positions { time: until, cpus: copier.accounts.positions(), source_drops: None };
    copier.output.record(&Record::Positions(positions))?;
    let accounts = &copier.accounts;
    copier.output.record(&Record::End(End {
        time: until,
        events: accounts.events,
        rejected: 0,
        malformed: accounts.malformed,
        blind_ns: accounts.blind_ns,
        drops,
        lost: accounts.lost,
    }))?;
    copier.output.finish()?;
    Ok(until)
}
