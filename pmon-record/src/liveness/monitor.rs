//! Checks that the kernel still emits events: each heartbeat must be received, or lost with other
//! events of its CPU.
//!
//! While the kernel counts no listener, it emits no events and its sequence numbers do not advance.
//! Other received events therefore prove nothing about a heartbeat. A later event of the
//! heartbeat's CPU without a missing number in between proves that the kernel did not emit the
//! heartbeat.

use std::collections::VecDeque;

use pmon_core::capture::Blind;
use pmon_core::{Cpu, MonoNs};

use crate::liveness::checkpoint::Heartbeat;

/// Maximum number of heartbeats that are awaited. More would give no further information.
const MAX_AWAITED: usize = 32;
/// Maximum number of kept heartbeats that were received before their checkpoint, which is rare.
const MAX_EARLY: usize = 32;
/// Maximum time in ns between an event's timestamp and its sequence number.
///
/// The task may wait for a CPU in between. A loss that is revealed by an event up to this much
/// older than a heartbeat may therefore include the heartbeat.
const MAX_NUMBERING_DELAY: u64 = 100_000_000;

/// Detects times without events from heartbeats that are not received.
#[derive(Debug, Default)]
pub(crate) struct LivenessMonitor {
    /// Heartbeats that have not been received.
    waiting: VecDeque<AwaitedHeartbeat>,
    /// Times of heartbeats that were received before their checkpoint.
    early: VecDeque<MonoNs>,
    /// For each CPU, the time of the last event that revealed a loss.
    lost: Vec<Option<MonoNs>>,
}

/// A heartbeat that has not been received.
#[derive(Debug)]
struct AwaitedHeartbeat {
    number: u64,
    heartbeat: Heartbeat,
    /// Time of the last event before the heartbeat.
    from: MonoNs,
    /// Time of the first event after the heartbeat, if there is one.
    until: Option<MonoNs>,
    /// Whether every event before the heartbeat's checkpoint has been received.
    is_missing: bool,
}

impl LivenessMonitor {
    /// Records that the checkpoint of this number emitted a heartbeat. `last` is the time of the
    /// latest event.
    pub(crate) fn add_heartbeat(&mut self, number: u64, heartbeat: Heartbeat, last: MonoNs) {
        if let Some(at) = self.early.iter().position(|&time| heartbeat.is_at(time)) {
            self.early.drain(..=at);
            return;
        }
        if self.waiting.len() == MAX_AWAITED {
            // The first entry has the earliest start.
            self.waiting.remove(1);
        }
        let from = last.min(heartbeat.began);
        self.waiting.push_back(AwaitedHeartbeat { number, heartbeat, from, until: None, is_missing: false });
    }

    /// Records that a heartbeat was received.
    pub(crate) fn add_received(&mut self, time: MonoNs) {
        match self.waiting.iter().position(|waiting| waiting.heartbeat.is_at(time)) {
            Some(at) => drop(self.waiting.remove(at)),
            None => {
                if self.early.len() == MAX_EARLY {
                    self.early.pop_front();
                }
                self.early.push_back(time);
            }
        }
    }

    /// Records a loss of events of this CPU, revealed by an event at `time`.
    pub(crate) fn add_loss(&mut self, cpu: Cpu, time: MonoNs) {
        let at = cpu.0 as usize;
        if self.lost.len() <= at {
            self.lost.resize(at + 1, None);
        }
        self.lost[at] = self.lost[at].max(Some(time));
    }

    /// Whether a heartbeat may be among the known losses.
    fn is_lost(&self, heartbeat: &Heartbeat) -> bool {
        let lost = self.lost.get(heartbeat.cpu.0 as usize).copied().flatten();
        lost.is_some_and(|lost| lost.0.saturating_add(MAX_NUMBERING_DELAY) > heartbeat.began.0)
    }

