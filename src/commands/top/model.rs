//! Follows the processes of this machine and divides their time into intervals.

use std::collections::HashMap;

use pmon_analysis::filter::LifeFilter;
use pmon_analysis::groups::GroupBy;
use pmon_analysis::life::{Life, LifeEnd, LifeTracker, LifeUsage, ProcessId};
use pmon_core::capture::{DetailsSubject, Header, Record, SelfGenerated};
use pmon_core::{MonoNs, Tgid};

use super::cpu::CpuReading;
use super::interval::IntervalSums;

/// Time in ns for which a process is kept that is no longer running and whose row has not arrived:
/// a row waits for details for at most a second.
const MAX_DELAY_NS: u64 = 3_000_000_000;

/// The processes of this machine.
pub(super) struct LiveModel {
    tracker: LifeTracker,
    filter: LifeFilter,
    recorder: Option<Tgid>,
    /// Start of the recording.
    began: MonoNs,
    sums: IntervalSums,
    losses: Losses,
    /// Processes that were running when they were last listed.
    known: HashMap<ProcessId, KnownProcess>,
    /// Number of lists of running processes.
    lists: u64,
    has_scanned: bool,
}

/// What is known of a running process from the last list.
#[derive(Clone, Copy, Debug)]
struct KnownProcess {
    cpu: Option<CpuReading>,
    /// Whether the last attempt to read its CPU time found no such process.
    is_missing: bool,
    /// Whether an interval has counted its start.
    is_counted: bool,
    /// Number and event time of the last list with this process.
    seen: (u64, MonoNs),
}

/// What an interval lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Number of lost events that became known.
    pub(super) events: u64,
    /// Time in ns in which the kernel emitted no events.
    pub(super) blind_ns: u64,
    /// Number of execs without command line.
    pub(super) missed_args: u64,
    /// Number of processes left out because too little is known of them.
    pub(super) undecided: u64,
    /// Number of processes and texts dropped so far for lack of memory.
    pub(super) dropped: u64,
}

/// An interval that has ended. The running processes are not part of the sums yet.
pub(super) struct ClosedInterval {
    pub(super) sums: IntervalSums,
    pub(super) losses: Losses,
    pub(super) running: Vec<RunningProcess>,
}

/// A selected process that is running.
pub(super) struct RunningProcess {
    pub(super) life: Life,
    /// Whether it started in the interval that has ended.
    pub(super) has_started: bool,
}

impl LiveModel {
    /// Creates the model of a recording with this header.
    pub(super) fn new(header: &Header, filter: LifeFilter, by: GroupBy) -> Self {
        Self {
            tracker: LifeTracker::new(header),
            filter,
            recorder: header.meta.recorder(),
            began: header.meta.start.mono,
            sums: IntervalSums::new(by),
            losses: Losses::default(),
            known: HashMap::new(),
            lists: 0,
            has_scanned: false,
        }
    }

    /// Applies the next record.
    pub(super) fn apply(&mut self, record: &Record<'_>) {
        self.tracker.apply(record);
        match record {
            Record::Event(datagram, _) => {
                let event = datagram.event(self.tracker.order());
                let own = event.zip(self.recorder).and_then(|(event, own)| SelfGenerated::of(&event, own));
                self.sums.totals.events += u64::from(own.is_none());
            }
            Record::Details(details) => {
                let is_exec = matches!(details.subject, DetailsSubject::Exec { .. });
                self.losses.missed_args += u64::from(is_exec && details.args.is_none());
            }
            Record::Loss(loss) => {
                self.losses.events = self.losses.events.saturating_add(loss.count());
            }
            Record::Blind(blind) => {
                self.losses.blind_ns = self.losses.blind_ns.saturating_add(blind.length_ns());
            }
            Record::Snapshot(_) => self.has_scanned = true,
            _ => {}
        }
        while let Some(life) = self.tracker.pop() {
            self.add_ended(life);
        }
    }

    /// Returns whether the processes that are older than the recording are known.
    pub(super) fn has_scanned(&self) -> bool {
        self.has_scanned
    }

    /// Returns the IDs of the selected processes that are older than the recording.
    pub(super) fn older(&mut self) -> Vec<(ProcessId, u32)> {
        let began = self.began;
        let running = self.list(false).into_iter();
        let older = running.filter(|process| process.life.start.is_none_or(|start| start < began));
        older.map(|process| (process.life.id, process.life.pid)).collect()
    }

