//! The processes of a recording as of its last record, from which each segment's opening is
//! written.

use pmon_core::capture::{ClockAnchor, Details, ProcessContext, Record};
use pmon_core::wire::ByteOrder;
use pmon_core::{MonoNs, Tgid};

/// The running processes as of the last record.
#[derive(Debug)]
pub struct ProcessModel {
    order: ByteOrder,
}

/// A running process of a [`ProcessModel`].
#[derive(Clone, Copy, Debug)]
pub struct ProcessRef<'a> {
    model: &'a ProcessModel,
}

impl ProcessModel {
    /// Creates an empty model of a recording whose datagrams have the byte order `order`.
    /// `ticks_per_second` is the length of the clock ticks in start times, and `start` a reading of
    /// the clocks.
    pub fn new(order: ByteOrder, _ticks_per_second: u32, _start: ClockAnchor) -> Self {
        Self { order }
    }

    /// Applies the next record.
    pub fn apply(&mut self, _record: &Record<'_>) {
        let _ = self.order;
    }

    /// Returns the number of running processes.
    pub fn len(&self) -> usize {
        0
    }

    /// Returns whether no running process is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many processes, threads and texts were dropped for lack of memory.
    pub fn incomplete(&self) -> u64 {
        0
    }

    /// Returns the details of each running process, with a snapshot as subject, in the order of the
    /// process IDs.
    pub fn processes(&self) -> impl Iterator<Item = Details> + '_ {
        std::iter::empty()
    }

    /// Returns the running process with this ID.
    pub fn get(&self, _pid: Tgid) -> Option<ProcessRef<'_>> {
        None
    }
}

impl<'a> ProcessRef<'a> {
    /// Returns the process ID.
    pub fn pid(&self) -> Tgid {
        let _ = self.model;
        Tgid(0)
    }

    /// Returns the current parent, if it is known.
    pub fn ppid(&self) -> Option<Tgid> {
        None
    }

    /// Returns the start time in clock ticks since boot.
    pub fn start_ticks(&self) -> Option<u64> {
        None
    }

    /// Returns the time of the fork event.
    pub fn forked_at(&self) -> Option<MonoNs> {
        None
    }

    /// Returns the time of the exec of the current program, by the process or by the ancestor from
    /// which it inherited the program.
    pub fn exec_at(&self) -> Option<MonoNs> {
        None
    }

    /// Returns the name of the first thread.
    pub fn comm(&self) -> Option<&'a [u8]> {
        None
    }

    /// Returns the path of the executable.
    pub fn exe(&self) -> Option<&'a [u8]> {
        None
    }

    /// Returns the arguments; each ends with a zero byte.
    pub fn args(&self) -> Option<&'a [u8]> {
        None
    }

    /// Returns the working directory.
    pub fn cwd(&self) -> Option<&'a [u8]> {
        None
    }

    /// Returns the content of `/proc/<pid>/cgroup` without the final newline.
    pub fn cgroup(&self) -> Option<&'a [u8]> {
        None
    }

    /// Returns the real and the effective user ID.
    pub fn uid(&self) -> Option<(u32, u32)> {
        None
    }

    /// Returns the real and the effective group ID.
    pub fn gid(&self) -> Option<(u32, u32)> {
        None
    }

    /// Returns session, group, login, cgroup and namespace.
    pub fn context(&self) -> Option<ProcessContext> {
        None
    }

    /// Returns all that is known of the process, as a scan of `/proc` would have recorded it.
    pub fn details(&self) -> Details {
        let subject = pmon_core::capture::DetailsSubject::Snapshot { tgid: self.pid() };
        Details::missed(subject, pmon_core::capture::MissReason::Gone)
    }
}
