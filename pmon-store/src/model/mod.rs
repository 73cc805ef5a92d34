//! The processes of a recording as of its last record, from which each segment's opening is
//! written.
//!
//! The rules are those of `pmon_analysis::process`, and a property test compares the two. This
//! model is made for the recorder: it allocates nothing in a steady state, and uses at most 32 MiB.

mod details;
mod events;
mod image;
mod name;
mod process;
mod table;

use pmon_analysis::process::{ExitState, ProcessExit};
use pmon_core::capture::{
    ClockAnchor, Details, DetailsSubject, ProcessState, Record, RecordedDatagram, Usage,
};
use pmon_core::wire::ByteOrder;
use pmon_core::{MonoNs, Task, Tgid};

use self::name::Name;
pub use self::process::ProcessRef;
use self::table::{Id, NONE, Process, Slot, Table};

/// Number of extra processes that each record permits to visit, to find those that a scan missed.
const CREDIT: u64 = 64;
/// Number of extra processes that may be visited before the first record.
const FIRST_CREDIT: u64 = 1 << 20;

/// The running processes as of the last record.
///
/// Apply every record of a recording in order. A process whose exit was lost stays until a scan
/// does not find it, or until its id is used again. To continue from the opening of a segment,
/// apply its details and its snapshot to an empty model.
///
/// The model holds at most 57,344 processes and as many additional threads. Items that are dropped
/// for lack of memory are [counted](ProcessModel::incomplete).
#[derive(Debug)]
pub struct ProcessModel {
    order: ByteOrder,
    ticks_per_second: u64,
    clock: ClockAnchor,
    now: MonoNs,
    /// Number of times that events were lost so far: see [`ExitState`].
    era: u64,
    /// The zombie, which the next event removes.
    zombie: Slot,
    /// Number of the current scan.
    scan: u32,
    /// Number of processes that the current scan has found.
    scanned: u32,
    /// Number of processes that may still be visited in addition to those that records name.
    credit: u64,
    table: Table,
}

impl ProcessModel {
    /// Creates an empty model of a recording whose datagrams have the byte order `order`.
    /// `ticks_per_second` is the frequency of the clock of start times
    /// ([`Meta::ticks_per_second`](pmon_core::capture::Meta)), and `start` a reading of the clocks.
    pub fn new(order: ByteOrder, ticks_per_second: u32, start: ClockAnchor) -> Self {
        Self {
            order,
            ticks_per_second: u64::from(ticks_per_second),
            clock: start,
            now: start.mono,
            era: 0,
            zombie: NONE,
            scan: 1,
            scanned: 0,
            credit: FIRST_CREDIT,
            table: Table::new(),
        }
    }

    /// Applies the next record.
    pub fn apply(&mut self, record: &Record<'_>) {
        self.credit = self.credit.saturating_add(CREDIT);
        match record {
            // A copy of an event that was just written would stall the processor: its fields were
            // stored one by one.
            Record::Event(RecordedDatagram::Event(event), usage) => {
                self.apply_event(event, usage.as_deref());
            }
            Record::Event(datagram, usage) => {
                if let Some(event) = datagram.event(self.order) {
                    self.apply_event(&event, usage.as_deref());
                }
            }
            Record::Details(details) => {
                match details.subject {
                    DetailsSubject::Exec { tgid, time } => self.exec_details(tgid, time, details),
                    DetailsSubject::Snapshot { tgid } => self.scanned_details(tgid, details),
                }
                self.table.shed();
            }
            Record::Snapshot(snapshot) => self.finish_scan(snapshot),
            Record::Clock(anchor) => self.clock = *anchor,
            Record::Loss(_) | Record::Blind(_) | Record::Unobserved(_) => self.era += 1,
            _ => {}
        }
    }

    /// Returns the number of running processes, including those that a scan found before their fork
    /// event.
    pub fn len(&self) -> usize {
        self.table.iter().filter(|(_, process)| !process.is_zombie()).count()
    }

    /// Returns whether no running process is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many processes, threads and texts were dropped for lack of memory.
    pub fn incomplete(&self) -> u64 {
        self.table.dropped
    }

    /// Returns the memory in use, in bytes; at most 32 MiB.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Returns the byte order of the recording's datagrams.
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// Returns the time of the latest event.
    pub fn now(&self) -> MonoNs {
        self.now
    }

    /// Returns the details of each running process, with a snapshot as subject, in the order of the
    /// process IDs.
    pub fn processes(&self) -> impl Iterator<Item = Details> + '_ {
        let mut slots: Vec<_> = self
            .table
            .iter()
            .filter(|(_, process)| self.exists(process))
            .map(|(slot, process)| (process.pid, slot))
            .collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| ProcessRef { model: self, slot }.details())
    }

    /// Returns the running process with this ID.
    pub fn get(&self, pid: Tgid) -> Option<ProcessRef<'_>> {
        let slot = self.table.find(pid.0).filter(|&slot| self.exists(self.table.get(slot)))?;
        Some(ProcessRef { model: self, slot })
    }

    /// Returns the effect that an exit will have on its process. `event` is the exit event that is
    /// applied next, and `usage` the usage that was recorded with it.
    pub fn exit_effect(&self, task: Task, code: u32, time: MonoNs, usage: Option<&Usage>) -> ProcessExit {
        let (mut exits, others) = match self.table.find(task.tgid.0) {
            Some(slot) => (self.table.get(slot).exits, self.threads_after(slot, task)),
            None => (ExitState::default(), 0),
        };
        exits.end((time, task, code), process_state(task, code, usage), self.era, others)
    }

    /// Returns the name of the first thread of a process.
    fn name(&self, slot: Slot) -> &Name {
        let process = self.table.get(slot);
        match self.table.images.get(process.image) {
            Some(image) if process.name.is_unknown() => &image.name,
            _ => &process.name,
        }
    }

    /// Returns the number of known threads that remain after the exit of `task`, without the first.
    fn threads_after(&self, slot: Slot, task: Task) -> usize {
        let forked = self.table.get(slot).forked_threads as usize;
        match self.table.id(task.tid.0) {
            Some(Id::Thread(thread)) if !task.is_leader() => {
                let thread = self.table.thread(thread);
                forked - usize::from(thread.is_forked && thread.process == slot)
            }
            _ => forked,
        }
    }

    /// Whether a process is running. One that is known only from a scan exists from its start time
    /// on, because a scan can find processes whose fork event follows the last record.
    fn exists(&self, process: &Process) -> bool {
        let is_future = || {
            let now = self.boot_ticks(self.boot_ns(self.now));
            process.start_ticks.zip(now).is_some_and(|(start, now)| start > now)
        };
        !(process.is_zombie() || process.is_only_scanned && is_future())
    }

    /// Converts a time to ns since boot.
    fn boot_ns(&self, time: MonoNs) -> u64 {
        time.0.wrapping_sub(self.clock.mono.0).wrapping_add(self.clock.boot_ns)
    }

    /// Converts ns since boot to clock ticks, if the recording states the length of a tick.
    fn boot_ticks(&self, boot_ns: u64) -> Option<u64> {
        let ticks = u128::from(boot_ns) * u128::from(self.ticks_per_second) / 1_000_000_000;
        (self.ticks_per_second != 0).then_some(u64::try_from(ticks).ok()?)
    }
}

fn process_state(task: Task, code: u32, usage: Option<&Usage>) -> ProcessState {
    usage.map_or(ProcessState::Unknown, |usage| usage.process_state(task.is_leader(), code))
}

#[cfg(test)]
mod tests;
