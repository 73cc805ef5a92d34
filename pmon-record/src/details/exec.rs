//! The details thread: reads `/proc/<pid>` of each process that ran a new program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{self, Thread};

use pmon_core::batch::Datagram;
use pmon_core::capture::{Details, DetailsSubject, MissReason};
use pmon_core::wire::{ByteOrder, Event, EventBody, EventKind, layout, u32_at};
use pmon_core::{MonoNs, Tgid};
use rtrb::{Consumer, Producer};

use crate::details::procfs::ProcfsReader;
use crate::transport::ring::entry;

/// Maximum number of execs that wait for the details thread. Further ones are recorded as missed
/// ([`MissReason::Busy`]).
pub(crate) const REQUESTS: usize = 4096;
/// Maximum number of details that wait for the writer thread.
pub(crate) const RESULTS: usize = 1024;
/// Maximum bytes of memory of details that wait for the writer thread or to settle; further ones
/// are recorded as missed.
const MAX_MEMORY: usize = 4 << 20;

/// Maximum time in ns from when `/proc` shows a new program until its exec event.
///
/// The event is the last step of `execve` (`fs/exec.c`), normally a tenth of a millisecond later,
/// or some time slices later if the process waits for a CPU meanwhile.
const IMAGE_LEAD: u64 = 25_000_000;

/// An exec event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exec {
    pub(crate) tgid: Tgid,
    pub(crate) time: MonoNs,
}

impl Exec {
    /// Returns the exec event in a datagram of the kernel if its details did not come with it.
    ///
    /// Every datagram is checked, so this function decodes only those whose `proc_event.what` is
    /// `PROC_EVENT_EXEC`.
    pub(crate) fn without_details(datagram: &Datagram<'_>) -> Option<Self> {
        let what = u32_at(datagram.bytes, layout::WHAT.start);
        let is_exec = Some(what) == EventKind::Exec.what() && datagram.arrival.sender == 0;
        if !is_exec || entry::has_details(datagram) {
            return None;
        }
        let event = Event::decode(datagram.bytes, ByteOrder::NATIVE).ok()?;
        let EventBody::Exec { task } = event.body else { return None };
        Some(Self { tgid: task.tgid, time: event.time })
    }

    pub(crate) fn subject(self) -> DetailsSubject {
        DetailsSubject::Exec { tgid: self.tgid, time: self.time }
    }
}

/// Details that were read after an exec.
#[derive(Debug)]
pub(crate) struct ExecDetails {
    pub(crate) exec: Exec,
    pub(crate) details: Box<Details>,
    /// Time at which the reading began.
    pub(crate) began: MonoNs,
    /// Time until which another exec of the same process makes the details uncertain.
    pub(crate) settles_at: MonoNs,
    pub(crate) _share: MemoryShare,
}

/// Progress of the details thread.
#[derive(Debug, Default)]
pub(crate) struct DetailsProgress {
    /// Number of execs whose details were read.
    done: AtomicU64,
    /// [`ExecDetails::settles_at`] of the last of them.
    settles_at: AtomicU64,
    /// Whether the details thread must end.
    closed: AtomicBool,
}

/// Total memory in bytes of all details that wait for the writer thread.
pub(crate) type MemoryUse = Arc<AtomicUsize>;

/// The memory of one result, counted in [`MemoryUse`] until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct MemoryShare {
    bytes: usize,
    all: MemoryUse,
}

impl MemoryShare {
    pub(crate) fn new(details: &Details, all: &MemoryUse) -> Self {
        let bytes = size_of::<ExecDetails>() + details.memory();
        all.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, all: all.clone() }
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The drain thread's end of the queue of execs whose details are to be read.
pub(crate) struct ExecRequests {
    queue: Producer<Exec>,
    progress: Arc<DetailsProgress>,
    reader: Thread,
    /// Number of queued execs.
    requested: u64,
    /// Number of execs whose details are certain.
    settled: u64,
}

impl ExecRequests {
    pub(crate) fn new(queue: Producer<Exec>, progress: Arc<DetailsProgress>, reader: Thread) -> Self {
        Self { queue, progress, reader, requested: 0, settled: 0 }
    }

    /// Requests the details of an exec. Returns `false` if the queue is full.
    pub(crate) fn push(&mut self, exec: Exec) -> bool {
        let taken = self.queue.push(exec).is_ok();
        self.requested += u64::from(taken);
        taken
    }

    /// Wakes the details thread.
    pub(crate) fn wake(&self) {
        self.reader.unpark();
    }

    /// Returns the number of execs whose details were read.
    pub(crate) fn done(&self) -> u64 {
        self.progress.done.load(Ordering::Acquire)
    }

    /// Records that all events up to `drained_at` have been handed over, after [`Self::done`]
    /// returned `done`.
    pub(crate) fn settle(&mut self, done: u64, drained_at: MonoNs) {
        if done == self.requested && self.progress.settles_at.load(Ordering::Acquire) <= drained_at.0 {
            self.settled = done;
        }
    }

    /// Whether the writer thread still holds details back because they are uncertain.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.settled < self.requested
    }
}

/// Ends the details thread. It reads no further execs of the queue.
impl Drop for ExecRequests {
    fn drop(&mut self) {
        self.progress.closed.store(true, Ordering::Release);
        self.reader.unpark();
    }
}

/// Runs the details thread until the other end of either queue is closed.
pub(crate) fn run(
    mut requests: Consumer<Exec>,
    results: &SyncSender<ExecDetails>,
    progress: &DetailsProgress,
    mut procfs: ProcfsReader,
) {
    let clock = procfs.clock;
    let memory = MemoryUse::default();
    while !progress.closed.load(Ordering::Acquire) {
        let Ok(exec) = requests.pop() else {
            thread::park();
            continue;
        };
        let began = clock.mono();
        let subject = exec.subject();
        let is_full = memory.load(Ordering::Relaxed) > MAX_MEMORY;
        let details = if is_full { Details::missed(subject, MissReason::Busy) } else { procfs.read(subject) };
        let share = MemoryShare::new(&details, &memory);
        let settles_at = MonoNs(clock.mono().0 + IMAGE_LEAD);
        let result = ExecDetails { exec, details: Box::new(details), began, settles_at, _share: share };
        if results.send(result).is_err() {
            return;
        }
        progress.settles_at.store(settles_at.0, Ordering::Release);
        progress.done.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_count_with_all_of_their_memory_until_they_are_dropped() {
        let subject = DetailsSubject::Exec { tgid: Tgid(1), time: MonoNs(1) };
        let mut args = Vec::with_capacity(100_000);
        args.push(b'x');
        let details = Details { args: Some(args), ..Details::missed(subject, MissReason::Gone) };
        let memory = MemoryUse::default();
        let shares = [MemoryShare::new(&details, &memory), MemoryShare::new(&details, &memory)];
        assert!(memory.load(Ordering::Relaxed) > 200_000);
        drop(shares);
        assert_eq!(memory.load(Ordering::Relaxed), 0);
    }
}
