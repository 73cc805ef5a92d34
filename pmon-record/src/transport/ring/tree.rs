//! Marks the processes of a [`TreeScope`](crate::TreeScope) that existed before the recording.
//!
//! Once the socket listens, the BPF program marks each child that a marked process forks. A scan of
//! `/proc` that ends earlier misses processes that are forked in between. A scan that begins later
//! races with the forks. So the root is marked first. During the scans, the program also checks the
//! ancestors of a forking process, and thus finds a mark that the scan has not propagated yet. A
//! few scans are therefore enough at any rate of forks.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use aya::maps::{Array, Map, MapData};

use super::RingError;
use super::sys::{Marks, SLAB};
use crate::details::procfs::parents::{ProcessParent, processes, trees};

/// Number of process ids that a 64-bit kernel can use (`PID_MAX_LIMIT`). `kernel.pid_max` can be
/// raised to it at any time.
const PIDS: u32 = 1 << 22;
/// Number of values in the map `TREE` for all process ids.
pub(super) const SLABS: u32 = PIDS / SLAB;
/// Maximum number of scans after the socket listens. The first finds all processes except those
/// whose parents ended during it. Another scan is needed only if the previous one found a process.
const SCANS: u32 = 4;

/// Marks the processes of one tree in the BPF program's maps.
pub(super) struct TreeMarker {
    root: u32,
    marks: Marks,
    marking: Array<MapData, u32>,
    /// The processes that the first scan has marked.
    early: Vec<ProcessParent>,
}

impl TreeMarker {
    /// Creates a marker for the tree of `root` from the program's maps `TREE` and `MARKING`.
    pub(super) fn new(root: u32, tree: &Map, marking: Map) -> Result<Self, RingError> {
        let Map::Array(tree) = tree else { return Err(RingError::Incomplete("TREE")) };
        let marks = Marks::map(tree.fd().as_fd(), PIDS as usize).map_err(RingError::Mapping)?;
        Ok(Self { root, marks, marking: Array::try_from(marking)?, early: Vec::new() })
    }

    /// Marks the root and its descendants, before the socket listens.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.set_marking(true)?;
        self.set(self.root, true);
        self.early = trees(&processes()?, |process| process.pid == self.root);
        self.early.iter().for_each(|process| self.set(process.pid, true));
        Ok(())
    }

    /// Marks the remaining processes, after the socket listens and the program runs for each fork.
    pub(super) fn complete(&mut self) -> io::Result<()> {
        for scan in 0..SCANS {
            let processes = processes()?;
            if scan == 0 {
                self.unmark_reused(&processes);
            }
            let members = trees(&processes, |process| self.is_marked(process.pid));
            let new: Vec<_> = members.into_iter().filter(|process| !self.is_marked(process.pid)).collect();
            new.iter().for_each(|process| self.set(process.pid, true));
            if scan > 0 && new.is_empty() {
                break;
            }
        }
        self.set_marking(false)
    }

    /// Removes the marks of processes that reuse the id of a process that ended before the socket
    /// listened.
    fn unmark_reused(&mut self, processes: &[ProcessParent]) {
        let starts: HashMap<u32, u64> =
            self.early.drain(..).map(|process| (process.pid, process.start_ticks)).collect();
        for now in processes {
            if starts.get(&now.pid).is_some_and(|&start| start != now.start_ticks) {
                self.set(now.pid, false);
            }
        }
    }

    fn set_marking(&mut self, marking: bool) -> io::Result<()> {
        self.marking.set(0, u32::from(marking), 0).map_err(io::Error::other)
    }

    fn set(&self, pid: u32, is_in: bool) {
        if let Some(mark) = self.marks.of(pid) {
            mark.store(is_in.into(), Ordering::Relaxed);
        }
    }

    fn is_marked(&self, pid: u32) -> bool {
        self.marks.of(pid).is_some_and(|mark| mark.load(Ordering::Relaxed) != 0)
    }
}
