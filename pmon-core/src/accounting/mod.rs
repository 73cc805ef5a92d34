//! Sequence numbers to losses: which events of which CPU never arrived.
//!
//! The kernel numbers the events of each CPU without a hole, so that a hole in what arrives is a loss, counted
//! exactly. What this cannot see by itself: events lost before a CPU's first or after its last that arrived.

mod cause;

pub use cause::{LossByCause, LossCause, LossLedger};

use crate::ids::{Cpu, MonoNs, Seq};
use crate::wire::Event;

/// CPUs beyond this number are not tracked; Linux supports 8192 at the most (`CONFIG_NR_CPUS`).
pub const MAX_CPUS: u32 = 8192;

/// Consecutive events of one CPU that were emitted and did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The CPU that emitted them.
    pub cpu: Cpu,
    /// The first missing number.
    pub first: Seq,
    /// The last missing number.
    pub last: Seq,
    /// When the event before the gap happened.
    pub after: MonoNs,
    /// When the event that ended the gap happened.
    pub before: MonoNs,
    /// So many of the lost ones arrived, and were dropped by the recorder.
    pub discarded: u64,
    /// So many are not lost: nobody wanted them.
    pub excluded: u64,
}

impl Gap {
    /// How many events are lost, of up to 2^31 that are missing.
    pub fn count(&self) -> u64 {
        u64::from(self.last.0.wrapping_sub(self.first.0)) + 1 - self.excluded
    }
}

/// Events of one CPU that arrived and were dropped by the recorder, in a row: nothing of that CPU between them was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// The CPU that emitted them.
    pub cpu: Cpu,
    /// Number and time of the first,
    pub first: (Seq, MonoNs),
    /// and of the last.
    pub last: (Seq, MonoNs),
    /// How many.
    pub count: u64,
    /// As in [`Accountant::observe`], of the last.
    pub excluded: u32,
}

/// What one event's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// The first event of its CPU: nothing can be said of what was before.
    First,
    /// It follows the event before.
    Next,
    /// Events are missing before it.
    Gap(Gap),
    /// Its number was already passed: a duplicate, a forgery, or a count that started anew. The expectation is
    /// left as it was.
    Backwards,
    /// Its CPU number cannot be.
    NoSuchCpu,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    next: Seq,
    time: MonoNs,
    /// As of the last event, and from the first to it.
    excluded: u32,
    all_left_out: u64,
    /// What has been dropped since, of which the next event's gap will tell.
    discarded: u64,
    /// The last that was dropped.
    latest: (Seq, MonoNs, u32),
}

impl Last {
    fn new(seq: Seq, time: MonoNs, excluded: u32) -> Self {
        let latest = (seq, time, excluded);
        Self { next: seq.next(), time, excluded, all_left_out: 0, discarded: 0, latest }
    }

    /// Goes on to an event, in which `missing` numbers come between. The gap, if any of them is lost.
    fn advance(&mut self, cpu: Cpu, (seq, time, excluded): (Seq, MonoNs, u32), missing: u32) -> Option<Gap> {
        let not_wanted = u64::from(excluded.wrapping_sub(self.excluded).min(missing));
        let lost = u64::from(missing) - not_wanted;
        let gap = Gap {
            cpu,
            first: self.next,
            last: Seq(seq.0.wrapping_sub(1)),
            after: self.time,
            before: time,
            discarded: self.discarded.min(lost),
            excluded: not_wanted,
        };
        *self = Self { all_left_out: self.all_left_out + not_wanted, ..Self::new(seq, time, excluded) };
        (lost > 0).then_some(gap)
    }
}

/// Follows the sequence numbers of all CPUs.
#[derive(Clone, Debug, Default)]
pub struct Accountant {
    cpus: Vec<Option<Last>>,
    lost: u64,
    backwards: u64,
}

impl Accountant {
    /// An accountant that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next event in the order of arrival. Acks count too, whoever they answer: each consumed a number. The source has
    /// left out `excluded` events of that CPU until then, because they are not wanted; the count wraps.
    pub fn observe(&mut self, event: &Event, excluded: u32) -> Continuity {
        self.observe_number(event.cpu, event.seq, event.time, excluded)
    }

