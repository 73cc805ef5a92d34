//! What the machine emitted, and what became of it before it reached the store.

use std::time::Duration;

use pmon_core::wire::Event;
use pmon_core::{Cpu, Seq};

/// What became of an event before it reached the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The event waits in the kernel, or no recorder listened.
    Emitted,
    /// The event was lost before the recorder received it.
    Dropped,
    /// The store received the event at this time and promises to keep it.
    Passed(Duration),
    /// The store received the event, and may have lost it because of a kill or a power loss.
    Excused,
}

/// The events of one CPU since a boot, by their number since the boot.
#[derive(Clone, Debug, Default)]
pub(super) struct CpuTruth {
    pub(super) first: Seq,
    pub(super) events: Vec<(Event, Fate)>,
}

/// The events of a boot.
#[derive(Clone, Debug, Default)]
pub(super) struct BootTruth {
    pub(super) id: String,
    pub(super) cpus: Vec<CpuTruth>,
}

impl CpuTruth {
    /// Returns the number since the boot of a sequence number.
    pub(super) fn index(&self, seq: Seq) -> usize {
        seq.0.wrapping_sub(self.first.0) as usize
    }
}

/// Everything that the machine emitted, by boot.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    pub(super) boots: Vec<BootTruth>,
    /// Whether events are not kept, because nothing will be compared with them.
    pub(super) is_discarded: bool,
}

impl Truth {
    pub(super) fn begin_boot(&mut self, id: String, first: &[Seq]) {
        let cpus = first.iter().map(|&first| CpuTruth { first, events: Vec::new() }).collect();
        self.boots.push(BootTruth { id, cpus });
    }

    pub(super) fn cpu(&mut self, cpu: Cpu) -> Option<&mut CpuTruth> {
        self.boots.last_mut()?.cpus.get_mut(cpu.0 as usize)
    }

    pub(super) fn emit(&mut self, event: Event, fate: Fate) {
        if !self.is_discarded
            && let Some(cpu) = self.cpu(event.cpu)
        {
            cpu.events.push((event, fate));
        }
    }

    pub(super) fn set_fate(&mut self, event: &Event, fate: Fate) {
        if let Some(cpu) = self.cpu(event.cpu) {
            let index = cpu.index(event.seq);
            if let Some(emitted) = cpu.events.get_mut(index) {
                emitted.1 = fate;
            }
        }
    }

    /// Returns how many of `count` events from `first` on were dropped.
    pub(super) fn count_dropped(&mut self, cpu: Cpu, first: Seq, count: u64) -> u64 {
        let Some(cpu) = self.cpu(cpu) else { return 0 };
        let events = cpu.events.iter().skip(cpu.index(first)).take(count as usize);
        events.filter(|(_, fate)| *fate == Fate::Dropped).count() as u64
    }

    /// Excuses the store from its promise for the events that it received at `since` or later.
    pub(super) fn excuse(&mut self, since: Duration) {
        let cpus = self.boots.iter_mut().flat_map(|boot| &mut boot.cpus);
        for (_, fate) in cpus.flat_map(|cpu| &mut cpu.events) {
            if matches!(fate, Fate::Passed(at) if *at >= since) {
                *fate = Fate::Excused;
            }
        }
    }
}
