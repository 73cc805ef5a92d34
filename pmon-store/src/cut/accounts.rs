//! The sequence numbers and the losses of an excerpt.

use pmon_core::accounting::{LossByCause, LossCause, MAX_CPUS};
use pmon_core::capture::{CpuPosition, Excluded, Loss, OutlinedCpu, Witness};
use pmon_core::{Cpu, MonoNs, Seq};

/// The sequence numbers of one CPU.
#[derive(Clone, Copy, Debug, Default)]
struct CpuAccount {
    /// Number after the last one that the sources account for within the range, and the time of the
    /// last event. `None` before the first.
    end: Option<(Seq, MonoNs)>,
    /// Number after the last one that the excerpt accounts for. `None` before the first.
    next: Option<Seq>,
    /// Count of numbers up to `next`.
    span: u64,
    /// Count of these that belong to an event or a loss of the excerpt.
    recorded: u64,
    /// Whether the sources show which number follows the range, so no event within it is missing.
    is_closed: bool,
}

impl CpuAccount {
    /// Accounts for the numbers up to `next`. A number from before the present position changes
    /// nothing.
    fn advance(&mut self, next: Seq) {
        let ahead = self.next.map_or(0, |known| next.0.wrapping_sub(known.0));
        if self.next.is_none() || ahead <= i32::MAX as u32 {
            self.span += u64::from(ahead);
            self.next = Some(next);
        }
    }

    fn extend_source(&mut self, next: Seq, time: MonoNs) {
        let (known, latest) = self.end.unwrap_or((next, time));
        let is_ahead = next.0.wrapping_sub(known.0) <= i32::MAX as u32;
        self.end = Some((if is_ahead { next } else { known }, latest.max(time)));
    }

    fn record(&mut self, first: Seq, last: Seq, count: u64) {
        if self.next.is_none() {
            self.next = Some(first);
        }
        self.advance(last.next());
        self.recorded += count;
    }
}

/// Accounts for every sequence number of an excerpt.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    cpus: Vec<CpuAccount>,
    /// Number of recorded datagrams.
    pub(super) events: u64,
    /// Number of datagrams without a readable event.
    pub(super) malformed: u64,
    /// Total length of the blind spans in ns.
    pub(super) blind_ns: u64,
    /// Lost events.
    pub(super) lost: LossByCause,
    drops: DropCounts,
}

/// The counts of drops in the sources.
#[derive(Clone, Copy, Debug, Default)]
struct DropCounts {
    /// Whether the sources have such counts.
    is_known: bool,
    /// Drops within the range that no gap explains, in the captures before the current one.
    unexplained: u64,
    /// Drops that no gap explains, as the current capture counts them: before the range, and until
    /// its last count.
    before: u64,
    last: u64,
}

impl Accounts {
    /// Sets the positions from which the excerpt continues.
    pub(super) fn continue_from(&mut self, positions: &[CpuPosition]) {
        for position in positions {
            if let Some(cpu) = self.cpu(position.cpu) {
                cpu.end = Some((position.next, position.time));
                cpu.next = Some(position.next);
            }
        }
    }

    /// Counts an event of the range, whether the excerpt contains it or not.
    pub(super) fn observe(&mut self, cpu: Cpu, seq: Seq, time: MonoNs) {
        if let Some(cpu) = self.cpu(cpu) {
            cpu.extend_source(seq.next(), time);
        }
    }

    /// Counts an event of the excerpt.
    pub(super) fn record_event(&mut self, cpu: Cpu, seq: Seq) {
        if let Some(cpu) = self.cpu(cpu) {
            cpu.record(seq, seq, 1);
        }
    }

    /// Counts the events of a CPU in a copied block.
    pub(super) fn record_outlined(&mut self, outlined: &OutlinedCpu, time: MonoNs) {
        if let Some(cpu) = self.cpu(outlined.cpu) {
            cpu.extend_source(outlined.last.next(), time);
            cpu.record(outlined.first, outlined.last, outlined.events);
        }
    }

    /// Counts a loss of the excerpt.
    pub(super) fn record_loss(&mut self, loss: &Loss) {
        self.lost.add(loss.cause, loss.count());
        if let Some(cpu) = self.cpu(loss.cpu) {
            cpu.extend_source(loss.last.next(), loss.after);
            cpu.record(loss.first, loss.last, loss.count());
        }
    }