    /// The same from the three fields that matter.
    #[inline]
    pub fn observe_number(&mut self, cpu: Cpu, seq: Seq, time: MonoNs, excluded: u32) -> Continuity {
        let Some(slot) = self.slot(cpu) else { return Continuity::NoSuchCpu };
        let Some(last) = slot else {
            *slot = Some(Last::new(seq, time, excluded));
            return Continuity::First;
        };
        let missing = seq.0.wrapping_sub(last.next.0);
        if missing > i32::MAX as u32 {
            self.backwards += 1;
            return Continuity::Backwards;
        }
        let Some(gap) = last.advance(cpu, (seq, time, excluded), missing) else { return Continuity::Next };
        self.lost += gap.count();
        Continuity::Gap(gap)
    }

    /// Takes events that arrived and were dropped by the recorder. They are lost from the next event of their CPU on, or
    /// from [`Accountant::finish`].
    pub fn discard(&mut self, discarded: &Discarded) {
        let Some(slot) = self.slot(discarded.cpu) else { return };
        let (Seq(first), time) = discarded.first;
        let before = Seq(first.wrapping_sub(1));
        let last = slot.get_or_insert_with(|| Last::new(before, time, discarded.excluded));
        last.discarded += discarded.count;
        last.latest = (discarded.last.0, discarded.last.1, discarded.excluded);
    }

    /// At the end: the gaps that no event has ended, because the last events of a CPU were dropped by the recorder.
    pub fn finish(&mut self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (cpu, last) in self.cpus.iter_mut().enumerate() {
            let Some(last) = last.as_mut().filter(|last| last.discarded > 0) else { continue };
            let (seq, before, excluded) = last.latest;
            let missing = seq.next().0.wrapping_sub(last.next.0);
            // As if an event came behind the last that was dropped.
            let gap = last.advance(Cpu(cpu as u32), (seq.next(), before, excluded), missing);
            last.next = seq.next();
            let Some(gap) = gap else { continue };
            self.lost += gap.count();
            gaps.push(gap);
        }
        gaps
    }

    fn slot(&mut self, cpu: Cpu) -> Option<&mut Option<Last>> {
        let index = cpu.0 as usize;
        if index >= self.cpus.len() && cpu.0 < MAX_CPUS {
            self.cpus.resize(index + 1, None);
        }
        self.cpus.get_mut(index)
    }

    /// Of each CPU, its last number so far, and how many were left out since its first.
    pub fn excluded(&self) -> impl Iterator<Item = (Cpu, Seq, u64)> {
        let known =
            self.cpus.iter().enumerate().filter_map(|(cpu, last)| Some((Cpu(cpu as u32), last.as_ref()?)));
        known.map(|(cpu, last)| (cpu, Seq(last.next.0.wrapping_sub(1)), last.all_left_out))
    }

    /// Whether it has taken an event of that CPU.
    pub fn knows(&self, cpu: Cpu) -> bool {
        self.cpus.get(cpu.0 as usize).is_some_and(Option::is_some)
    }

