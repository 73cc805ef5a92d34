//! What was recorded so far, per CPU: from two tallies follows exactly what was lost between them.

use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{CpuPosition, Loss, Positions, Record};
use pmon_core::wire::{ByteOrder, Event};
use pmon_core::{Cpu, MonoNs, Seq};

/// Maximum number of CPUs of a Linux kernel (`CONFIG_NR_CPUS`).
const MAX_CPUS: u32 = 8192;

/// Maximum number of events of one loss record. Numbers that are 2^31 or more apart could not be
/// ordered.
const MAX_LOSS: u64 = 1 << 30;

/// The records of one CPU so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTally {
    /// Number of the CPU's first event.
    first: Seq,
    /// Number that the CPU's next event must have.
    next: Seq,
    /// Time of the CPU's last event.
    time: MonoNs,
    /// Number of recorded events.
    events: u64,
    lost: LossByCause,
}

/// The records so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// By CPU; `None` for CPUs without events.
    cpus: Vec<Option<CpuTally>>,
    /// Number of recorded datagrams.
    pub(crate) events: u64,
    /// Number of datagrams without a readable event.
    pub(crate) malformed: u64,
    /// Lost events of all losses.
    pub(crate) lost: LossByCause,
    /// Total length of all blind spans in ns.
    pub(crate) blind_ns: u64,
    /// Whether a fence was recorded: before it, every CPU has had an event.
    pub(crate) has_fence: bool,
    /// Largest time of an event or a division.
    pub(crate) time: MonoNs,
    source_drops: Option<u64>,
}

/// What was lost of one CPU between two tallies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuLoss {
    pub(crate) cpu: Cpu,
    first: Seq,
    after: MonoNs,
    lost: LossByCause,
}

impl Tally {
    /// Returns a tally without records that continues from these positions.
    pub(crate) fn at(positions: &[CpuPosition]) -> Self {
        let mut this = Self::default();
        for &CpuPosition { cpu, next, time } in positions {
            if let Some(slot) = this.slot(cpu) {
                *slot = Some(CpuTally { first: next, next, time, ..CpuTally::default() });
            }
            this.time = this.time.max(time);
        }
        this
    }

    /// Returns the positions after all records.
    pub(crate) fn positions(&self) -> Vec<CpuPosition> {
        self.cpus_with_events()
            .map(|(cpu, tally)| CpuPosition { cpu, next: tally.next, time: tally.time })
            .collect()
    }

    /// Returns the positions with the time of the last record. If no record states the socket's
    /// count of drops, it is the count before the first record, if known, and what was lost since.
    pub(crate) fn end_positions(&self, drops_before: Option<u64>) -> Positions {
        let dropped = self.lost.of(LossCause::Socket) + self.lost.of(LossCause::Ring);
        let source_drops = self.source_drops.or(drops_before.map(|before| before.saturating_add(dropped)));
        Positions { time: self.time, cpus: self.positions(), source_drops }
    }

    /// Adds a record.
    #[inline]
    pub(crate) fn apply(&mut self, record: &Record<'_>, order: ByteOrder) {
        match record {
            Record::Event(datagram, _) => {
                self.events += 1;
                if datagram.with_event(order, |event| self.apply_event(event)).is_none() {
                    self.malformed += u64::from(datagram.is_malformed(order));
                }
            }
            record => self.apply_rare(record),
        }
    }

    /// Adds a record that is no event.
    fn apply_rare(&mut self, record: &Record<'_>) {
        match record {
            Record::Loss(loss) => {
                self.lost.add(loss.cause, loss.count());
                let Some(slot) = self.slot(loss.cpu) else { return };
                let start =
                    CpuTally { first: loss.first, next: loss.first, time: loss.after, ..CpuTally::default() };
                let tally = slot.get_or_insert(start);
                tally.lost.add(loss.cause, loss.count());
                tally.advance(loss.last.next());
            }
            Record::Blind(blind) => self.blind_ns = self.blind_ns.saturating_add(blind.length_ns()),
            Record::Fence(_) => self.has_fence = true,
            Record::Positions(positions) => {
                self.time = self.time.max(positions.time);
                self.source_drops = positions.source_drops;
            }
            _ => {}
        }
    }

