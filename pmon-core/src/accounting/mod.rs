//! Sequence numbers to losses: which events of which CPU did not arrive.
//!
//! The kernel numbers the events of each CPU consecutively, so a gap in the received numbers is a
//! loss with an exact count. Gaps do not show events lost before the first received event of a CPU
//! or after its last one.

mod cause;

pub use cause::{LossByCause, LossCause, LossLedger};

use crate::capture::CpuPosition;
use crate::ids::{Cpu, MonoNs, Seq};
use crate::wire::Event;

/// Number of CPUs that are tracked; Linux supports at most 8192 (`CONFIG_NR_CPUS`).
pub const MAX_CPUS: u32 = 8192;

/// Consecutive sequence numbers of one CPU whose events did not arrive or were not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// CPU that emitted the events.
    pub cpu: Cpu,
    /// First missing number.
    pub first: Seq,
    /// Last missing number.
    pub last: Seq,
    /// Time of the event before the gap.
    pub after: MonoNs,
    /// Time of the event after the gap.
    pub before: MonoNs,
    /// Number of lost events that arrived and that the recorder discarded.
    pub discarded: u64,
    /// Number of events that are not lost, because the recorder's scope excludes them.
    pub excluded: u64,
    /// Whether the event before the gap was recorded by an earlier recorder with the same source.
    pub follows_restart: bool,
}

impl Gap {
    /// Returns the number of lost events, at most 2^31.
    pub fn count(&self) -> u64 {
        u64::from(self.last.0.wrapping_sub(self.first.0)) + 1 - self.excluded
    }
}

/// Events of one CPU that arrived and that the recorder discarded, without a kept event of that CPU
/// between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// CPU that emitted the events.
    pub cpu: Cpu,
    /// Sequence number and time of the first event.
    pub first: (Seq, MonoNs),
    /// Sequence number and time of the last event.
    pub last: (Seq, MonoNs),
    /// Number of events.
    pub count: u64,
    /// Count of excluded events as of the first event, as in [`Accountant::observe`].
    pub excluded_before: u32,
    /// The same count as of the last event.
    pub excluded: u32,
}

/// How an event's sequence number relates to the previous one of its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// The event is the first of its CPU, so losses before it cannot be counted.
    First,
    /// The event follows the previous one directly.
    Next,
    /// Events are missing before this one.
    Gap(Gap),
    /// The number is not after the previous one: a duplicate, a forgery, or a counter that was
    /// reset. The expected next number stays the same.
    Backwards,
    /// The CPU number is at least [`MAX_CPUS`].
    NoSuchCpu,
}

/// State of one CPU since its last received event.
#[derive(Clone, Copy, Debug)]
struct LastSeen {
    /// Expected next number.
    next: Seq,
    time: MonoNs,
    /// Wrapping count of excluded events as of the last event.
    excluded: u32,
    /// Number of excluded events from the first to the last event.
    all_excluded: u64,
    /// Number of events discarded since the last event; the next gap contains them.
    discarded: u64,
    /// Number, time and excluded count of the last received event, discarded or not.
    latest: (Seq, MonoNs, u32),
    /// Whether an earlier recorder received the last event.
    is_resumed: bool,
}

impl LastSeen {
    fn new(seq: Seq, time: MonoNs, excluded: u32) -> Self {
        let latest = (seq, time, excluded);
        Self { next: seq.next(), time, excluded, all_excluded: 0, discarded: 0, latest, is_resumed: false }
    }

    /// Advances to an event before which `missing` numbers are absent. Returns the gap if any of
    /// the absent events is lost.
    fn advance(&mut self, cpu: Cpu, (seq, time, excluded): (Seq, MonoNs, u32), missing: u32) -> Option<Gap> {
        let newly_excluded = u64::from(excluded.wrapping_sub(self.excluded).min(missing));
        let lost = u64::from(missing) - newly_excluded;
        let gap = Gap {
            cpu,
            first: self.next,
            last: Seq(seq.0.wrapping_sub(1)),
            after: self.time,
            before: time,
            discarded: self.discarded.min(lost),
            excluded: newly_excluded,
            follows_restart: self.is_resumed,
        };
        *self = Self { all_excluded: self.all_excluded + newly_excluded, ..Self::new(seq, time, excluded) };
        (lost > 0).then_some(gap)
    }
}

/// Follows the sequence numbers of all CPUs and finds the gaps in them.
#[derive(Clone, Debug, Default)]
pub struct Accountant {
    cpus: Vec<Option<LastSeen>>,
    lost: u64,
}

