//! Verification that continues over the division between two segments.

use std::collections::BTreeMap;

use pmon_core::accounting::LossByCause;
use pmon_core::capture::{End, RingCounts, SegmentInfo, SegmentReason};

use super::{
    Cpu, CpuCounts, CpuPosition, CpuSequence, FencePosition, MAX_CPUS, MonoNs, Problem, Tgid,
    UnreachedReason, Verifier, VerifyReport,
};

/// Totals of a recording at the start of the current segment. The counts in the records of a
/// segment begin at zero.
#[derive(Clone, Debug, Default)]
pub(super) struct SegmentBase {
    /// Number of events, with self-generated ones.
    pub(super) events: u64,
    pub(super) lost: LossByCause,
    pub(super) blind_ns: u64,
    pub(super) malformed: u64,
    pub(super) excluded: u64,
    /// Number of numbers of excluded events.
    pub(super) absent: u64,
    /// Drops and gaps of the earlier segments.
    witness: Option<(u64, u64)>,
    ring: Option<BTreeMap<Cpu, CpuCounts>>,
    /// Totals of the earlier segments that ended cleanly.
    end: Option<End>,
}

impl SegmentBase {
    /// Adds the counts of the earlier segments to those of the last one.
    pub(super) fn add_to(&self, report: &mut VerifyReport) {
        if let Some((drops, gaps)) = self.witness {
            let witness = report.witness.get_or_insert_default();
            witness.drops = witness.drops.saturating_add(drops);
            witness.gaps = witness.gaps.saturating_add(gaps);
        }
        if let Some(counts) = &self.ring {
            let mut all = counts.clone();
            add_ring(&mut all, report.ring.as_ref());
            let time = report.ring.as_ref().map_or(MonoNs(0), |ring| ring.time);
            report.ring = Some(RingCounts { time, cpus: all.into_values().collect() });
        }
        if let (Some(end), Some(before)) = (&mut report.end, &self.end) {
            add_end(end, before);
        }
    }
}

fn add_ring(all: &mut BTreeMap<Cpu, CpuCounts>, more: Option<&RingCounts>) {
    for counts in more.iter().flat_map(|ring| &ring.cpus) {
        let sum = all.entry(counts.cpu).or_insert(CpuCounts { cpu: counts.cpu, ..CpuCounts::default() });
        sum.spilled = sum.spilled.saturating_add(counts.spilled);
        sum.dropped = sum.dropped.saturating_add(counts.dropped);
        sum.excluded = sum.excluded.saturating_add(counts.excluded);
    }
}

/// Adds earlier totals to those of the last end record.
pub(super) fn add_end(end: &mut End, before: &End) {
    end.events = end.events.saturating_add(before.events);
    end.rejected = end.rejected.saturating_add(before.rejected);
    end.malformed = end.malformed.saturating_add(before.malformed);
    end.blind_ns = end.blind_ns.saturating_add(before.blind_ns);
    end.drops = match (end.drops, before.drops) {
        (Some(drops), Some(more)) => Some(drops.saturating_add(more)),
        (drops, more) => drops.or(more),
    };
    before.lost.by_cause().for_each(|(cause, count)| end.lost.add(cause, count));
}

impl Verifier {
    /// Begins at these positions, which are those at `start`: the first event of each of these CPUs
    /// must have the stated number, unless events are lost.
    pub fn begin_at(&mut self, positions: &[CpuPosition], start: MonoNs) {
        self.began_at = start;
        self.is_continued = !positions.is_empty();
        self.has_all_cpus |= self.is_continued;
        self.set_positions(positions);
    }

    fn set_positions(&mut self, positions: &[CpuPosition]) {
        for position in positions.iter().filter(|position| position.cpu.0 < MAX_CPUS) {
            let sequence = CpuSequence {
                next: position.next,
                time: position.time,
                is_lost: false,
                absent: 0,
                excluded: 0,
            };
            if let Some(known) = self.sequence(position.cpu) {
                *known = Some(sequence);
            }
        }
    }

    /// Continues with the segment that follows the current one in the same recording, and begins at
    /// these positions. Returns the number of events between the two segments that neither has.
    pub(super) fn divide(&mut self, positions: &[CpuPosition], recorder: Option<Tgid>) -> u64 {
        self.close_segment();
        self.recorder = recorder;
        self.is_continued = true;
        let mut absent = 0;
        for position in positions.iter().filter(|position| position.cpu.0 < MAX_CPUS) {
            let Some(sequence) = self.sequence(position.cpu) else { continue };
            let Some(before) = *sequence else {
                self.set_positions(&[*position]);
                continue;
            };
            let count = position.next.0.wrapping_sub(before.next.0);
            if count > i32::MAX as u32 {
                self.contradiction(Problem::Backwards { cpu: position.cpu, seq: position.next });
                continue;
            }
            *sequence = Some(CpuSequence { next: position.next, ..before });
            if count > 0 {
                absent += u64::from(count);
                self.forks.add_loss(before.time, position.time, count.into());
            }
        }
        absent
    }

    /// Whether a segment that begins at these positions continues the current one without a doubt:
    /// it has a position of each CPU with events, and a restarted recorder has those of all CPUs.
    pub(super) fn is_continued_at(&self, segment: &SegmentInfo) -> bool {
        let has_position =
            |cpu: usize| segment.positions.iter().any(|position| position.cpu.0 as usize == cpu);
        let mut known = self.cpus.iter().enumerate().filter(|(_, sequence)| sequence.is_some());
        let knows_all = segment.reason != SegmentReason::Restart || self.has_all_cpus;
        knows_all && known.all(|(cpu, _)| has_position(cpu))
    }

