//! Divides a recording into segments, each of which accounts for its own events.
//!
//! The state of the recording, such as the expected sequence numbers, continues over a division.
//! Only the counts that a segment states in its records start from zero: they are the differences
//! from [`SegmentStart`].

use std::collections::BTreeMap;

use pmon_core::capture::{
    ClockAnchor, CpuCounts, CpuPosition, End, Fence, FencePosition, Positions, Record, RingCounts,
    SegmentReason, UnreachedCpu, UnreachedReason, Witness,
};
use pmon_core::{Cpu, MonoNs};

use super::{Assembler, AssemblerCounters, loss};
use crate::liveness::checkpoint::DivisionFence;
use crate::sink::{Division, Sink, SinkError};

/// Maximum time in ns after a division that the previous segment waits for details.
const MAX_LATE: u64 = 2_000_000_000;

/// The counts of the recording at the start of the current segment.
#[derive(Debug, Default)]
pub(super) struct SegmentStart {
    pub(super) counters: AssemblerCounters,
    /// Number of the source's drops that belong to earlier segments.
    pub(super) drops: u64,
    /// Number of excluded events of each CPU.
    pub(super) excluded: Vec<u64>,
    /// Minimum counts of the ring for each CPU.
    ring: Vec<CpuCounts>,
    /// The latest time of an event of earlier segments; `None` in the first segment.
    pub(super) after: Option<MonoNs>,
}

/// A division that waits for an event of every CPU.
#[derive(Debug, Default)]
pub(super) struct PendingDivision {
    since: MonoNs,
    online: Vec<Cpu>,
    /// The source's count of drops before `since`.
    drops: u64,
    /// The ring's counts before `since`.
    ring: Vec<CpuCounts>,
    /// The result of the fence, with the number of its checkpoint.
    fence: Option<(u64, DivisionFence)>,
}

impl PendingDivision {
    /// Returns the CPUs that have emitted an event, or may have.
    fn emitting(&self) -> &[Cpu] {
        self.fence.as_ref().map_or(&self.online, |(_, fence)| &fence.reached)
    }
}

/// The previous segment, while details of its execs are awaited.
#[derive(Debug)]
pub(super) struct EndingSegment {
    end: End,
    deadline: MonoNs,
}

impl<S: Sink> Assembler<S> {
    /// Continues the recording of an earlier recorder with the same socket, from the positions at
    /// which its capture ends.
    ///
    /// The gap between a CPU's position and its next event consists of events that the source
    /// dropped, and of events that the earlier recorder received and did not write. Events from
    /// before this recorder started are recorded.
    #[must_use]
    pub fn resume(mut self, positions: &Positions) -> Self {
        self.accountant.resume(&positions.cpus);
        self.last_time = positions.cpus.iter().map(|cpu| cpu.time).max().unwrap_or_default();
        self.settings.since = MonoNs(0);
        self.drops_before = positions.source_drops;
        self.counts_drops = positions.source_drops.is_some();
        self.is_resumed_without_drops = !self.counts_drops;
        self
    }

    /// Prepares a division after an event of every CPU that is emitted from now on.
    ///
    /// `since` is the time now, `online` are the CPUs that are online, and `ring` are the ring's
    /// counts, read before `since`. The fence follows as [`Checkpoint::Fence`].
    ///
    /// [`Checkpoint::Fence`]: super::Checkpoint::Fence
    pub fn prepare_division(&mut self, since: MonoNs, online: Vec<Cpu>, ring: Option<Vec<CpuCounts>>) {
        let drops = self.counters.drops.unwrap_or(0);
        let ring = ring.unwrap_or_default();
        self.division = Some(PendingDivision { since, online, drops, ring, fence: None });
    }

    /// Adds the fence of a division. A fence that was requested for an earlier one is ignored.
    pub(super) fn add_division_fence(&mut self, number: u64, fence: DivisionFence) {
        if let Some(division) = self.division.as_mut().filter(|division| division.since <= fence.began) {
            division.fence = Some((number, fence));
        }
    }

    /// Whether every event before the fence of the prepared division has been received or lost.
    pub fn is_fenced(&self) -> bool {
        let fence = self.division.as_ref().and_then(|division| division.fence.as_ref());
        fence.is_some_and(|&(number, _)| number <= self.completed_checkpoints)
    }