    #[inline]
    fn apply_event(&mut self, event: &Event) {
        self.time = self.time.max(event.time);
        let Some(slot) = self.slot(event.cpu) else { return };
        let start = || CpuTally { first: event.seq, next: event.seq, ..CpuTally::default() };
        let tally = slot.get_or_insert_with(start);
        tally.events += 1;
        tally.advance(event.seq.next());
        tally.time = event.time;
    }

    /// Returns what `self` has and `earlier` has not, per CPU, as losses.
    pub(crate) fn lost_since(&self, earlier: &Self) -> Vec<CpuLoss> {
        let lost = self.cpus_with_events().filter_map(|(cpu, now)| {
            let before = earlier.cpu(cpu);
            let mut lost = LossByCause::default();
            lost.add(LossCause::Storage, now.events - before.map_or(0, |before| before.events));
            for (cause, count) in now.lost.by_cause() {
                lost.add(cause, count - before.map_or(0, |before| before.lost.of(cause)));
            }
            let first = before.map_or(now.first, |before| before.next);
            let after = before.map_or(MonoNs(0), |before| before.time);
            (lost.total() > 0).then_some(CpuLoss { cpu, first, after, lost })
        });
        lost.collect()
    }

    /// Returns how many of the CPU's numbers from its position in `start` up to `last` are neither
    /// recorded nor lost since `base`, or lost in `carried`.
    pub(crate) fn unaccounted(
        &self,
        start: &Self,
        base: &Self,
        carried: &[CpuLoss],
        cpu: Cpu,
        last: Seq,
    ) -> u64 {
        let Some(now) = self.cpu(cpu) else { return 0 };
        let first = start.cpu(cpu).map_or(now.first, |start| start.next);
        let (events, lost) = base.cpu(cpu).map_or((0, 0), |base| (base.events, base.lost.total()));
        let carried: u64 = carried.iter().filter(|loss| loss.cpu == cpu).map(|loss| loss.lost.total()).sum();
        let known = (now.events - events) + (now.lost.total() - lost) + carried;
        u64::from(last.next().0.wrapping_sub(first.0)).saturating_sub(known)
    }

    fn cpu(&self, cpu: Cpu) -> Option<CpuTally> {
        self.cpus.get(cpu.0 as usize).copied().flatten()
    }

    fn cpus_with_events(&self) -> impl Iterator<Item = (Cpu, CpuTally)> + '_ {
        (0..).map(Cpu).zip(&self.cpus).filter_map(|(cpu, tally)| Some((cpu, (*tally)?)))
    }

    #[inline]
    fn slot(&mut self, cpu: Cpu) -> Option<&mut Option<CpuTally>> {
        if cpu.0 >= MAX_CPUS {
            return None;
        }
        let at = cpu.0 as usize;
        if at >= self.cpus.len() {
            self.cpus.resize(at + 1, None);
        }
        self.cpus.get_mut(at)
    }
}

impl CpuTally {
    /// Moves to the position `next`, unless the CPU is past it.
    #[inline]
    fn advance(&mut self, next: Seq) {
        if next.0.wrapping_sub(self.next.0) < 1 << 31 {
            self.next = next;
        }
    }
}

impl CpuLoss {
    /// Returns the number of lost events by cause.
    pub(crate) fn by_cause(&self) -> LossByCause {
        self.lost
    }

