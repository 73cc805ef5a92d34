//! Records losses and times without events, and the counts that explain them.
//!
//! The heartbeat thread's checkpoints show whether the kernel emitted every event.

use pmon_core::MonoNs;
use pmon_core::accounting::{Gap, LossCause};
use pmon_core::capture::{Blind, Excluded, ForkCount, ForkReading, Loss, Record, SnapshotReason};

use super::Assembler;
use crate::liveness::checkpoint::Checkpoint;
use crate::liveness::fork_witness::ForkWitness;
use crate::pipeline::chunk::Dropped;
use crate::sink::{Sink, SinkError};

/// Maximum number of `Blind` records that are kept for comparison with later ones.
const MAX_BLINDS: usize = 32;

/// A request to the heartbeat thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecoveryRequest {
    /// Check whether the kernel emits events, and add listeners if it does not.
    Resubscribe,
    /// Count the forks again after a fence, because forks seem to be missing.
    Recount,
}

/// Fork events and readings of a recording of only a part of the events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PartialForks {
    /// Number of fork events.
    pub(super) events: u64,
    first: Option<ForkCount>,
    /// The last two readings of the count of forks.
    last: [Option<ForkCount>; 2],
}

impl PartialForks {
    fn add_reading(&mut self, count: ForkCount) {
        self.first.get_or_insert(count);
        self.last = [self.last[1], Some(count)];
    }
}

impl<S: Sink> Assembler<S> {
    /// Returns the request to the heartbeat thread, if there is a new one.
    pub(crate) fn take_request(&mut self) -> Option<RecoveryRequest> {
        self.request.take()
    }

    /// Whether a heartbeat is missing although all earlier events have been received.
    pub(crate) fn misses_heartbeats(&self) -> bool {
        self.liveness.has_missing()
    }