    /// Whether any heartbeat has not been received yet.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a heartbeat is missing although all earlier events have been received.
    pub(crate) fn has_missing(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.is_missing)
    }

    /// Whether a heartbeat from before this checkpoint has not been received.
    pub(crate) fn awaits_before(&self, number: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.number < number)
    }

    /// Records an event, after the gap before it, if any. Returns a time in which the kernel
    /// emitted no events, if the event proves one. Call it again until it returns `None`.
    pub(crate) fn add_event(&mut self, cpu: Cpu, time: MonoNs) -> Option<Blind> {
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
            // This heartbeat may be among recorded losses. Others may not be.
            return self.add_event(cpu, time);
        }
        Some(Blind { from: waiting.from, until: waiting.until.unwrap_or(time) })
    }

    /// Records that every event before this checkpoint has been received. Returns whether another
    /// heartbeat is now missing.
    pub(crate) fn complete(&mut self, number: u64) -> bool {
        let new = self.waiting.iter_mut().filter(|waiting| waiting.number <= number && !waiting.is_missing);
        new.map(|waiting| waiting.is_missing = true).count() > 0
    }

    /// Ends the recording at `time`. Returns the time in which the kernel emitted no events, if
    /// heartbeats are missing.
    pub(crate) fn finish(&mut self, time: MonoNs) -> Option<Blind> {
        let missing = self.missing(time);
        self.waiting.clear();
        missing
    }

    /// Returns the time in which the kernel has emitted no events, until `time` if it still emits
    /// none, if heartbeats are missing.
    pub(crate) fn missing(&self, time: MonoNs) -> Option<Blind> {
        let is_missing =
            |waiting: &&AwaitedHeartbeat| waiting.is_missing && !self.is_lost(&waiting.heartbeat);
        let mut missing = self.waiting.iter().filter(is_missing);
        let first = missing.next()?;
        let last = missing.next_back().unwrap_or(first);
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
    fn a_received_heartbeat_does_not_mean_blind_before_or_after_its_checkpoint() {
        let mut monitor = LivenessMonitor::default();
        monitor.add_heartbeat(1, heartbeat(SECOND, 0), MonoNs(5));
        assert_eq!(monitor.add_event(Cpu(1), MonoNs(SECOND + 11)), None);
        monitor.add_received(MonoNs(SECOND + 3));
        assert!(!monitor.is_waiting() && !monitor.complete(1));
        monitor.add_received(MonoNs(2 * SECOND + 3));
        monitor.add_heartbeat(2, heartbeat(2 * SECOND, 0), MonoNs(2 * SECOND + 20));
        assert!(!monitor.is_waiting());
        assert_eq!(monitor.finish(MonoNs(3 * SECOND)), None);
    }

    #[test]
    fn a_missing_heartbeat_without_a_gap_means_blind_from_the_last_event_to_the_next() {
        let mut monitor = LivenessMonitor::default();
        monitor.add_heartbeat(1, heartbeat(SECOND, 0), MonoNs(5));
        assert_eq!(monitor.add_event(Cpu(1), MonoNs(700)), None);
        // Later events of other CPUs only show when the kernel emitted events again.
        assert_eq!(monitor.add_event(Cpu(1), MonoNs(SECOND + 500)), None);
        // An earlier event of the same CPU proves nothing either.
        assert_eq!(monitor.add_event(Cpu(0), MonoNs(900)), None);
        assert!(monitor.complete(1) && !monitor.complete(1) && monitor.has_missing());
        let blind = monitor.add_event(Cpu(0), MonoNs(SECOND + 900));
        assert_eq!(blind, Some(Blind { from: MonoNs(900), until: MonoNs(SECOND + 500) }));
        assert_eq!(monitor.add_event(Cpu(0), MonoNs(SECOND + 900)), None);
        assert!(!monitor.has_missing());
    }

    #[test]
    fn a_heartbeat_lost_with_other_events_of_its_cpu_does_not_mean_blind() {
        for cpu in [0, 1] {
            let mut monitor = LivenessMonitor::default();
            monitor.add_heartbeat(1, heartbeat(SECOND, 0), MonoNs(5));
            monitor.add_loss(Cpu(cpu), MonoNs(SECOND + 900));
            let blind = monitor.add_event(Cpu(0), MonoNs(SECOND + 900));
            assert_eq!(blind.is_none(), cpu == 0, "cpu {cpu}");
        }
    }

    #[test]
    fn at_the_end_a_missing_heartbeat_means_blind_if_all_earlier_events_were_received() {
        let mut monitor = LivenessMonitor::default();
        monitor.add_heartbeat(1, heartbeat(SECOND, 0), MonoNs(5));
        monitor.add_heartbeat(2, heartbeat(2 * SECOND, 1), MonoNs(5));
        // It is unknown whether the kernel emitted the second heartbeat.
        assert!(monitor.complete(1));
        let blind = monitor.finish(MonoNs(3 * SECOND));
        assert_eq!(blind, Some(Blind { from: MonoNs(5), until: MonoNs(3 * SECOND) }));
    }

    #[test]
    fn a_long_blind_time_takes_bounded_memory_and_keeps_its_start() {
        let mut monitor = LivenessMonitor::default();
        for n in 1..=10_000 {
            monitor.add_heartbeat(n, heartbeat(n * SECOND, 0), MonoNs(5));
            monitor.complete(n);
        }
        assert_eq!(monitor.waiting.len(), MAX_AWAITED);
        let blind = monitor.add_event(Cpu(0), MonoNs(20_000 * SECOND));
        assert_eq!(blind, Some(Blind { from: MonoNs(5), until: MonoNs(20_000 * SECOND) }));
    }
}
