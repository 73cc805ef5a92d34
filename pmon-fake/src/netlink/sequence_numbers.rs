//! The numbers of each CPU's events.

use pmon_core::accounting::MAX_CPUS;
use pmon_core::{Cpu, Seq};

/// Those that this kernel gives to its own events, and those that events from elsewhere bring along.
#[derive(Debug)]
pub(crate) struct SequenceNumbers(Vec<Count>);

/// Of one CPU.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    next: u32,
    /// A number was given out before the first frame came,
    numbered: bool,
    /// which it has.
    framed: bool,
    /// What is added to the numbers of frames.
    shift: u32,
}

impl SequenceNumbers {
    pub(crate) fn new(cpus: u32) -> Self {
        Self(vec![Count::default(); (cpus as usize).clamp(1, MAX_CPUS as usize)])
    }

    /// How many CPUs there are.
    pub(crate) fn cpus(&self) -> u32 {
        self.0.len() as u32
    }

    /// The next number of that CPU, if there is one.
    pub(crate) fn next(&self, cpu: Cpu) -> Option<Seq> {
        self.0.get(cpu.0 as usize).map(|count| Seq(count.next))
    }

    /// The CPU's next number is this, and no frame has come.
    pub(crate) fn set_next(&mut self, cpu: Cpu, seq: Seq) {
        if let Some(count) = self.count(cpu) {
            *count = Count { next: seq.0, ..Count::default() };
        }
    }

    /// Gives out so many numbers; the first of them.
    pub(crate) fn give(&mut self, cpu: Cpu, events: u64) -> Seq {
        let Some(count) = self.count(cpu) else { return Seq(0) };
        let first = count.next;
        count.next = first.wrapping_add(events as u32);
        if count.framed {
            count.shift = count.shift.wrapping_add(events as u32);
        } else {
            count.numbered = true;
        }
        Seq(first)
    }

    /// The number here of a frame that has number `seq` where it comes from.
    #[inline]
    pub(crate) fn of_frame(&mut self, cpu: Cpu, seq: Seq) -> Seq {
        let Some(count) = self.count(cpu) else { return seq };
        if !std::mem::replace(&mut count.framed, true) && count.numbered {
            count.shift = count.next.wrapping_sub(seq.0);
        }
        let seq = seq.0.wrapping_add(count.shift);
        count.next = seq.wrapping_add(1);
        Seq(seq)
    }

    /// So many frames have no number here: those behind them move up.
    pub(crate) fn leave_out(&mut self, cpu: Cpu, frames: u32) {
        if let Some(count) = self.count(cpu) {
            count.shift = count.shift.wrapping_sub(frames);
        }
    }

    /// A frame is not emitted. Before the first that is, there is nothing that could move up.
    pub(crate) fn silence(&mut self, cpu: Cpu) {
        if self.count(cpu).is_some_and(|count| count.framed) {
            self.leave_out(cpu, 1);
        }
    }

    #[inline]
    fn count(&mut self, cpu: Cpu) -> Option<&mut Count> {
        let index = cpu.0 as usize;
        if index >= self.0.len() && index < MAX_CPUS as usize {
            self.0.resize(index + 1, Count::default());
        }
        self.0.get_mut(index)
    }
}