    /// Returns the records of the loss; `before` is the time of the CPU's next event.
    pub(crate) fn records(&self, before: MonoNs) -> Vec<Loss> {
        let (mut first, mut records) = (self.first, Vec::new());
        for (cause, mut left) in self.lost.by_cause() {
            while left > 0 {
                let count = left.min(MAX_LOSS);
                let next = Seq(first.0.wrapping_add(count as u32));
                let last = Seq(next.0.wrapping_sub(1));
                records.push(Loss { cpu: self.cpu, first, last, after: self.after, before, cause });
                (first, left) = (next, left - count);
            }
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::capture::RecordedDatagram;
    use pmon_core::wire::EventBody;

    use super::*;

    fn event(cpu: u32, seq: u32, time: u64) -> Record<'static> {
        let body = EventBody::Ack { ack: 0, err: 0 };
        RecordedDatagram::Event(Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(cpu), body }).into()
    }

    fn loss(cpu: u32, first: u32, last: u32, cause: LossCause) -> Record<'static> {
        let [after, before] = [MonoNs(0); 2];
        Record::Loss(Loss { cpu: Cpu(cpu), first: Seq(first), last: Seq(last), after, before, cause })
    }

    #[test]
    fn what_was_not_written_is_lost_once_with_its_causes_across_a_wrap() {
        let order = ByteOrder::NATIVE;
        let mut now = Tally::default();
        now.apply(&event(1, u32::MAX - 2, 10), order);
        let written = now.clone();
        now.apply(&event(1, u32::MAX - 1, 11), order);
        now.apply(&loss(1, u32::MAX, 1, LossCause::Socket), order);
        now.apply(&event(1, 2, 15), order);
        now.apply(&event(0, 7, 16), order);
        let lost = now.lost_since(&written);
        let [a, b] = &lost[..] else { panic!("{lost:?}") };
        let numbers = |loss: &CpuLoss| -> Vec<_> {
            loss.records(MonoNs(20)).iter().map(|loss| (loss.first.0, loss.last.0, loss.cause)).collect()
        };
        assert_eq!(numbers(a), [(7, 7, LossCause::Storage)]);
        // The causes are exact; which numbers had which cause is not known.
        let [socket, storage] = [LossCause::Socket, LossCause::Storage];
        assert_eq!(numbers(b), [(u32::MAX - 1, 0, socket), (1, 2, storage)]);
        assert_eq!(now.lost_since(&now), []);
        assert_eq!(now.positions()[1], CpuPosition { cpu: Cpu(1), next: Seq(3), time: MonoNs(15) });
    }

    #[test]
    fn a_loss_of_more_events_than_there_are_numbers_is_counted_in_full() {
        let order = ByteOrder::NATIVE;
        let mut now = Tally::default();
        now.apply(&event(0, 9, 1), order);
        let written = now.clone();
        for part in 0..5_u32 {
            let first = (part << 30).wrapping_add(10);
            now.apply(&loss(0, first, first.wrapping_add((1 << 30) - 1), LossCause::Socket), order);
        }
        let [lost] = &now.lost_since(&written)[..] else { panic!() };
        let mut read = written.clone();
        lost.records(MonoNs(2)).into_iter().for_each(|loss| read.apply(&Record::Loss(loss), order));
        assert_eq!(read.lost.of(LossCause::Socket), 5 << 30);
        assert_eq!(read.positions(), now.positions());
    }

    #[test]
    fn numbers_that_are_neither_recorded_nor_lost_are_excluded() {
        let order = ByteOrder::NATIVE;
        let mut now = Tally::default();
        now.apply(&event(0, 10, 1), order);
        let written = now.clone();
        now.apply(&event(0, 13, 2), order);
        let base = now.clone();
        let carried = now.lost_since(&written);
        now.apply(&event(0, 20, 3), order);
        now.apply(&loss(0, 21, 22, LossCause::Socket), order);
        now.apply(&event(0, 23, 4), order);
        // Of 11 to 23, 13 was lost to the storage, 20 and 23 are recorded, 21 and 22 were lost.
        assert_eq!(now.unaccounted(&written, &base, &carried, Cpu(0), Seq(23)), 13 - 5);
    }
}
