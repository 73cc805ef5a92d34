//! Decides which records other than events and details belong to the excerpt.

use pmon_core::capture::{FencePosition, ForkReading, Record, Unobserved, UnreachedCpu};

use super::{Copier, SourceEnd};

/// Whether the excerpt contains a note.
pub(super) enum KeptNote {
    Unchanged,
    Omitted,
    Changed(Record<'static>),
}

impl Copier<'_> {
    /// Accounts for a record that is neither an event nor details. Returns whether the excerpt
    /// contains it.
    pub(super) fn note(&mut self, record: &Record<'_>) -> KeptNote {
        let range = self.range;
        let kept = |is_kept: bool| if is_kept { KeptNote::Unchanged } else { KeptNote::Omitted };
        match record {
            Record::Loss(loss) => {
                let is_within = range.overlaps(loss.after, loss.before);
                if is_within {
                    self.accounts.record_loss(loss);
                } else if loss.after > range.until {
                    self.accounts.close(loss.cpu);
                }
                kept(is_within)
            }
            Record::Blind(blind) => {
                let is_within = range.overlaps(blind.from, blind.until);
                if is_within {
                    self.accounts.blind_ns = self.accounts.blind_ns.saturating_add(blind.length_ns());
                }
                kept(is_within)
            }
            Record::Unobserved(span) => {
                if !range.overlaps(span.from, span.until) {
                    return KeptNote::Omitted;
                }
                let (from, until) = (span.from.max(range.from), span.until.min(range.until));
                let span = Unobserved { from, until, ..*span };
                self.unobserved.push(span);
                KeptNote::Changed(Record::Unobserved(span))
            }
            Record::Fence(fence) => {
                if fence.position == FencePosition::End {
                    self.end.unreached = Some(fence.unreached.clone());
                }
                KeptNote::Omitted
            }
            Record::Witness(witness) => {
                self.accounts.add_witness(witness, witness.time < range.from);
                KeptNote::Omitted
            }
            Record::Forks(ForkReading::Counted(count)) => {
                kept(range.from <= count.from && count.until <= range.until && self.selected.is_none())
            }
            Record::Forks(ForkReading::Absent { .. }) => kept(!self.is_past),
            Record::Clock(clock) => kept(range.contains(Some(clock.mono))),
            Record::Snapshot(_) => kept(self.has_begun && !self.is_past && self.splicer.keeps(record)),
            Record::End(end) => {
                if end.drops.is_some() {
                    self.accounts.set_drops_known();
                }
                self.end.end = Some(*end);
                KeptNote::Omitted
            }
            Record::Unknown { .. } => kept(self.has_begun && !self.is_past),
            // The excerpt has records of these kinds of its own.
            _ => KeptNote::Omitted,
        }
    }

    /// Returns the CPUs of which events at the end of the range may be missing, given the end of
    /// the last source.
    pub(in crate::cut) fn unreached(&self, end: &SourceEnd) -> Vec<UnreachedCpu> {
        use pmon_core::capture::UnreachedReason::Silent;
        if !end.is_complete {
            return Vec::new();
        }
        match (&end.unreached, end.end) {
            // The source states which CPUs it knows nothing about.
            (Some(unreached), _) => {
                let open: Vec<_> = self.accounts.open_cpus().collect();
                let is_open =
                    |unreached: &&UnreachedCpu| unreached.why != Silent || open.contains(&unreached.cpu);
                unreached.iter().filter(is_open).copied().collect()
            }
            (None, Some(_)) => Vec::new(),
            (None, None) => self.accounts.open_cpus().map(|cpu| UnreachedCpu { cpu, why: Silent }).collect(),
        }
    }
}