    /// Events missing so far, over all CPUs.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Events whose number went backwards so far.
    pub fn backwards(&self) -> u64 {
        self.backwards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(accountant: &mut Accountant, cpu: u32, seq: u32) -> Continuity {
        accountant.observe_number(Cpu(cpu), Seq(seq), MonoNs(u64::from(seq)), 0)
    }

    #[test]
    fn a_gap_names_its_first_and_last_number_and_its_neighbours() {
        let mut accountant = Accountant::new();
        assert_eq!(see(&mut accountant, 1, 10), Continuity::First);
        assert_eq!(see(&mut accountant, 1, 11), Continuity::Next);
        let Continuity::Gap(gap) = see(&mut accountant, 1, 15) else { panic!("no gap") };
        assert_eq!((gap.first, gap.last, gap.count()), (Seq(12), Seq(14), 3));
        assert_eq!((gap.cpu, gap.after, gap.before), (Cpu(1), MonoNs(11), MonoNs(15)));
        assert_eq!(accountant.lost(), 3);
    }

    #[test]
    fn the_count_goes_on_across_the_wrap() {
        let mut accountant = Accountant::new();
        see(&mut accountant, 0, u32::MAX - 1);
        assert_eq!(see(&mut accountant, 0, u32::MAX), Continuity::Next);
        assert_eq!(see(&mut accountant, 0, 0), Continuity::Next);
        let mut accountant = Accountant::new();
        see(&mut accountant, 0, u32::MAX - 1);
        let Continuity::Gap(gap) = see(&mut accountant, 0, 2) else { panic!("no gap") };
        assert_eq!((gap.first, gap.last, gap.count()), (Seq(u32::MAX), Seq(1), 3));
    }

    #[test]
    fn cpus_are_counted_apart() {
        let mut accountant = Accountant::new();
        for seq in 0..5 {
            see(&mut accountant, 0, seq);
            see(&mut accountant, 7, 1000 + seq);
        }
        assert_eq!(accountant.lost(), 0);
    }

    #[test]
    fn a_number_seen_before_loses_nothing_and_changes_nothing() {
        let mut accountant = Accountant::new();
        see(&mut accountant, 0, 5);
        see(&mut accountant, 0, 6);
        assert_eq!(see(&mut accountant, 0, 5), Continuity::Backwards);
        assert_eq!(see(&mut accountant, 0, 7), Continuity::Next);
        assert_eq!((accountant.lost(), accountant.backwards()), (0, 1));
    }

    #[test]
    fn what_the_recorder_dropped_is_part_of_the_gap_around_it() {
        let discarded = |cpu, first, last, count| {
            let at = |seq| (Seq(seq), MonoNs(seq.into()));
            Discarded { cpu: Cpu(cpu), first: at(first), last: at(last), count, excluded: 0 }
        };
        let mut accountant = Accountant::new();
        see(&mut accountant, 0, 10);
        accountant.discard(&discarded(0, 12, 15, 3));
        accountant.discard(&discarded(0, 16, 16, 1));
        let Continuity::Gap(gap) = see(&mut accountant, 0, 20) else { panic!("no gap") };
        assert_eq!((gap.first, gap.last, gap.discarded), (Seq(11), Seq(19), 4));

        // Without an event behind, and of a CPU without one before.
        accountant.discard(&discarded(0, 22, 23, 2));
        accountant.discard(&discarded(3, 100, 104, 4));
        let gaps = accountant.finish();
        let sums: Vec<_> = gaps.iter().map(|gap| (gap.cpu.0, gap.count(), gap.discarded)).collect();
        assert_eq!(sums, [(0, 3, 2), (3, 5, 4)]);
        assert_eq!((gaps[1].first, gaps[1].after, gaps[1].before), (Seq(100), MonoNs(100), MonoNs(104)));
        assert_eq!(accountant.lost(), 9 + 3 + 5);
        assert!(accountant.finish().is_empty());
        assert_eq!(see(&mut accountant, 3, 105), Continuity::Next);
    }

    #[test]
    fn what_is_not_wanted_is_not_lost() {
        let mut accountant = Accountant::new();
        let mut see =
            |seq, excluded| accountant.observe_number(Cpu(0), Seq(seq), MonoNs(seq.into()), excluded);
        assert_eq!(see(u32::MAX, u32::MAX - 1), Continuity::First);
        assert_eq!(see(3, 1), Continuity::Next);
        assert_eq!(see(4, 1), Continuity::Next);
        let Continuity::Gap(gap) = see(10, 4) else { panic!("no gap") };
        assert_eq!((gap.first, gap.last, gap.count(), gap.excluded), (Seq(5), Seq(9), 2, 3));
        let last = (Seq(14), MonoNs(14));
        accountant.discard(&Discarded {
            cpu: Cpu(0),
            first: (Seq(12), MonoNs(12)),
            last,
            count: 2,
            excluded: 6,
        });
        let gaps = accountant.finish();
        assert_eq!(gaps.iter().map(|gap| (gap.count(), gap.discarded)).collect::<Vec<_>>(), [(2, 2)]);
        assert_eq!(accountant.excluded().collect::<Vec<_>>(), [(Cpu(0), Seq(14), 3 + 3 + 2)]);
        assert_eq!(accountant.lost(), 4);
    }

    #[test]
    fn an_impossible_cpu_is_refused_without_memory() {
        assert_eq!(see(&mut Accountant::new(), u32::MAX, 0), Continuity::NoSuchCpu);
    }
}
