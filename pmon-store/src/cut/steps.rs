//! The steps of an excerpt.

use std::io::Write;

use pmon_analysis::TimeBound;
use pmon_core::MonoNs;
use pmon_core::capture::{
    ClockAnchor, End, Fence, FencePosition, Header, Meta, Positions, Record, ScopeInfo, SegmentInfo,
    SegmentReason, Snapshot, SnapshotReason, Unobserved, UnobservedReason, UnreachedCpu, UnreachedReason,
};

use super::copy::{Copier, SourceEnd};
use super::output::Output;
use super::range::Range;
use super::selected::SelectedEvents;
use super::start::{Capture, StartState, clocks, open, start_clock, survey};
use super::{CutError, CutOptions, CutReport, CutSource};

/// Writes the excerpt of `source` that `options` describe to `output`.
///
/// The excerpt is a capture of its own: it begins with the process table as of its first event, and
/// states what it does not contain. Blocks that lie within the range are copied without decoding
/// their events. `progress` receives the number of bytes read so far.
///
/// # Errors
/// When a source cannot be read, or the excerpt cannot be written. Damaged parts of a source are no
/// error.
pub fn cut(
    source: &dyn CutSource,
    options: &CutOptions,
    output: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<CutReport, CutError> {
    let captures = survey(source)?;
    let range = resolve(source, options, &captures)?;
    let captures = within(&captures, range);
    let first = captures.first().ok_or(CutError::NoCapture)?;
    check_boots(source, captures)?;
    let state = StartState::read(source, first, range)?;
    let started = if range.has_start() { range.from.max(first.clock().mono) } else { first.clock().mono };
    let clock = start_clock(&state, started);
    let header = header(options, first, &state, clock);
    let mut copier = Copier::new(range, Output::begin(&header, output)?);
    let processes = write_opening(&mut copier, &state, started)?;
    if range.has_start() && range.from < first.clock().mono && first.header.is_some() {
        let previous = first.header.as_ref().is_some_and(|header| header.meta.previous.is_some());
        let reason = if previous { UnobservedReason::Pruned } else { UnobservedReason::Stopped };
        copier.add_unobserved(Unobserved { from: range.from, until: first.clock().mono, reason })?;
    }
    write_start(&mut copier, options, &state, started)?;
    let end = copy_all(&mut copier, source, options, captures, &state, progress)?;
    let until = write_end(&mut copier, options, &end)?;
    let unreached = state.unreached().into_iter().chain(copier.unreached(&end));
    let silent_cpus = unreached.filter(|cpu| cpu.why == UnreachedReason::Silent).count() as u64;
    let Copier { output, accounts, unobserved, damaged, .. } = copier;
    let witness = accounts.witness(until).unwrap_or_default();
    Ok(CutReport {
        from: if range.has_start() { range.from } else { started },
        until,
        clock,
        events: accounts.events,
        processes,
        lost: accounts.lost,
        blind_ns: accounts.blind_ns,
        unobserved,
        damaged,
        silent_cpus,
        copied_blocks: output.copied,
        encoded_blocks: output.encoded,
        bytes: output.bytes,
        unexplained_drops: witness.drops.saturating_sub(witness.gaps),
    })
}

fn resolve(source: &dyn CutSource, options: &CutOptions, captures: &[Capture]) -> Result<Range, CutError> {
    let bounds = [options.since, options.until];
    let mut anchors: Vec<ClockAnchor> = captures.iter().map(Capture::clock).collect();
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
    let start = |capture: &Capture| capture.clock().mono;
    let first = captures.iter().rposition(|capture| start(capture) <= range.from).unwrap_or(0);
    let last = captures.iter().rposition(|capture| start(capture) <= range.until).unwrap_or(first);
    captures.get(first..=last.max(first)).unwrap_or_default()
}

fn check_boots(source: &dyn CutSource, captures: &[Capture]) -> Result<(), CutError> {
    let boot = |capture: &'_ Capture| capture.header.as_ref().map(|header| header.meta.boot_id.clone());
    for pair in captures.windows(2) {
        if let (Some(one), Some(other)) = (boot(&pair[0]), boot(&pair[1]))
            && one != other
        {
            return Err(CutError::Reboot { name: source.name(pair[1].index) });
        }
    }
    Ok(())
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
    (copier.late, copier.edge) = (state.late_at_edge, state.edge);
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
        let mut reader = open(source, capture.index)?;
        let continues = match at.checked_sub(1).and_then(|before| captures.get(before)) {
            Some(previous) => join(copier, previous, capture, &last)?,
            None => false,
        };
        if at == 0 {
            copier.selected = options.selection.as_ref().map(|selection| {
                let has_begun = !copier.range.has_start();
                SelectedEvents::new(
                    selection,
                    reader.byte_order(),
                    capture.clock(),
                    has_begun,
                    state.holds_scan,
                )
            });
            // A selection follows the processes from the first record on.
            if copier.range.has_start() && copier.selected.is_none() {
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

/// Connects a source with the previous one. Returns whether it continues the previous one.
fn join(
    copier: &mut Copier<'_>,
    previous: &Capture,
    capture: &Capture,
    end: &SourceEnd,
) -> Result<bool, CutError> {
    let (Some(before), Some(after)) = (&previous.header, &capture.header) else {
        // The connection is unknown.
        let until = capture.clock().mono.max(end.last_time.unwrap_or_default());
        gap(copier, end, until, UnobservedReason::Missing)?;
        return Ok(false);
    };
    let follows = after.meta.previous == Some(before.uuid);
    let is_continuous = after.meta.segment.as_ref().is_some_and(|segment| segment.reason.is_continuous());
    if follows && is_continuous {
        copier.finish_damage(after.meta.start.mono)?;
        copier.output.record(&Record::Clock(after.meta.start))?;
        return Ok(true);
    }
    let reason = match (end.end, follows || after.meta.previous.is_none()) {
        (_, false) => UnobservedReason::Missing,
        (Some(_), true) => UnobservedReason::Stopped,
        (None, true) => UnobservedReason::Killed,
    };
    gap(copier, end, after.meta.start.mono, reason)?;
    copier.output.record(&Record::Clock(after.meta.start))?;
    Ok(false)
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

/// Writes the records at the end. Returns the last time of the excerpt.
fn write_end(copier: &mut Copier<'_>, options: &CutOptions, end: &SourceEnd) -> Result<MonoNs, CutError> {
    let range = copier.range;
    let ended = end.time();
    let until = if range.has_end() { range.until } else { ended.unwrap_or(range.from) };
    copier.finish_damage(until)?;
    if end.is_complete {
        let last = ended.unwrap_or(range.from);
        let is_short = range.has_end() && last < until;
        match (end.end, options.now) {
            (_, Some(now)) if is_short && now < until => {
                if last < now && end.end.is_none() {
                    let reason = UnobservedReason::Killed;
                    copier.add_unobserved(Unobserved { from: last, until: now, reason })?;
                }
                let reason = UnobservedReason::Future;
                copier.add_unobserved(Unobserved { from: last.max(now), until, reason })?;
            }
            (Some(_), _) if is_short => {
                let reason = UnobservedReason::Stopped;
                copier.add_unobserved(Unobserved { from: last, until, reason })?;
            }
            // Without an end, the last events of any CPU may be missing.
            (None, _) if is_short || !range.has_end() => {
                let reason = UnobservedReason::Killed;
                copier.add_unobserved(Unobserved { from: last, until: until.max(last), reason })?;
            }
            _ => {}
        }
    }
    copier.record_excluded()?;
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