    /// Ends the interval, and begins the next one with groups by this property.
    pub(super) fn close(&mut self, by: GroupBy) -> ClosedInterval {
        let running = self.list(true);
        self.losses.dropped = self.tracker.incomplete();
        let losses = std::mem::take(&mut self.losses);
        let sums = std::mem::replace(&mut self.sums, IntervalSums::new(by));
        ClosedInterval { sums, losses, running }
    }

    /// Notes the CPU time of a process, and returns how much it has used since the last reading.
    /// Returns `None` if that is unknown, or if the process has ended and counts in the next
    /// interval.
    pub(super) fn read_cpu(
        &mut self,
        id: ProcessId,
        start: Option<MonoNs>,
        reading: CpuReading,
    ) -> Option<u64> {
        let known = self.known.get_mut(&id)?;
        let last = match known.cpu {
            Some(last) if last.start_ticks == reading.start_ticks => Some(last.cpu_ns),
            // Another process has the same ID by now.
            Some(_) => return None,
            None => start.filter(|&start| start >= self.began).map(|_| 0),
        };
        known.cpu = Some(reading);
        known.is_missing = false;
        last.map(|last| reading.cpu_ns.saturating_sub(last))
    }

    /// Notes that `/proc` does not show a running process, and returns whether its CPU time in the
    /// interval is unknown. The first time, the process has probably ended, and its exit event has
    /// not arrived yet.
    pub(super) fn miss_cpu(&mut self, id: ProcessId) -> bool {
        self.known.get_mut(&id).is_some_and(|known| std::mem::replace(&mut known.is_missing, true))
    }

    /// Lists the selected processes that are running. `is_end` states that the interval ends.
    fn list(&mut self, is_end: bool) -> Vec<RunningProcess> {
        self.lists += 1;
        let now = self.tracker.now();
        let seen = (self.lists, now);
        let mut running = Vec::new();
        for mut life in self.tracker.running() {
            // If the first thread has exited, the others still run.
            life.end = LifeEnd::Running;
            life.usage = None;
            if !self.filter.matches(&life, now) {
                self.losses.undecided += u64::from(is_end && self.filter.may_match(&life, now));
                continue;
            }
            let new = KnownProcess { cpu: None, is_missing: false, is_counted: false, seen };
            let known = self.known.entry(life.id).or_insert(new);
            known.seen = seen;
            let has_started = is_end && !known.is_counted && is_new(&life, self.began);
            known.is_counted |= is_end;
            running.push(RunningProcess { life, has_started });
        }
        let (lists, oldest) = (self.lists, now.0.saturating_sub(MAX_DELAY_NS));
        self.known.retain(|_, known| known.seen.0 + 1 >= lists || known.seen.1.0 >= oldest);
        running
    }

    fn add_ended(&mut self, mut life: Life) {
        let known = self.known.remove(&life.id);
        let now = self.tracker.now();
        if !self.filter.matches(&life, now) {
            self.losses.undecided += u64::from(self.filter.may_match(&life, now));
            return;
        }
        let is_new = is_new(&life, self.began);
        if let Some(usage) = &mut life.usage {
            // Only the CPU time of this interval counts. That of a process that is older than the
            // recording is unknown without an earlier reading.
            let before = known.and_then(|known| known.cpu).map(|last| last.cpu_ns);
            usage.cpu_ns = match before {
                Some(before) => usage.cpu_ns.saturating_sub(before),
                None if is_new => usage.cpu_ns,
                None => 0,
            };
        }
        self.sums.add(&life, is_new && !known.is_some_and(|known| known.is_counted));
    }
}

impl ClosedInterval {
    /// Adds the running processes, with the CPU time that each has used in the interval.
    pub(super) fn into_sums(self, cpu: impl Fn(&Life) -> Option<u64>) -> IntervalSums {
        let mut sums = self.sums;
        for RunningProcess { mut life, has_started } in self.running {
            let used = cpu(&life);
            life.usage = used.map(|cpu_ns| Box::new(LifeUsage { cpu_ns, ..LifeUsage::default() }));
            sums.add(&life, has_started);
        }
        sums
    }
}

/// Returns whether a process started after the recording.
fn is_new(life: &Life, began: MonoNs) -> bool {
    life.start.is_some_and(|start| start >= began)
}

#[cfg(test)]
mod tests;
