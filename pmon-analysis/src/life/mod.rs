//! One row for each process: from its fork to its end, with its programs, its parent and its use of
//! resources.
//!
//! [`LifeTracker`] takes the records of a recording, and returns a [`Life`] for each process that
//! has ended. Its memory is bounded by the number of running processes, not by the length of the
//! recording.

mod ancestor;
mod awaited;
mod columns;
mod forest;
mod id;
mod life_ref;
mod program;
mod signal;
mod state;
mod texts;
mod tracker;

use std::sync::Arc;

use pmon_core::MonoNs;

pub use self::ancestor::{Ancestor, MAX_ANCESTORS};
pub use self::columns::{ColumnType, ColumnValue, LIFE_COLUMNS, LifeColumn, LifeRow};
pub(crate) use self::columns::{columns, integer, text};
pub use self::forest::{Branch, FoldedLives, ForestNode, ForestRow, LifeForest};
pub use self::id::{ProcessId, ProcessStart};
pub use self::life_ref::LifeRef;
pub use self::program::{ProcessProgram, Program};
pub use self::signal::LifeSignal;
pub use self::tracker::LifeTracker;
use crate::process::Name;
use crate::wait_status::WaitStatus;

/// Length of a clock tick of start times (`proc_pid_stat(5)`) in ns, on every architecture of Linux
/// that pmon supports.
const TICK_NS: u64 = 10_000_000;

/// A process. Unknown properties are `None`.
#[derive(Clone, Debug)]
pub struct Life {
    /// Identity of the process.
    pub id: ProcessId,
    /// Process ID. Another process can reuse it once this one has ended.
    pub pid: u32,
    /// How the start is known.
    pub origin: ProcessStart,
    /// Start of the process; for a process older than the recording, exact to a clock tick.
    pub start: Option<MonoNs>,
    /// How the process ended.
    pub end: LifeEnd,
    /// The process that forked this one, as it was then. For a process older than the recording,
    /// its parent when it was first seen.
    pub parent: Option<Arc<Ancestor>>,
    /// Process ID of the last known parent: 1 once the process was orphaned, unless an event names
    /// another one.
    pub ppid: Option<u32>,
    /// Whether `ppid` is only assumed to be 1: the parent has ended, and no event has named the
    /// process that adopted this one, which can be a subreaper (`prctl(2)`).
    pub is_parent_assumed: bool,
    /// Identity of the process that `ppid` refers to.
    pub parent_id: Option<ProcessId>,
    /// Name of the first thread.
    pub(crate) name: Name,
    /// The program that the process ran last.
    pub program: ProcessProgram,
    /// The programs that the process executed, in order.
    pub execs: Vec<LifeExec>,
    /// Number of execs that `execs` lacks: the second to the last but 62.
    pub omitted_execs: u32,
    /// Real and effective user ID.
    pub uid: Option<(u32, u32)>,
    /// Real and effective group ID.
    pub gid: Option<(u32, u32)>,
    /// Process ID of the session's leader.
    pub session: Option<u32>,
    /// Process ID of the process group's leader.
    pub group: Option<u32>,
    /// Process ID in the PID namespace of the process.
    pub namespace_pid: Option<u32>,
    /// Number of threads that the process started, in addition to the first one.
    pub threads: u32,
    /// Number of processes that the process forked.
    pub children: u32,
    /// Resources that the process used until its end.
    pub usage: Option<Box<LifeUsage>>,
    /// The signal that killed the process, if one did and the recorder observed it.
    pub signal: Option<Box<LifeSignal>>,
}

/// An exec of a process.
#[derive(Clone, Debug)]
pub struct LifeExec {
    /// Time of the exec event.
    pub time: MonoNs,
    /// The new program.
    pub program: ProcessProgram,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeEnd {
    /// The process was still running at the end of the recording.
    Running,
    /// The process exited or was killed.
    Ended {
        /// Time of the last thread's exit event.
        time: MonoNs,
        /// What `wait(2)` returned to the parent. `None` if only the first thread is known to have
        /// exited.
        status: Option<WaitStatus>,
    },
    /// The exit is missing: a scan did not find the process, or another one got its process ID.
    Unobserved {
        /// Time of the last event of the process.
        after: MonoNs,
        /// Time at which the process is known to be gone.
        before: MonoNs,
    },
}

/// Resources that a process used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LifeUsage {
    /// CPU time in ns.
    pub cpu_ns: u64,
    /// CPU time in user mode in ns.
    pub user_ns: u64,
    /// CPU time in kernel mode in ns.
    pub system_ns: u64,
    /// Peak resident memory since the last exec in bytes; `None` if it is unknown.
    pub max_rss_bytes: Option<u64>,
    /// Minor page faults.
    pub minor_faults: u64,
    /// Major page faults.
    pub major_faults: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub write_bytes: u64,
    /// Whether the process may have used more: other threads still ran when this was recorded.
    pub at_least: bool,
}

impl Life {
    /// Returns the name of the first thread.
    pub fn comm(&self) -> Option<&[u8]> {
        // The details of an exec can arrive after the end of the process.
        self.name.get().or_else(|| self.program.get().comm.as_deref())
    }

    /// Returns the time from the start to the end in ns, if both are known. If the start is only
    /// known to a clock tick, this is a multiple of 10 ms.
    pub fn duration_ns(&self) -> Option<u64> {
        let (Some(start), LifeEnd::Ended { time, .. }) = (self.start, self.end) else { return None };
        Some(duration_ns(self.origin, start, time))
    }

    /// Returns how long the process existed at least, as far as the recording shows it, in ns.
    /// `now` is the end of the recording. `None` if the start is unknown.
    pub fn observed_ns(&self, now: MonoNs) -> Option<u64> {
        let last = match self.end {
            LifeEnd::Running => now,
            LifeEnd::Ended { time, .. } => time,
            LifeEnd::Unobserved { after, .. } => after,
        };
        Some(last.0.saturating_sub(self.start?.0))
    }

    /// Returns how the process ended, if that is known.
    pub fn status(&self) -> Option<WaitStatus> {
        match self.end {
            LifeEnd::Ended { status, .. } => status,
            _ => None,
        }
    }

    /// Returns whether the process is known to have exited with another code than 0, or to have
    /// been killed.
    pub fn has_failed(&self) -> bool {
        self.status().is_some_and(|status| !status.is_success())
    }

    /// Returns whether the OOM killer killed the process; `None` if that is unknown, or before its
    /// end.
    pub fn oom_killed(&self) -> Option<bool> {
        self.status()?.is_oom_kill(self.signal.as_ref().map(|of| &of.signal))
    }

    /// Returns the parent and all further ancestors, the parent first.
    pub fn ancestors(&self) -> impl Iterator<Item = &Ancestor> {
        self.parent.iter().flat_map(|parent| parent.chain())
    }
}

fn duration_ns(origin: ProcessStart, start: MonoNs, end: MonoNs) -> u64 {
    let ns = end.0.saturating_sub(start.0);
    // Each segment has its own readings of the clocks, which differ by some ns.
    let is_exact = matches!(origin, ProcessStart::Forked(_));
    if is_exact { ns } else { ns.saturating_add(TICK_NS / 2) / TICK_NS * TICK_NS }
}

#[cfg(test)]
mod tests;
