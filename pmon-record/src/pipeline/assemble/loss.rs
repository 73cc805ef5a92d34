//! Records losses, and the counts that explain them.

use pmon_core::MonoNs;
use pmon_core::accounting::Gap;
use pmon_core::capture::{Excluded, Loss, Record, SnapshotReason, Witness};

use super::Assembler;
use crate::pipeline::chunk::Dropped;
use crate::sink::{Sink, SinkError};

impl<S: Sink> Assembler<S> {
    /// Records a gap in the sequence numbers as one loss per cause.
    pub(super) fn add_gap(&mut self, gap: Gap) -> Result<(), SinkError> {
        self.counters.gaps += 1;
        self.invalidate_details();
        self.snapshot_reason.get_or_insert(SnapshotReason::Loss);
        self.liveness.add_loss(gap.cpu, gap.before);
        if self.settings.forks {
            self.forks.add_loss(gap.after, gap.before, gap.count());
        }
        let causes = self.ledger.split(&gap);
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
        let drops = drops.saturating_sub(self.settings.drops_before);
        self.ledger.note_drops(drops);
        self.counters.drops.replace(drops).is_some_and(|before| before < drops)
    }

    /// Records both counts of lost events, the source's and the one by sequence numbers, if either
    /// has changed.
    pub(super) fn record_witness(&mut self, time: MonoNs) -> Result<(), SinkError> {
        let Some(drops) = self.counters.drops else { return Ok(()) };
        let witness = Witness { time, drops, gaps: self.counters.lost.in_source() };
        if (witness.drops, witness.gaps) == (self.witness.drops, self.witness.gaps) {
            return Ok(());
        }
        self.witness = witness;
        self.sink.record(&Record::Witness(witness))
    }

    /// Records the number of excluded events of each CPU for which it has changed.
    pub(super) fn record_excluded(&mut self) -> Result<(), SinkError> {
        for (cpu, last, count) in self.accountant.excluded() {
            let index = cpu.0 as usize;
            if self.excluded.len() <= index {
                self.excluded.resize(index + 1, 0);
            }
            if std::mem::replace(&mut self.excluded[index], count) != count {
                self.sink.record(&Record::Excluded(Excluded { cpu, last, count }))?;
            }
        }
        Ok(())
    }
}
