//! Compares a store with the truth: every event that was promised is there, and nothing else.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use pmon_core::MonoNs;
use pmon_core::capture::SegmentReason;

use super::removed::RemovedEvents;
use super::segments::{Accounted, ReadSegment, summaries};
use super::truth::{BootTruth, CpuTruth, Fate, Truth};
use super::verdict::{self, AbsentEvents};

/// What happened to a store besides its recording.
#[derive(Clone, Debug, Default)]
pub(super) struct StoreHistory {
    /// Whether the store may have removed its oldest segments, and which ones is unknown.
    pub(super) has_pruned: bool,
    /// What removed segments accounted for.
    pub(super) removed: RemovedEvents,
    /// Whether the filesystem has refused an operation, or lost data.
    pub(super) has_failed: bool,
    /// Whether the machine has lost power. Segments that were not synced may then have gaps.
    pub(super) has_lost_power: bool,
}

impl StoreHistory {
    /// Whether parts of a segment may be unreadable.
    fn may_be_damaged(&self, segment: &ReadSegment) -> bool {
        self.has_failed || self.has_lost_power && !segment.contents.ended_cleanly
    }
}

/// What a store must hold.
#[derive(Clone, Debug)]
pub(super) struct ExpectedStore<'a> {
    pub(super) truth: &'a Truth,
    /// Time since which the store may have lost the events that it received.
    pub(super) excused_since: Option<Duration>,
    pub(super) history: StoreHistory,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreContents {
    /// Number of events.
    pub events: u64,
    /// Number of events whose loss is recorded.
    pub lost: u64,
    /// Number of segments.
    pub segments: u64,
}

/// Whether an event is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Presence {
    #[default]
    Absent,
    Recorded,
    Lost,
}

/// Checks a store whose recorder has ended, or that was recovered.
///
/// # Errors
/// The first contradiction.
pub(super) fn check(
    segments: Vec<ReadSegment>,
    expected: &ExpectedStore<'_>,
) -> Result<StoreContents, String> {
    check_segments(&segments, expected).map_err(|why| format!("{why}; found:{}", summaries(&segments)))
}

fn check_segments(segments: &[ReadSegment], expected: &ExpectedStore<'_>) -> Result<StoreContents, String> {
    let ExpectedStore { truth, excused_since, history } = expected;
    let mut all_absent = 0;
    let mut contents = StoreContents { segments: segments.len() as u64, ..StoreContents::default() };
    for segment in segments {
        check_segment(segment, history)?;
    }
    let oldest =
        segments.first().map(|segment| segment.contents.header.meta.boot_id.clone()).unwrap_or_default();
    for boot in &truth.boots {
        let segments: Vec<_> =
            segments.iter().filter(|segment| segment.contents.header.meta.boot_id == boot.id).collect();
        check_chain(&segments, history)?;
        let mut absent = Vec::new();
        for cpu in 0..boot.cpus.len() {
            let numbers = CpuNumbers::read(boot, cpu, &segments, history)?;
            // Everything before the oldest segment was removed.
            let pruned = match history.has_pruned {
                true if boot.id < oldest => boot.cpus[cpu].events.len(),
                true if boot.id == oldest => numbers.first.unwrap_or(boot.cpus[cpu].events.len()),
                _ => 0,
            };
            let is_removed = |index| index < pruned || history.removed.contains(&boot.id, cpu as u32, index);
            numbers.check(&boot.cpus[cpu], cpu, is_removed, *excused_since, history)?;
            contents.events += numbers.count(Presence::Recorded);
            contents.lost += numbers.count(Presence::Lost);
            absent.extend(numbers.absent(&boot.cpus[cpu], cpu, &segments));
        }
        verdict::check_boot(&segments, &absent)?;
        all_absent += absent.iter().map(|events| events.count).sum::<u64>();
    }
    let may_be_damaged = segments.iter().any(|segment| history.may_be_damaged(segment));
    verdict::check_store(segments, &contents, all_absent, may_be_damaged)?;
    if !history.has_failed && !history.has_lost_power {
        verdict::check_drops(segments)?;
    }
    Ok(contents)
}

/// Checks what a segment says of itself.
fn check_segment(segment: &ReadSegment, history: &StoreHistory) -> Result<(), String> {
    let ReadSegment { name, is_partial, contents } = segment;
    if contents.header.meta.segment.is_none() {
        return Err(format!("{name} does not say why it begins"));
    }
    let may_be_damaged = history.may_be_damaged(segment);
    if let Some(problem) = contents.problems.first().filter(|_| !may_be_damaged) {
        return Err(format!("{name} contradicts itself: {problem}"));
    }
    // A segment that could not be finished is salvaged by the next recorder.
    if *is_partial && !history.has_failed {
        return Err(format!("{name} is still named partial"));
    }
    if !may_be_damaged && !contents.damage.is_empty() {
        return Err(format!("{name} is damaged: {:?}", contents.damage));
    }
    // A recorder that is killed at the end may have written END and not yet the trailer.
    if contents.ended_cleanly && contents.end.is_none() {
        return Err(format!("{name} ends cleanly without END"));
    }
    if contents.ended_cleanly && contents.positions.is_none() {
        return Err(format!("{name} ends without positions"));
    }
    if let Some(exec) = contents.undetailed.first().filter(|_| contents.ended_cleanly) {
        return Err(format!("{name} has no details of the exec {exec:?}"));
    }
    Ok(())
}