    /// Counts an event or a loss after the range, which shows that no event within it is missing.
    pub(super) fn close(&mut self, cpu: Cpu) {
        if let Some(cpu) = self.cpu(cpu) {
            cpu.is_closed = true;
        }
    }

    /// Returns whether each CPU has shown an event after the range.
    pub(super) fn is_closed(&self) -> bool {
        self.cpus.iter().all(|cpu| cpu.end.is_none() || cpu.is_closed)
    }

    /// Returns the CPUs that have not shown an event after the range.
    pub(super) fn open_cpus(&self) -> impl Iterator<Item = Cpu> {
        let open = |(_, cpu): &(usize, &CpuAccount)| cpu.end.is_some() && !cpu.is_closed;
        self.cpus.iter().enumerate().filter(open).map(|(index, _)| Cpu(index as u32))
    }

    /// Returns the events of the range that are absent before a source which continues at these
    /// positions at the time `before`: the disk has lost them.
    pub(super) fn absent_before(&self, positions: &[CpuPosition], before: MonoNs) -> Vec<Loss> {
        let absent = positions.iter().filter_map(|position| {
            let cpu = self.cpus.get(position.cpu.0 as usize).filter(|cpu| !cpu.is_closed)?;
            let (first, after) = cpu.end?;
            let is_absent = (1..=i32::MAX as u32).contains(&position.next.0.wrapping_sub(first.0));
            let last = Seq(position.next.0.wrapping_sub(1));
            let cause = LossCause::Storage;
            is_absent.then_some(Loss { cpu: position.cpu, first, last, after, before, cause })
        });
        absent.collect()
    }

    /// Counts the drops that a capture states. `is_before` means before the range.
    pub(super) fn add_witness(&mut self, witness: &Witness, is_before: bool) {
        let drops = &mut self.drops;
        drops.is_known = true;
        drops.last = witness.drops.saturating_sub(witness.gaps);
        if is_before {
            drops.before = drops.last;
        }
    }

    /// States that the sources count drops.
    pub(super) fn set_drops_known(&mut self) {
        self.drops.is_known = true;
    }

    /// Ends a capture, because the next one counts drops from zero.
    pub(super) fn end_capture(&mut self) {
        let drops = &mut self.drops;
        drops.unexplained += drops.last.saturating_sub(drops.before);
        (drops.before, drops.last) = (0, 0);
    }

    /// Returns the counts of drops and gaps; `None` if the sources do not count drops.
    pub(super) fn witness(&self, time: MonoNs) -> Option<Witness> {
        let gaps = self.lost.in_source();
        let drops = match self.drops.unexplained {
            0 => self.lost.of(LossCause::Socket).min(gaps),
            unexplained => gaps + unexplained,
        };
        self.drops.is_known.then_some(Witness { time, drops, gaps })
    }

    /// Returns the number of events of each CPU that the excerpt lacks because they are out of its
    /// scope.
    pub(super) fn excluded(&mut self) -> Vec<Excluded> {
        let mut all = Vec::new();
        for (index, cpu) in self.cpus.iter_mut().enumerate() {
            let (Some((end, _)), Some(_)) = (cpu.end, cpu.next) else { continue };
            cpu.advance(end);
            let (Some(next), count) = (cpu.next, cpu.span - cpu.recorded.min(cpu.span)) else { continue };
            if count > 0 {
                all.push(Excluded { cpu: Cpu(index as u32), last: Seq(next.0.wrapping_sub(1)), count });
            }
        }
        all
    }

    /// Clears the sequence numbers, because the next ones do not continue them.
    pub(super) fn reset_numbers(&mut self) {
        self.cpus.clear();
    }

    /// Returns the positions at the end of the excerpt.
    pub(super) fn positions(&self) -> Vec<CpuPosition> {
        let positions = self.cpus.iter().enumerate().filter_map(|(index, cpu)| {
            let (next, time) = cpu.end?;
            Some(CpuPosition { cpu: Cpu(index as u32), next, time })
        });
        positions.collect()
    }

    fn cpu(&mut self, cpu: Cpu) -> Option<&mut CpuAccount> {
        let index = cpu.0 as usize;
        if cpu.0 < MAX_CPUS && index >= self.cpus.len() {
            self.cpus.resize(index + 1, CpuAccount::default());
        }
        self.cpus.get_mut(index)
    }
}
