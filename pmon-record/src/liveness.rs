//! Whether the kernel still emits events: each heartbeat must come back, or be lost with others of its CPU.
//!
//! While the kernel counts no listener it emits nothing, and its numbers stand still. So that other events came says nothing of a
//! heartbeat. What does: an event of the heartbeat's CPU that came later, with no number missing in between. Then the kernel has
//! not emitted the heartbeat.

use std::collections::VecDeque;

use pmon_core::capture::Blind;
use pmon_core::{Cpu, MonoNs};

use crate::sign::Heartbeat;

/// Heartbeats that are waited for. While nothing comes, more would say the same.
const MOST: usize = 32;
/// Heartbeats that came and were not announced yet: there is seldom one.
const EARLY: usize = 32;
/// An event gets its time before its number, and a task may have to wait for the CPU in between. A loss that an event of so much
/// earlier shows may still hold the heartbeat, in ns.
const DELAY: u64 = 100_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LivenessMonitor {
    waiting: VecDeque<Waiting>,
    early: VecDeque<MonoNs>,
    /// Of each CPU, the time of the last event that showed a loss.
    lost: Vec<Option<MonoNs>>,
}

/// A heartbeat that has not come.
#[derive(Debug)]
struct Waiting {
    number: u64,
    heartbeat: Heartbeat,
    /// The last event before it.
    from: MonoNs,
    /// The first event after it, if there was one.
    until: Option<MonoNs>,
    /// All that was emitted before it has been received.
    missed: bool,
}

impl LivenessMonitor {
    /// A heartbeat was emitted, as the sign of that number says; the latest event until now was at `last`.
    pub(crate) fn announce(&mut self, number: u64, heartbeat: Heartbeat, last: MonoNs) {
        if let Some(at) = self.early.iter().position(|&time| heartbeat.is_at(time)) {
            self.early.drain(..=at);
            return;
        }
        if self.waiting.len() == MOST {
            // The first one knows since when.
            self.waiting.remove(1);
        }
        let from = last.min(heartbeat.began);
        self.waiting.push_back(Waiting { number, heartbeat, from, until: None, missed: false });
    }

    /// A heartbeat came.
    pub(crate) fn came(&mut self, time: MonoNs) {
        match self.waiting.iter().position(|waiting| waiting.heartbeat.is_at(time)) {
            Some(at) => drop(self.waiting.remove(at)),
            None => {
                if self.early.len() == EARLY {
                    self.early.pop_front();
                }
                self.early.push_back(time);
            }
        }
    }

    /// Events of that CPU are lost, as an event at `time` has shown.
    pub(crate) fn lose(&mut self, cpu: Cpu, time: MonoNs) {
        let at = cpu.0 as usize;
        if self.lost.len() <= at {
            self.lost.resize(at + 1, None);
        }
        self.lost[at] = self.lost[at].max(Some(time));
    }

    /// Whether a heartbeat may be among what is known to be lost.
    fn is_lost(&self, heartbeat: &Heartbeat) -> bool {
        let lost = self.lost.get(heartbeat.cpu.0 as usize).copied().flatten();
        lost.is_some_and(|lost| lost.0.saturating_add(DELAY) > heartbeat.began.0)
    }

