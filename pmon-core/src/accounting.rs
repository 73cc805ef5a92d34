//! Sequence numbers to losses: which events of which CPU never arrived.
//!
//! The kernel numbers the events of each CPU without a hole, so that a hole in what arrives is a loss, counted
//! exactly. What this cannot see by itself: events lost before a CPU's first or after its last that arrived.

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
}

impl Gap {
    /// How many events are missing: 1 to 2^31.
    pub fn count(&self) -> u64 {
        u64::from(self.last.0.wrapping_sub(self.first.0)) + 1
    }
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

    /// Takes the next event in the order of arrival. Acks count too, whoever they answer: each consumed a number.
    pub fn observe(&mut self, event: &Event) -> Continuity {
        self.observe_number(event.cpu, event.seq, event.time)
    }

    /// The same from the three fields that matter.
    #[inline]
    pub fn observe_number(&mut self, cpu: Cpu, seq: Seq, time: MonoNs) -> Continuity {
        let index = cpu.0 as usize;
        if index >= self.cpus.len() {
            if cpu.0 >= MAX_CPUS {
                return Continuity::NoSuchCpu;
            }
            self.cpus.resize(index + 1, None);
        }
        let slot = &mut self.cpus[index];
        let Some(last) = slot else {
            *slot = Some(Last { next: seq.next(), time });
            return Continuity::First;
        };
        let missing = seq.0.wrapping_sub(last.next.0);
        if missing > i32::MAX as u32 {
            self.backwards += 1;
            return Continuity::Backwards;
        }
        let gap =
            Gap { cpu, first: last.next, last: Seq(seq.0.wrapping_sub(1)), after: last.time, before: time };
        *last = Last { next: seq.next(), time };
        if missing == 0 {
            return Continuity::Next;
        }
        self.lost += u64::from(missing);
        Continuity::Gap(gap)
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
        accountant.observe_number(Cpu(cpu), Seq(seq), MonoNs(u64::from(seq)))
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
    fn an_impossible_cpu_is_refused_without_memory() {
        assert_eq!(see(&mut Accountant::new(), u32::MAX, 0), Continuity::NoSuchCpu);
    }
}
