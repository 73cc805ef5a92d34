//! The processes of a recording as of its last record, from which each segment's opening is
//! written.
//!
//! The rules are those of [`ProcessTable`](super::ProcessTable), and a property test compares the
//! two. This model is made for the recorder: it allocates nothing in a steady state, and uses at
//! most 32 MiB.
//!
//! * `events`, `details`: how records change the model.
//! * `process`: what the model knows of one process.
//! * `table`, `parents`: the processes and threads, their links, and the index of ids.
//! * `image`: programs, which a process shares with its children. `name`: names.

mod details;
mod events;
mod facts;
mod image;
mod name;
mod parents;
mod process;
mod table;

use pmon_core::capture::{ClockAnchor, Details, DetailsSubject, ProcessState, Record, Usage};
use pmon_core::wire::ByteOrder;
use pmon_core::{MonoNs, Task, Tgid};

pub(crate) use self::facts::ProcessFacts;
pub(crate) use self::name::Name;
pub use self::process::ProcessRef;
pub(crate) use self::table::Slot;
use self::table::{Id, NONE, Process, Table};
use super::recent_exits::RecentExits;
use super::{ExitState, ProcessExit};

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
    recent_exits: RecentExits,
    /// Number of the current scan.
    scan: u32,
    /// Number of processes that the current scan has found.
    scanned: u32,
    /// Number of processes that may still be visited in addition to those that records name.
    credit: u64,
    /// Effect of the latest exit event on its process.
    last_exit: Option<ProcessExit>,
    /// Processes without a fork event that the latest record has named first, for a caller that
    /// takes them.
    found: Vec<Slot>,
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
            recent_exits: RecentExits::default(),
            scan: 1,
            scanned: 0,
            credit: FIRST_CREDIT,
            last_exit: None,
            found: Vec::new(),
            table: Table::new(),
        }
    }

    /// Applies the next record.
    #[inline]
    pub fn apply(&mut self, record: &Record<'_>) {
        self.credit = self.credit.saturating_add(CREDIT);
        match record {
            Record::Event(datagram, usage) => {
                datagram.with_event(self.order, |event| self.apply_event(event, usage.as_deref()));
            }
            record => self.apply_rare(record),
        }
    }

    /// Applies a record that is no event.
    fn apply_rare(&mut self, record: &Record<'_>) {
        match record {
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

    /// Returns the memory in use, in bytes; at most 32 MiB. This does not include names of more
    /// than 15 bytes, which only threads of the kernel have: at most 14 MiB in a forged capture.
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
        let is_same = |&slot: &Slot| {
            !(task.is_leader() && self.differs_from_start(self.table.get(slot), start_of_exit(usage)))
        };
        let (mut exits, others) = match self.table.find(task.tgid.0).filter(is_same) {
            Some(slot) => (self.table.get(slot).exits, self.threads_after(slot, task)),
            None => (ExitState::default(), 0),
        };
        exits.end((time, task, code), process_state(task, code, usage), self.era, others)
    }

    /// Returns the name of the first thread of a process.
    pub(crate) fn name(&self, slot: Slot) -> &Name {
        self.table.images.name(self.table.get(slot))
    }

    /// Returns the number of known threads that remain after the exit of `task`, without the first.
    fn threads_after(&self, slot: Slot, task: Task) -> usize {
        let forked = self.table.get(slot).forked_threads as usize;
        match self.table.id(task.tid.0) {
            Some(Id::Thread(thread)) => {
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

/// Returns the start time, in clock ticks since boot, of the task that exits.
fn start_of_exit(usage: Option<&Usage>) -> Option<u64> {
    usage.map(|usage| usage.start_ticks).filter(|&ticks| ticks != 0)
}

fn process_state(task: Task, code: u32, usage: Option<&Usage>) -> ProcessState {
    usage.map_or(ProcessState::Unknown, |usage| usage.process_state(task.is_leader(), code))
}

#[cfg(test)]
mod tests;
