//! Compares a store with the truth: every event that was promised is there, and nothing else.

use std::collections::BTreeSet;
use std::ops::Range;

use pmon_core::capture::SegmentReason;
use pmon_store::Filesystem;

use super::segments::{Accounted, ReadSegment, read_segments};
use super::truth::{BootTruth, CpuTruth, Fate, Truth};

/// What happened to a store besides its recording.
#[derive(Clone, Debug, Default)]
pub(super) struct StoreHistory {
    /// Whether the store has removed segments because of a limit.
    pub(super) has_pruned: bool,
    /// Names of segments that another program removed.
    pub(super) deleted: BTreeSet<String>,
    /// Whether the filesystem has refused an operation, or lost data.
    pub(super) has_failed: bool,
    /// Whether the machine has lost power. Segments that were not synced may then have gaps.
    pub(super) has_lost_power: bool,
}

impl StoreHistory {
    /// Whether parts of a segment may be unreadable.
    fn may_be_damaged(&self, segment: &ReadSegment) -> bool {
        self.has_failed || self.has_lost_power && !segment.ended_cleanly
    }
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
    fs: &dyn Filesystem,
    truth: &Truth,
    history: &StoreHistory,
) -> Result<StoreContents, String> {
    let segments = read_segments(fs, history.has_failed)?;
    check_segments(&segments, truth, history).map_err(|why| {
        let found: String = segments.iter().map(|segment| format!("\n  {}", segment.summary())).collect();
        format!("{why}; found:{found}")
    })
}

fn check_segments(
    segments: &[ReadSegment],
    truth: &Truth,
    history: &StoreHistory,
) -> Result<StoreContents, String> {
    let mut contents = StoreContents { segments: segments.len() as u64, ..StoreContents::default() };
    for segment in segments {
        check_segment(segment, history)?;
    }
    let oldest = segments.first().map(|segment| segment.header.meta.boot_id.clone()).unwrap_or_default();
    for boot in &truth.boots {
        let segments: Vec<_> =
            segments.iter().filter(|segment| segment.header.meta.boot_id == boot.id).collect();
        check_chain(&segments, history)?;
        for cpu in 0..boot.cpus.len() {
            let numbers = CpuNumbers::read(boot, cpu, &segments, history)?;
            // Everything before the oldest segment was removed.
            let pruned = match history.has_pruned || !history.deleted.is_empty() {
                true if boot.id < oldest => boot.cpus[cpu].events.len(),
                true if boot.id == oldest => numbers.first.unwrap_or(boot.cpus[cpu].events.len()),
                _ => 0,
            };
            numbers.check(&boot.cpus[cpu], cpu, pruned, history)?;
            contents.events += numbers.count(Presence::Recorded);
            contents.lost += numbers.count(Presence::Lost);
        }
    }
    Ok(contents)
}

/// Checks what a segment says of itself.
fn check_segment(segment: &ReadSegment, history: &StoreHistory) -> Result<(), String> {
    let ReadSegment { name, header, .. } = segment;
    if header.meta.segment.is_none() {
        return Err(format!("{name} does not say why it begins"));
    }
    let may_be_damaged = history.may_be_damaged(segment);
    if let Some(problem) = segment.problems.first().filter(|_| !may_be_damaged) {
        return Err(format!("{name} contradicts itself: {problem}"));
    }
    // A segment that could not be finished is salvaged by the next recorder.
    if segment.is_partial && !history.has_failed {
        return Err(format!("{name} is still named partial"));
    }
    if !may_be_damaged && !segment.damage.is_empty() {
        return Err(format!("{name} is damaged: {:?}", segment.damage));
    }
    // A recorder that is killed at the end may have written END and not yet the trailer.
    if segment.ended_cleanly && segment.end.is_none() {
        return Err(format!("{name} ends cleanly without END"));
    }
    if segment.ended_cleanly && segment.positions.is_none() {
        return Err(format!("{name} ends without positions"));
    }
    if let Some(exec) = segment.undetailed.first().filter(|_| segment.ended_cleanly) {
        return Err(format!("{name} has no details of the exec {exec:?}"));
    }
    Ok(())
}