    /// Whether a heartbeat has not come yet.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether one has not come though all that was emitted before it has been received.
    pub(crate) fn misses(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.missed)
    }

    /// Whether one of before this sign has not come.
    pub(crate) fn awaits(&self, number: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.number < number)
    }

    /// An event came, whose gap, if there is one before it, has been told of. The time in which the kernel emitted nothing, if
    /// the event shows one: call again until it shows none.
    pub(crate) fn event(&mut self, cpu: Cpu, time: MonoNs) -> Option<Blind> {
        let mut decided = None;
        for (at, waiting) in self.waiting.iter_mut().enumerate() {
            if time > waiting.heartbeat.ended {
                let until = waiting.until.map_or(time, |until| until.min(time));
                waiting.until = Some(until);
                if decided.is_none() && waiting.heartbeat.cpu == cpu {
                    decided = Some(at);
                }
            } else if time < waiting.heartbeat.began {
                waiting.from = waiting.from.max(time);
            }
        }
        let waiting = self.waiting.remove(decided?)?;
        if self.is_lost(&waiting.heartbeat) {
            // It was lost, and a loss says so. Others may not have been.
            return self.event(cpu, time);
        }
        Some(Blind { from: waiting.from, until: waiting.until.unwrap_or(time) })
    }

    /// All that was emitted before the sign of that number has been received. Whether a heartbeat is newly found to be missing.
    pub(crate) fn received(&mut self, number: u64) -> bool {
        let new = self.waiting.iter_mut().filter(|waiting| waiting.number <= number && !waiting.missed);
        new.map(|waiting| waiting.missed = true).count() > 0
    }

    /// The recording ends at `time`: the time in which the kernel emitted nothing, if heartbeats are missing.
    pub(crate) fn finish(&mut self, time: MonoNs) -> Option<Blind> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut missed = waiting.iter().filter(|waiting| waiting.missed && !self.is_lost(&waiting.heartbeat));
        let first = missed.next()?;
        let last = missed.next_back().unwrap_or(first);
        Some(Blind { from: first.from, until: last.until.unwrap_or(time) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(began: u64, cpu: u32) -> Heartbeat {
        Heartbeat { began: MonoNs(began), ended: MonoNs(began + 10), cpu: Cpu(cpu) }
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_heartbeat_that_comes_back_says_nothing_whichever_is_known_first() {
        let mut monitor = LivenessMonitor::default();
        monitor.announce(1, heartbeat(SECOND, 0), MonoNs(5));
        assert_eq!(monitor.event(Cpu(1), MonoNs(SECOND + 11)), None);
        monitor.came(MonoNs(SECOND + 3));
        assert!(!monitor.is_waiting() && !monitor.received(1));
        monitor.came(MonoNs(2 * SECOND + 3));
        monitor.announce(2, heartbeat(2 * SECOND, 0), MonoNs(2 * SECOND + 20));
        assert!(!monitor.is_waiting());
        assert_eq!(monitor.finish(MonoNs(3 * SECOND)), None);
    }

    #[test]
    fn one_that_is_missing_without_a_gap_is_blindness_from_the_last_event_to_the_next() {
        let mut monitor = LivenessMonitor::default();
        monitor.announce(1, heartbeat(SECOND, 0), MonoNs(5));
        assert_eq!(monitor.event(Cpu(1), MonoNs(700)), None);
        // Of other CPUs, later events say nothing of it, but when the kernel emitted again.
        assert_eq!(monitor.event(Cpu(1), MonoNs(SECOND + 500)), None);
        // An event of its CPU before it says nothing, either.
        assert_eq!(monitor.event(Cpu(0), MonoNs(900)), None);
        assert!(monitor.received(1) && !monitor.received(1) && monitor.misses());
        let blind = monitor.event(Cpu(0), MonoNs(SECOND + 900));
        assert_eq!(blind, Some(Blind { from: MonoNs(900), until: MonoNs(SECOND + 500) }));
        assert_eq!(monitor.event(Cpu(0), MonoNs(SECOND + 900)), None);
        assert!(!monitor.misses());
    }

    #[test]
    fn one_that_is_lost_with_others_of_its_cpu_is_not_blindness() {
        for cpu in [0, 1] {
            let mut monitor = LivenessMonitor::default();
            monitor.announce(1, heartbeat(SECOND, 0), MonoNs(5));
            monitor.lose(Cpu(cpu), MonoNs(SECOND + 900));
            let blind = monitor.event(Cpu(0), MonoNs(SECOND + 900));
            assert_eq!(blind.is_none(), cpu == 0, "cpu {cpu}");
        }
    }

    #[test]
    fn at_the_end_what_was_received_and_had_no_heartbeat_is_blindness() {
        let mut monitor = LivenessMonitor::default();
        monitor.announce(1, heartbeat(SECOND, 0), MonoNs(5));
        monitor.announce(2, heartbeat(2 * SECOND, 1), MonoNs(5));
        // It is not known whether the second was emitted.
        assert!(monitor.received(1));
        let blind = monitor.finish(MonoNs(3 * SECOND));
        assert_eq!(blind, Some(Blind { from: MonoNs(5), until: MonoNs(3 * SECOND) }));
    }

    #[test]
    fn long_silence_takes_no_more_memory_and_forgets_not_since_when() {
        let mut monitor = LivenessMonitor::default();
        for n in 1..=10_000 {
            monitor.announce(n, heartbeat(n * SECOND, 0), MonoNs(5));
            monitor.received(n);
        }
        assert_eq!(monitor.waiting.len(), MOST);
        let blind = monitor.event(Cpu(0), MonoNs(20_000 * SECOND));
        assert_eq!(blind, Some(Blind { from: MonoNs(5), until: MonoNs(20_000 * SECOND) }));
    }
}