    /// Whether the current number of each of these CPUs is known, so that a position shows how many
    /// events are absent before it.
    pub(super) fn has_numbers_before(&self, positions: &[CpuPosition]) -> bool {
        let has_number = |cpu: Cpu| matches!(self.cpus.get(cpu.0 as usize), Some(Some(_)));
        positions.iter().all(|position| position.cpu.0 >= MAX_CPUS || has_number(position.cpu))
    }

    /// Returns the number of events from the current position to these positions; `None` if a
    /// number is lower than the current one, or none is comparable.
    pub(super) fn events_until(&self, positions: &[CpuPosition]) -> Option<u64> {
        let mut events = None;
        for position in positions {
            let Some(Some(sequence)) = self.cpus.get(position.cpu.0 as usize) else { continue };
            let count = position.next.0.wrapping_sub(sequence.next.0);
            let count = Some(count).filter(|&count| count <= i32::MAX as u32)?;
            events = Some(events.unwrap_or(0u64).saturating_add(count.into()));
        }
        events
    }

    /// Counts events that neither of two segments has.
    pub(super) fn add_absent(&mut self, events: u64) {
        self.report.absent = self.report.absent.saturating_add(events);
    }

    /// Adds a contradiction between captures.
    pub(super) fn add_contradiction(&mut self, problem: Problem) {
        self.contradiction(problem);
    }

    /// Adds the counts of the current segment to those of the earlier ones.
    fn close_segment(&mut self) {
        let (report, base) = (&mut self.report, &mut self.base);
        base.events = report.events + report.self_generated;
        base.lost = report.lost;
        base.blind_ns = report.blind_ns;
        base.malformed = report.malformed;
        base.excluded = report.excluded;
        if let Some(witness) = report.witness.take() {
            let (drops, gaps) = base.witness.get_or_insert_default();
            *drops = drops.saturating_add(witness.drops);
            *gaps = gaps.saturating_add(witness.gaps);
        }
        if let Some(ring) = report.ring.take() {
            add_ring(base.ring.get_or_insert_default(), Some(&ring));
        }
        if let Some(mut end) = report.end.take() {
            if let Some(before) = &base.end {
                add_end(&mut end, before);
            }
            base.end = Some(end);
        }
        // The next segment shows what a CPU emitted that did not answer.
        report.unreached.retain(|(position, cpu)| {
            *position == FencePosition::Start || cpu.why != UnreachedReason::Silent
        });
        for sequence in self.cpus.iter_mut().flatten() {
            base.absent = base.absent.saturating_add(sequence.absent);
            (sequence.absent, sequence.excluded) = (0, 0);
        }
        self.absent = 0;
    }

    /// Returns the time of the latest event, and whether the end record was read.
    pub(super) fn progress(&self) -> (Option<MonoNs>, bool) {
        (self.now, self.report.end.is_some())
    }
}

impl VerifyReport {
    /// Adds the report on a later part of the recording, which does not continue this one.
    pub(super) fn merge(&mut self, later: Self) {
        let Self { lost, scope, ring, forks, unreached, witness, end, problems, .. } = later;
        self.events += later.events;
        self.self_generated += later.self_generated;
        lost.by_cause().for_each(|(cause, count)| self.lost.add(cause, count));
        self.intervals += later.intervals;
        self.missing = self.missing.saturating_add(later.missing);
        self.absent = self.absent.saturating_add(later.absent);
        self.scope = self.scope.take().or(scope);
        self.excluded = self.excluded.saturating_add(later.excluded);
        self.blind_ns = self.blind_ns.saturating_add(later.blind_ns);
        self.blinds += later.blinds;
        self.unreported_blinds += later.unreported_blinds;
        self.unreported_blind_ns = self.unreported_blind_ns.saturating_add(later.unreported_blind_ns);
        self.unobserved += later.unobserved;
        self.unobserved_ns = self.unobserved_ns.saturating_add(later.unobserved_ns);
        self.unobserved_reason = self.unobserved_reason.or(later.unobserved_reason);
        self.malformed += later.malformed;
        self.is_sealed = later.is_sealed;
        self.accounted_until = later.accounted_until.or(self.accounted_until);
        self.damaged += later.damaged;
        self.damaged_bytes = self.damaged_bytes.saturating_add(later.damaged_bytes);
        self.missing_records = self.missing_records.saturating_add(later.missing_records);
        self.problem_count += later.problem_count;
        let room = super::MAX_PROBLEMS.saturating_sub(self.problems.len());
        self.problems.extend(problems.into_iter().take(room));
        let room = (4 * MAX_CPUS as usize).saturating_sub(self.unreached.len());
        self.unreached.extend(unreached.into_iter().take(room));
        self.forks.merge(forks);
        let before = SegmentBase {
            witness: self.witness.take().map(|witness| (witness.drops, witness.gaps)),
            ring: self.ring.take().map(|ring| ring.cpus.into_iter().map(|cpu| (cpu.cpu, cpu)).collect()),
            end: self.end.take(),
            ..SegmentBase::default()
        };
        (self.witness, self.ring, self.end) = (witness, ring, end);
        before.add_to(self);
    }
}