    /// Adds a checkpoint of the heartbeat thread. Numbers start at 1.
    ///
    /// The checkpoint must be added before the chunk that states that all events before it have
    /// been received.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn add_checkpoint(&mut self, number: u64, checkpoint: Checkpoint) -> Result<(), SinkError> {
        let since = self.settings.since;
        match checkpoint {
            // Heartbeats from before the recording do not count.
            Checkpoint::Heartbeat(heartbeat) if heartbeat.began >= since => {
                self.liveness.add_heartbeat(number, heartbeat, self.last_time.max(since));
            }
            Checkpoint::Forks { forks: ForkReading::Counted(count), fenced } if count.from >= since => {
                self.readings.push_back((number, count, fenced));
            }
            Checkpoint::Fence(fence) => self.add_division_fence(number, fence),
            Checkpoint::Forks { forks: forks @ ForkReading::Absent { .. }, .. } => {
                self.sink.record(&Record::Forks(forks))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares the fork events with each reading whose earlier events have all been received.
    pub(super) fn compare_forks(&mut self) -> Result<(), SinkError> {
        while let Some(&(number, count, fenced)) = self.readings.front()
            // An earlier missing heartbeat gives a more exact result.
            && number <= self.completed_checkpoints && !self.liveness.awaits_before(number)
        {
            self.readings.pop_front();
            // If the reading is older than the segment, an earlier segment has some of the later
            // forks, and a comparison within this segment would miss them.
            let is_of_segment = self.segment.after.is_none_or(|after| after < count.from);
            if is_of_segment {
                self.sink.record(&Record::Forks(ForkReading::Counted(count)))?;
            }
            if let Some(partial) = &mut self.partial_forks {
                if is_of_segment {
                    partial.add_reading(count);
                }
                continue;
            }
            let verdict = self.forks.add_reading(count, fenced);
            if verdict.is_suspicious {
                self.request.get_or_insert(RecoveryRequest::Recount);
            }
            if let Some(blind) = verdict.blind {
                self.add_detected_blind(blind)?;
            }
        }
        Ok(())
    }

    /// Compares the total of fork events at the end of a segment, or of the recording, of only a
    /// part of the events. Each excluded event may be a fork.
    pub(super) fn compare_partial_forks(&mut self) -> Result<(), SinkError> {
        let Some(PartialForks { events, first: Some(first), last: [Some(one), Some(other)] }) =
            self.partial_forks
        else {
            return Ok(());
        };
        let excluded: u64 = self.accountant.excluded().map(|(_, _, count)| count).sum();
        let excluded = excluded - self.segment.excluded.iter().sum::<u64>();
        let lost = self.counters.lost.since(&self.segment.counters.lost);
        let events = events + lost.total() + excluded;
        let blind = |reading| ForkWitness::whole_recording(&first, reading, events);
        match (blind(&one), blind(&other)) {
            (Some(_), Some(blind)) => self.add_detected_blind(blind),
            _ => Ok(()),
        }
    }

    /// Records a time in which the kernel did not emit all events, except for the part that the
    /// last `Blind` record covers.
    pub(super) fn add_detected_blind(&mut self, blind: Blind) -> Result<(), SinkError> {
        let last = self.blinds.back().filter(|last| blind.from < last.until && last.from < blind.until);
        let from = last.map_or(blind.from, |last| blind.from.max(last.until));
        if blind.until <= from { Ok(()) } else { self.add_blind(Blind { from, ..blind }) }
    }

    /// Records a time without events that a missing heartbeat has revealed, except for the parts
    /// that `Blind` records cover.
    ///
    /// The time begins after the last event. If forks have revealed a part of it before, that part
    /// can begin later: at the first reading of a resumed recording.
    pub(super) fn add_silence(&mut self, mut blind: Blind) -> Result<(), SinkError> {
        let mut recorded: Vec<_> = self.blinds.iter().copied().collect();
        recorded.sort_by_key(|recorded| recorded.from);
        for recorded in recorded {
            if blind.from < recorded.from.min(blind.until) {
                self.add_blind(Blind { from: blind.from, until: recorded.from.min(blind.until) })?;
            }
            blind.from = blind.from.max(recorded.until);
        }
        if blind.from < blind.until { self.add_blind(blind) } else { Ok(()) }
    }

    /// Records a time in which the kernel did not emit all events.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn add_blind(&mut self, blind: Blind) -> Result<(), SinkError> {
        if self.blinds.len() == MAX_BLINDS {
            self.blinds.pop_front();
        }
        self.blinds.push_back(blind);
        self.counters.blind_records += 1;
        self.counters.blind_ns += blind.length_ns();
        self.snapshot_reason = Some(SnapshotReason::Blind);
        self.invalidate_details();
        self.sink.record(&Record::Blind(blind))
    }

    /// Records a gap in the sequence numbers as one loss per cause.
    pub(super) fn add_gap(&mut self, gap: Gap) -> Result<(), SinkError> {
        self.counters.gaps += 1;
        self.invalidate_details();
        self.snapshot_reason.get_or_insert(SnapshotReason::Loss);
        self.liveness.add_loss(gap.cpu, gap.before);
        if self.settings.forks {
            self.forks.add_loss(gap.after, gap.before, gap.count());
        }
        let is_unknown = gap.follows_restart && self.is_resumed_without_drops;
        let causes = self.ledger.split(&gap).map(|(cause, count)| match cause {
            LossCause::Restart if is_unknown => (LossCause::Unknown, count),
            cause => (cause, count),
        });
        for loss in Loss::from_gap(gap, causes) {
            self.counters.lost.add(loss.cause, loss.count());
            self.sink.record(&Record::Loss(loss))?;
        }
        Ok(())
    }

    /// Counts events that the receiver dropped because no chunk was free.
    pub(super) fn add_dropped(&mut self, dropped: &Dropped) {
        self.counters.rejected += dropped.rejected;
        self.counters.malformed += dropped.malformed;
        dropped.events.iter().for_each(|events| self.accountant.discard(events));
        self.invalidate_details();
    }

    /// Takes over the source's count of drops. Returns whether it has increased.
    pub(super) fn set_drops(&mut self, drops: Option<u64>) -> bool {
        let Some(drops) = drops else { return false };
        self.counts_drops = true;
        let drops = drops.saturating_sub(*self.drops_before.get_or_insert(drops));
        self.ledger.note_drops(drops);
        self.counters.drops.replace(drops).is_some_and(|before| before < drops)
    }

    /// Records both counts of lost events, the source's and the one by sequence numbers, if either
    /// has changed.
    pub(super) fn record_witness(&mut self, time: MonoNs) -> Result<(), SinkError> {
        self.record_witness_of(time, self.counters.drops)
    }

    /// Records the number of excluded events of each CPU for which it has changed.
    pub(super) fn record_excluded(&mut self) -> Result<(), SinkError> {
        for (cpu, last, count) in self.accountant.excluded() {
            let index = cpu.0 as usize;
            if self.excluded.len() <= index {
                self.excluded.resize(index + 1, 0);
            }
            if std::mem::replace(&mut self.excluded[index], count) != count {
                let count = count - self.segment.excluded.get(index).copied().unwrap_or(0);
                self.sink.record(&Record::Excluded(Excluded { cpu, last, count }))?;
            }
        }
        Ok(())
    }
}
