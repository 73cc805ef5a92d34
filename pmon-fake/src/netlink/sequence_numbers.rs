//! The per-CPU sequence numbers of events.

use pmon_core::accounting::MAX_CPUS;
use pmon_core::{Cpu, Seq};

/// The sequence number of each CPU's next event.
///
/// Events of this kernel take the next number. External events, from a capture, keep the
/// differences between their numbers: each is shifted by the count of this kernel's own events on
/// its CPU. An external event of a CPU above [`MAX_CPUS`] keeps its number.
#[derive(Debug, Default)]
pub(crate) struct SequenceNumbers(Vec<CpuCounter>);

/// The counter of one CPU.
#[derive(Clone, Copy, Debug, Default)]
struct CpuCounter {
    next: u32,
    /// Whether this kernel took a number before the first external event.
    allocated_before_external: bool,
    /// Whether an external event was emitted.
    has_external: bool,
    /// Added to the numbers of external events.
    shift: u32,
}

impl SequenceNumbers {
    /// Creates counters that begin with 0 for `cpus` CPUs, at least 1.
    pub(crate) fn new(cpus: u32) -> Self {
        Self(vec![CpuCounter::default(); (cpus as usize).clamp(1, MAX_CPUS as usize)])
    }

    pub(crate) fn cpus(&self) -> u32 {
        self.0.len() as u32
    }

    /// Returns the next number of `cpu`, or `None` if there is no such CPU.
    pub(crate) fn next(&self, cpu: Cpu) -> Option<Seq> {
        self.0.get(cpu.0 as usize).map(|counter| Seq(counter.next))
    }

    /// Restarts the counter of `cpu` at `seq`, as if no external event had been emitted.
    pub(crate) fn set_next(&mut self, cpu: Cpu, seq: Seq) {
        if let Some(counter) = self.counter(cpu) {
            *counter = CpuCounter { next: seq.0, ..CpuCounter::default() };
        }
    }

    /// Takes the next `events` numbers for events of this kernel and returns the first.
    pub(crate) fn allocate(&mut self, cpu: Cpu, events: u64) -> Seq {
        let Some(counter) = self.counter(cpu) else { return Seq(0) };
        let first = counter.next;
        counter.next = first.wrapping_add(events as u32);
        if counter.has_external {
            counter.shift = counter.shift.wrapping_add(events as u32);
        } else {
            counter.allocated_before_external = true;
        }
        Seq(first)
    }

    /// Returns the number that an external event with number `seq` gets here.
    #[inline]
    pub(crate) fn map_external(&mut self, cpu: Cpu, seq: Seq) -> Seq {
        let Some(counter) = self.counter(cpu) else { return seq };
        if !std::mem::replace(&mut counter.has_external, true) && counter.allocated_before_external {
            counter.shift = counter.next.wrapping_sub(seq.0);
        }
        let seq = seq.0.wrapping_add(counter.shift);
        counter.next = seq.wrapping_add(1);
        Seq(seq)
    }

    /// Closes the gap that `events` omitted external events would leave.
    pub(crate) fn omit(&mut self, cpu: Cpu, events: u32) {
        if let Some(counter) = self.counter(cpu) {
            counter.shift = counter.shift.wrapping_sub(events);
        }
    }

    /// Closes the gap of an external event that this kernel does not emit.
    ///
    /// Before the first external event that is emitted there is no number to compare with, and so
    /// no gap.
    pub(crate) fn omit_suppressed(&mut self, cpu: Cpu) {
        if self.counter(cpu).is_some_and(|counter| counter.has_external) {
            self.omit(cpu, 1);
        }
    }

    #[inline]
    fn counter(&mut self, cpu: Cpu) -> Option<&mut CpuCounter> {
        let index = cpu.0 as usize;
        if index >= self.0.len() && cpu.0 < MAX_CPUS {
            self.0.resize(index + 1, CpuCounter::default());
        }
        self.0.get_mut(index)
    }
}