    /// Whether the previous segment awaits details of its execs.
    pub fn awaits_late_details(&self) -> bool {
        self.ending.is_some()
    }

    /// Divides the recording here, after [`Assembler::prepare_division`] and normally after
    /// [`Assembler::is_fenced`] returns `true`.
    ///
    /// CPUs of which no event has been received since the preparation are recorded as silent.
    /// `clock` are the clocks now. `ring` are the ring's counts, read after the last chunk.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn divide(
        &mut self,
        reason: SegmentReason,
        clock: ClockAnchor,
        ring: Option<Vec<CpuCounts>>,
    ) -> Result<(), SinkError> {
        let time = clock.mono;
        self.end_previous_segment()?;
        let division = self.division.take().unwrap_or_default();
        let unreached = self.unreached(&division);
        if self.is_complete(&division, &unreached) {
            self.ledger.settle(division.drops);
            self.compare_partial_forks()?;
        }
        self.record_continuing_blind(time)?;
        self.record_settled()?;
        self.record_excluded()?;
        if let Some(counts) = ring {
            self.record_ring(&counts)?;
        }
        let drops = self.counters.drops.map(|_| self.attributed_drops());
        self.record_witness_of(time, drops)?;
        let fence = Fence { time, position: FencePosition::End, unreached };
        self.sink.record(&Record::Fence(fence.clone()))?;
        let positions = self.positions(time);
        self.sink.record(&Record::Positions(positions.clone()))?;
        let end = self.segment_end(time, drops);
        self.begin_segment(&division.ring, division.since);

        self.sink.begin_segment(&Division { reason, clock, positions })?;
        self.record_scope()?;
        self.sink.record(&Record::Fence(Fence { position: FencePosition::Start, ..fence }))?;
        self.ending = Some(EndingSegment { end, deadline: MonoNs(time.0.saturating_add(MAX_LATE)) });
        self.end_segment_if_settled()
    }

    /// States that everything that was received before `now` has been added. Ends the previous
    /// segment if it has awaited details for too long.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn advance(&mut self, now: MonoNs) -> Result<(), SinkError> {
        match &self.ending {
            Some(ending) if ending.deadline <= now => self.end_previous_segment(),
            _ => Ok(()),
        }
    }

    /// Ends the previous segment, if there is one. Details that it still awaits are missed.
    pub(super) fn end_previous_segment(&mut self) -> Result<(), SinkError> {
        if self.ending.is_some()
            && let Some(settler) = &mut self.settler
        {
            let missed = settler.give_up_late();
            missed.into_iter().try_for_each(|details| self.record_details(Box::new(details), true))?;
        }
        self.end_segment_if_settled()
    }

    /// Ends the previous segment if it awaits no details.
    pub(super) fn end_segment_if_settled(&mut self) -> Result<(), SinkError> {
        let awaits = self.settler.as_ref().is_some_and(|settler| settler.awaits_late());
        match self.ending.take_if(|_| !awaits) {
            Some(EndingSegment { end, .. }) => self.sink.end_segment(&end),
            None => Ok(()),
        }
    }

    /// Records the ring's counts since the start of the segment.
    pub(super) fn record_ring(&mut self, counts: &[CpuCounts]) -> Result<(), SinkError> {
        let start = |counts: &CpuCounts| {
            self.segment.ring.iter().find(|start| start.cpu == counts.cpu).copied().unwrap_or_default()
        };
        let since_start = |counts: &CpuCounts| CpuCounts {
            cpu: counts.cpu,
            spilled: counts.spilled.saturating_sub(start(counts).spilled),
            dropped: counts.dropped.saturating_sub(start(counts).dropped),
            excluded: counts.excluded.saturating_sub(start(counts).excluded),
        };
        let cpus = counts.iter().map(since_start).collect();
        self.sink.record(&Record::Ring(RingCounts { time: self.last_time, cpus }))
    }

    /// Records the counts of drops and gaps of the segment, if they have changed since the last
    /// such record.
    pub(super) fn record_witness_of(&mut self, time: MonoNs, drops: Option<u64>) -> Result<(), SinkError> {
        let Some(drops) = drops else { return Ok(()) };
        let lost = self.counters.lost.since(&self.segment.counters.lost);
        let drops = drops.saturating_sub(self.segment.drops);
        let witness = Witness { time, drops, gaps: lost.in_source() };
        if (witness.drops, witness.gaps) == (self.witness.drops, self.witness.gaps) {
            return Ok(());
        }
        self.witness = witness;
        self.sink.record(&Record::Witness(witness))
    }

    /// Returns the totals of the segment, given the source's count of drops at its end.
    pub(super) fn segment_end(&self, time: MonoNs, drops: Option<u64>) -> End {
        let AssemblerCounters { events, lost, rejected, malformed, blind_ns, .. } = self.counters;
        let start = &self.segment.counters;
        End {
            time,
            events: events - start.events,
            rejected: rejected - start.rejected,
            malformed: malformed - start.malformed,
            blind_ns: blind_ns - start.blind_ns,
            drops: drops.map(|drops| drops.saturating_sub(self.segment.drops)),
            lost: lost.since(&start.lost),
        }
    }

    /// Returns the position of each CPU.
    pub(super) fn positions(&self, time: MonoNs) -> Positions {
        let cpus = self.accountant.positions().collect();
        let before = self.drops_before.filter(|_| self.counts_drops);
        Positions { time, cpus, source_drops: before.map(|before| before + self.attributed_drops()) }
    }

    /// Returns the number of the source's drops that belong to this segment or earlier ones. The
    /// gaps that account for other drops will show in later segments.
    fn attributed_drops(&self) -> u64 {
        self.segment.drops.max(self.ledger.explained())
    }

    /// Makes the current counts those of the start of a segment. `ring` are the ring's counts from
    /// before `since`.
    fn begin_segment(&mut self, ring: &[CpuCounts], since: MonoNs) {
        let mut start = SegmentStart {
            counters: self.counters,
            drops: self.attributed_drops(),
            excluded: self.excluded.clone(),
            ring: std::mem::take(&mut self.segment.ring),
            after: Some(self.last_time),
        };
        // Events that a CPU lost before its last event are in the ending segment. The ring has
        // counted them by then, and maybe others, so the counts of both segments are maxima.
        for CpuPosition { cpu, .. } in self.accountant.positions().filter(|position| position.time >= since) {
            let Some(counts) = ring.iter().find(|counts| counts.cpu == cpu) else { continue };
            match start.ring.iter_mut().find(|start| start.cpu == cpu) {
                Some(start) => *start = *counts,
                None => start.ring.push(*counts),
            }
        }
        self.segment = start;
        self.witness = Witness::default();
        if let Some(partial) = &mut self.partial_forks {
            *partial = loss::PartialForks::default();
        }
        if let Some(settler) = &mut self.settler {
            settler.divide();
        }
    }

    /// Returns the CPUs of which no event from after the preparation has been received.
    fn unreached(&self, division: &PendingDivision) -> Vec<UnreachedCpu> {
        let received: BTreeMap<_, _> = self.accountant.received_until().collect();
        let is_silent = |cpu: &&Cpu| received.get(cpu).is_none_or(|&until| until < division.since);
        let silent = division.emitting().iter().filter(is_silent);
        let mut unreached = division.fence.as_ref().map_or(Vec::new(), |(_, fence)| fence.unreached.clone());
        unreached.extend(silent.map(|&cpu| UnreachedCpu { cpu, why: UnreachedReason::Silent }));
        unreached.sort_by_key(|unreached| unreached.cpu);
        unreached
    }

    /// Whether gaps have shown all losses from before the preparation: an event of every CPU from
    /// after it has been recorded.
    fn is_complete(&self, division: &PendingDivision, unreached: &[UnreachedCpu]) -> bool {
        let recorded = self.accountant.positions().map(|position| (position.cpu, position.time));
        let recorded: BTreeMap<_, _> = recorded.collect();
        let is_recorded = |cpu: &Cpu| recorded.get(cpu).is_some_and(|&time| time >= division.since);
        division.emitting().iter().all(is_recorded)
            && unreached.iter().all(|unreached| unreached.why == UnreachedReason::Offline)
    }

    /// Records the time until now in which the kernel emitted no events, if heartbeats are missing.
    fn record_continuing_blind(&mut self, time: MonoNs) -> Result<(), SinkError> {
        // If the source has dropped events that no gap shows yet, the heartbeats may be among them.
        let has_all = self.counters.drops.is_some_and(|drops| drops <= self.attributed_drops());
        match self.liveness.missing(time).filter(|_| has_all) {
            Some(blind) => self.add_silence(blind),
            None => Ok(()),
        }
    }
}