/// Checks that each segment names the one before it.
fn check_chain(segments: &[&ReadSegment], history: &StoreHistory) -> Result<(), String> {
    for pair in segments.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        let is_next = after.contents.header.meta.previous == Some(before.contents.header.uuid);
        // A segment that was not durable yet is gone after a power loss.
        let may_be_gone = history.removed.segments > 0
            || history.has_pruned
            || history.has_failed
            || history.has_lost_power;
        if !is_next && !may_be_gone {
            return Err(format!("{} does not follow {}, which is before it", after.name, before.name));
        }
    }
    Ok(())
}

/// What the segments of a boot say of the events of one CPU.
struct CpuNumbers {
    presence: Vec<Presence>,
    /// Number after the last event that the segments, or the start of the next one, account for.
    reached: usize,
    /// Number of the first event that the segments account for.
    first: Option<usize>,
    /// Events between two segments that neither accounts for, and why.
    holes: Vec<(Range<usize>, Hole)>,
}

/// Why no segment accounts for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    /// The next segment says that it does not continue.
    Unobserved,
    /// A segment between them is missing.
    MissingSegment,
    /// A part of the segment is unreadable.
    Damaged,
}

impl CpuNumbers {
    fn read(
        boot: &BootTruth,
        cpu: usize,
        segments: &[&ReadSegment],
        history: &StoreHistory,
    ) -> Result<Self, String> {
        let truth = &boot.cpus[cpu];
        let mut presence = vec![Presence::Absent; truth.events.len()];
        let (mut first, mut next, mut reached) = (None, None, 0);
        // Whether a segment has begun with a new socket since the last event.
        let mut is_new_socket = false;
        let mut holes = Vec::new();
        let (mut last_uuid, mut may_lack_end) = (None, false);
        for segment in segments {
            let name = &segment.name;
            let Some(info) = &segment.contents.header.meta.segment else { continue };
            let position = info.positions.iter().find(|position| position.cpu.0 as usize == cpu);
            let starts_at = position.map(|position| truth.index(position.next));
            let is_next = last_uuid.is_some() && segment.contents.header.meta.previous == last_uuid;
            match (next, starts_at) {
                (Some(next), Some(start)) if is_next && next < start && may_lack_end => {
                    holes.push((next..start, Hole::Damaged));
                }
                (Some(next), Some(start)) if is_next && next != start => {
                    return Err(format!("{name} begins at event {start} of cpu {cpu}, expected {next}"));
                }
                // A missing predecessor may have begun with a new socket, and have failed before it
                // had an event. The verdict says that it is missing.
                (Some(next), None) if info.reason != SegmentReason::Start && !is_new_socket && is_next => {
                    return Err(format!("{name} has no position of cpu {cpu}, expected {next}"));
                }
                (_, Some(start)) if info.reason == SegmentReason::Start => {
                    return Err(format!(
                        "{name} starts with a new socket and has position {start} of cpu {cpu}"
                    ));
                }
                _ => {}
            }
            reached = reached.max(starts_at.unwrap_or_default());
            is_new_socket |= info.reason == SegmentReason::Start;
            if let (Some(next), Some(start)) = (next, starts_at)
                && !is_next
                && start > next
            {
                holes.push((next..start, Hole::MissingSegment));
            }
            last_uuid = Some(segment.contents.header.uuid);
            may_lack_end = history.may_be_damaged(segment);
            let mut expected = starts_at;
            for accounted in &segment.contents.accounted {
                let (range, what) = match accounted {
                    Accounted::Event(event) if event.cpu.0 as usize == cpu => {
                        let index = truth.index(event.seq);
                        if truth.events.get(index).is_none_or(|(emitted, _)| emitted != event) {
                            return Err(format!("{name} has {event:?}, which was not emitted"));
                        }
                        (index..index + 1, Presence::Recorded)
                    }
                    Accounted::Loss(loss) if loss.cpu.0 as usize == cpu => {
                        let index = truth.index(loss.first);
                        (index..index + loss.count() as usize, Presence::Lost)
                    }
                    _ => continue,
                };
                if let Some(expected) = expected.filter(|_| history.may_be_damaged(segment))
                    && expected < range.start
                {
                    holes.push((expected..range.start, Hole::Damaged));
                } else if expected.is_some_and(|expected| expected != range.start) {
                    return Err(format!("{name}: cpu {cpu} goes on at {range:?}, expected {expected:?}"));
                }
                if expected.is_none()
                    && let Some(next) = next
                {
                    holes.push((next..range.start, Hole::Unobserved));
                }
                let Some(marks) = presence.get_mut(range.clone()) else {
                    return Err(format!("{name}: {accounted:?} is after the last event of cpu {cpu}"));
                };
                if let Some(at) = marks.iter().position(|mark| *mark != Presence::Absent) {
                    let at = range.start + at;
                    return Err(format!("{name}: event {at} of cpu {cpu} is accounted for twice"));
                }
                marks.fill(what);
                is_new_socket = false;
                first = first.or(Some(range.start));
                expected = Some(range.end);
            }
            if let (Some(positions), true) = (&segment.contents.positions, segment.contents.ended_cleanly) {
                let stated = positions.cpus.iter().find(|position| position.cpu.0 as usize == cpu);
                let stated = stated.map(|position| truth.index(position.next));
                if stated != expected {
                    return Err(format!("{name} ends at {stated:?} on cpu {cpu}, expected {expected:?}"));
                }
            }
            next = expected.or(next);
        }
        let first = first.or(next);
        let reached = next.unwrap_or_default().max(reached).min(truth.events.len());
        Ok(Self { presence, reached, first, holes })
    }