impl Accountant {
    /// Creates an accountant that has seen no event.
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues from the positions of an earlier recorder with the same source, which excludes no
    /// events.
    pub fn resume(&mut self, positions: &[CpuPosition]) {
        for &CpuPosition { cpu, next, time } in positions {
            let Some(slot) = self.slot(cpu) else { continue };
            let last = LastSeen::new(Seq(next.0.wrapping_sub(1)), time, 0);
            *slot = Some(LastSeen { is_resumed: true, ..last });
        }
    }

    /// Returns for each CPU the number that its next event must have, and the time of its last
    /// event.
    pub fn positions(&self) -> impl Iterator<Item = CpuPosition> {
        self.seen().map(|(cpu, last)| CpuPosition { cpu, next: last.next, time: last.time })
    }

    /// Processes the next event in order of arrival.
    ///
    /// Acknowledgements of any listener's request count too, because each consumed a number.
    /// `excluded` is the number of events of that CPU that the source left out so far because they
    /// are out of scope; it wraps at 2^32.
    #[inline]
    pub fn observe(&mut self, event: &Event, excluded: u32) -> Continuity {
        let Event { cpu, seq, time, .. } = *event;
        let Some(slot) = self.slot(cpu) else { return Continuity::NoSuchCpu };
        let Some(last) = slot else {
            *slot = Some(LastSeen::new(seq, time, excluded));
            return Continuity::First;
        };
        let missing = seq.0.wrapping_sub(last.next.0);
        if missing > i32::MAX as u32 {
            return Continuity::Backwards;
        }
        let Some(gap) = last.advance(cpu, (seq, time, excluded), missing) else { return Continuity::Next };
        self.lost += gap.count();
        Continuity::Gap(gap)
    }

    /// Processes events that arrived and that the recorder discarded.
    ///
    /// They count as lost in the gap before the next event of their CPU, or in
    /// [`Accountant::finish`].
    pub fn discard(&mut self, discarded: &Discarded) {
        let Some(slot) = self.slot(discarded.cpu) else { return };
        let (Seq(first), time) = discarded.first;
        let before = Seq(first.wrapping_sub(1));
        let last = slot.get_or_insert_with(|| LastSeen::new(before, time, discarded.excluded_before));
        last.discarded += discarded.count;
        last.latest = (discarded.last.0, discarded.last.1, discarded.excluded);
    }

    /// Returns the gaps that no event has ended, because the recorder discarded the last events of
    /// a CPU. Call it at the end of a recording.
    pub fn finish(&mut self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (cpu, last) in self.cpus.iter_mut().enumerate() {
            let Some(last) = last.as_mut().filter(|last| last.discarded > 0) else { continue };
            let (seq, before, excluded) = last.latest;
            let missing = seq.next().0.wrapping_sub(last.next.0);
            // Proceed as if an event followed the last discarded one.
            let gap = last.advance(Cpu(cpu as u32), (seq.next(), before, excluded), missing);
            last.next = seq.next();
            let Some(gap) = gap else { continue };
            self.lost += gap.count();
            gaps.push(gap);
        }
        gaps
    }

    fn slot(&mut self, cpu: Cpu) -> Option<&mut Option<LastSeen>> {
        let index = cpu.0 as usize;
        if index >= self.cpus.len() && cpu.0 < MAX_CPUS {
            self.cpus.resize(index + 1, None);
        }
        self.cpus.get_mut(index)
    }

    /// Returns for each CPU the number of its last event, and how many events were excluded between
    /// its first and its last event.
    pub fn excluded(&self) -> impl Iterator<Item = (Cpu, Seq, u64)> {
        self.seen().map(|(cpu, last)| (cpu, Seq(last.next.0.wrapping_sub(1)), last.all_excluded))
    }

    /// Returns for each CPU the time of its last received event, discarded or not.
    pub fn received_until(&self) -> impl Iterator<Item = (Cpu, MonoNs)> {
        self.seen().map(|(cpu, last)| (cpu, last.latest.1))
    }

    fn seen(&self) -> impl Iterator<Item = (Cpu, &LastSeen)> {
        self.cpus.iter().enumerate().filter_map(|(cpu, last)| Some((Cpu(cpu as u32), last.as_ref()?)))
    }

    /// Returns whether an event of this CPU was observed or discarded.
    pub fn has_seen(&self, cpu: Cpu) -> bool {
        self.cpus.get(cpu.0 as usize).is_some_and(Option::is_some)
    }

    /// Returns the number of lost events of all CPUs so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests;