/// Checks that each segment names the one before it.
fn check_chain(segments: &[&ReadSegment], history: &StoreHistory) -> Result<(), String> {
    for pair in segments.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        let is_next = after.header.meta.previous == Some(before.header.uuid);
        // A segment that was not durable yet is gone after a power loss.
        let may_be_gone = !history.deleted.is_empty() || history.has_failed || history.has_lost_power;
        if !is_next && !may_be_gone {
            return Err(format!("{} does not follow {}, which is before it", after.name, before.name));
        }
    }
    Ok(())
}

/// What the segments of a boot say of the events of one CPU.
struct CpuNumbers {
    presence: Vec<Presence>,
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
        let (mut first, mut next) = (None, None);
        let mut holes = Vec::new();
        let (mut last_uuid, mut may_lack_end) = (None, false);
        for segment in segments {
            let name = &segment.name;
            let Some(info) = &segment.header.meta.segment else { continue };
            let position = info.positions.iter().find(|position| position.cpu.0 as usize == cpu);
            let starts_at = position.map(|position| truth.index(position.next));
            let is_next = last_uuid.is_some() && segment.header.meta.previous == last_uuid;
            match (next, starts_at) {
                (Some(next), Some(start)) if is_next && next < start && may_lack_end => {
                    holes.push((next..start, Hole::Damaged));
                }
                (Some(next), Some(start)) if is_next && next != start => {
                    return Err(format!("{name} begins at event {start} of cpu {cpu}, expected {next}"));
                }
                (Some(next), None) if info.reason != SegmentReason::Start => {
                    return Err(format!("{name} has no position of cpu {cpu}, expected {next}"));
                }
                (_, Some(start)) if info.reason == SegmentReason::Start => {
                    return Err(format!(
                        "{name} starts with a new socket and has position {start} of cpu {cpu}"
                    ));
                }
                _ => {}
            }
            last_uuid = Some(segment.header.uuid);
            may_lack_end = history.may_be_damaged(segment);
            let mut expected = starts_at;
            for accounted in &segment.accounted {
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
                if let (Some(next), true) = (next, starts_at == Some(range.start))
                    && !is_next
                    && range.start > next
                {
                    holes.push((next..range.start, Hole::MissingSegment));
                }
                let Some(marks) = presence.get_mut(range.clone()) else {
                    return Err(format!("{name}: {accounted:?} is after the last event of cpu {cpu}"));
                };
                if let Some(at) = marks.iter().position(|mark| *mark != Presence::Absent) {
                    let at = range.start + at;
                    return Err(format!("{name}: event {at} of cpu {cpu} is accounted for twice"));
                }
                marks.fill(what);
                first = first.or(Some(range.start));
                expected = Some(range.end);
            }
            if let (Some(positions), true) = (&segment.positions, segment.ended_cleanly) {
                let stated = positions.cpus.iter().find(|position| position.cpu.0 as usize == cpu);
                let stated = stated.map(|position| truth.index(position.next));
                if stated != expected {
                    return Err(format!("{name} ends at {stated:?} on cpu {cpu}, expected {expected:?}"));
                }
            }
            next = expected.or(next);
        }
        let first = first.or(next);
        Ok(Self { presence, first, holes })
    }

    fn count(&self, presence: Presence) -> u64 {
        self.presence.iter().filter(|mark| **mark == presence).count() as u64
    }

    /// Compares with the truth. The first `pruned` events may be missing.
    fn check(
        &self,
        truth: &CpuTruth,
        cpu: usize,
        pruned: usize,
        history: &StoreHistory,
    ) -> Result<(), String> {
        for (index, ((_, fate), presence)) in truth.events.iter().zip(&self.presence).enumerate() {
            let hole = self.holes.iter().find(|(range, _)| range.contains(&index)).map(|(_, hole)| *hole);
            let is_deleted = hole == Some(Hole::MissingSegment) && !history.deleted.is_empty();
            let is_consistent = match (fate, presence) {
                (Fate::Passed(_) | Fate::Excused, Presence::Recorded) => true,
                (Fate::Passed(_), Presence::Lost) => history.has_failed,
                (Fate::Passed(_), Presence::Absent) => index < pruned || is_deleted,
                (Fate::Excused, Presence::Lost | Presence::Absent) => true,
                (Fate::Dropped, Presence::Lost) => true,
                (Fate::Dropped, Presence::Absent) => {
                    index < pruned || is_deleted || hole.is_some() || index >= self.end()
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

    /// Returns the number after the last event that the segments account for.
    fn end(&self) -> usize {
        self.presence.iter().rposition(|mark| *mark != Presence::Absent).map_or(0, |last| last + 1)
    }
}