    fn count(&self, presence: Presence) -> u64 {
        self.presence.iter().filter(|mark| **mark == presence).count() as u64
    }

    /// Compares with the truth. `is_removed` returns whether a segment with an event was removed.
    fn check(
        &self,
        truth: &CpuTruth,
        cpu: usize,
        is_removed: impl Fn(usize) -> bool,
        excused_since: Option<Duration>,
        history: &StoreHistory,
    ) -> Result<(), String> {
        for (index, ((_, fate), presence)) in truth.events.iter().zip(&self.presence).enumerate() {
            let hole = self.holes.iter().find(|(range, _)| range.contains(&index)).map(|(_, hole)| *hole);
            let fate = match fate {
                Fate::Passed(at) if excused_since.is_some_and(|since| *at >= since) => Fate::Excused,
                fate => *fate,
            };
            let is_consistent = match (fate, presence) {
                (Fate::Passed(_) | Fate::Excused, Presence::Recorded) => true,
                (Fate::Passed(_), Presence::Lost) => history.has_failed,
                (Fate::Passed(_), Presence::Absent) => is_removed(index),
                (Fate::Excused, Presence::Lost | Presence::Absent) => true,
                (Fate::Dropped, Presence::Lost) => true,
                (Fate::Dropped, Presence::Absent) => {
                    let is_inside = (self.first.unwrap_or(usize::MAX)..self.end()).contains(&index);
                    !is_inside || hole.is_some() || is_removed(index)
                }
                (Fate::Emitted, Presence::Absent) => true,
                (Fate::Emitted | Fate::Dropped, Presence::Recorded) | (Fate::Emitted, Presence::Lost) => {
                    false
                }
            };
            if !is_consistent {
                return Err(format!("event {index} of cpu {cpu}: {fate:?}, but {presence:?} ({hole:?})"));
            }
        }
        Ok(())
    }

    /// Returns the events that are absent after the start of the first segment, and before the last
    /// number that the segments know. `segments` are those of the boot.
    ///
    /// A gap is divided where a segment starts: what is absent before the start is unobserved if a
    /// segment is missing there, and what is absent after it is the segment's own loss.
    fn absent(&self, truth: &CpuTruth, cpu: usize, segments: &[&ReadSegment]) -> Vec<AbsentEvents> {
        let mut absent: Vec<AbsentEvents> = Vec::new();
        let Some(first) = segments.first() else { return absent };
        let first = first.contents.header.meta.start.mono;
        let starts: BTreeMap<usize, MonoNs> = segments
            .iter()
            .filter_map(|segment| {
                let meta = &segment.contents.header.meta;
                let positions = &meta.segment.as_ref()?.positions;
                let position = positions.iter().find(|position| position.cpu.0 as usize == cpu)?;
                Some((truth.index(position.next), meta.start.mono))
            })
            .collect();
        let mut accounted = None;
        let mut is_gap = false;
        for (index, presence) in self.presence[..self.reached].iter().enumerate() {
            let time = truth.events[index].0.time;
            if let Some(&start) = starts.get(&index) {
                if let Some(gap) = absent.last_mut().filter(|_| is_gap) {
                    gap.before = start;
                }
                (accounted, is_gap) = (accounted.max(Some(start)), false);
            }
            if *presence != Presence::Absent {
                if let Some(gap) = absent.last_mut().filter(|_| is_gap) {
                    gap.before = time;
                }
                (accounted, is_gap) = (Some(time), false);
            } else if is_gap {
                absent.last_mut().into_iter().for_each(|gap| (gap.count, gap.before) = (gap.count + 1, time));
            } else if accounted.is_some() || time > first {
                absent.push(AbsentEvents { count: 1, after: accounted.unwrap_or(time), before: time });
                is_gap = true;
            }
        }
        absent
    }

    /// Returns the number after the last event that the segments account for.
    fn end(&self) -> usize {
        self.presence.iter().rposition(|mark| *mark != Presence::Absent).map_or(0, |last| last + 1)
    }
}
