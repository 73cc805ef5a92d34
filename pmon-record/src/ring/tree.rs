//! The processes of a [`Tree`](crate::Tree) that were there before the recording, marked for the program.
//!
//! The program marks each process that a marked one forks, from the moment at which the socket listens. A scan of `/proc` that ends
//! before then misses the processes that are forked in between, and a scan that begins later races with the forks. So the
//! root is marked first; while the scans go on, the program also follows the ancestors of a process that forks, and so
//! finds the mark that the scan has not set yet. The scans are few, whatever is forked meanwhile.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use aya::maps::{Array, Map, MapData};

use super::RingError;
use super::sys::{Marks, SLAB};
use crate::procfs::kinship::{Kin, processes, trees};

/// Process ids that a 64-bit kernel can use (`PID_MAX_LIMIT`). The setting `kernel.pid_max` can be raised to it at any time.
const PIDS: u32 = 1 << 22;
/// Values of the map for so many process ids.
pub(super) const SLABS: u32 = PIDS / SLAB;
/// Most scans after the socket listens. The first finds all but the processes whose parents ended during it; each further one is needed
/// only where the one before found something.
const SCANS: u32 = 4;

/// See the module.
pub(super) struct Planting {
    root: u32,
    marks: Marks,
    marking: Array<MapData, u32>,
    /// What the first scan has marked.
    early: Vec<Kin>,
}

impl Planting {
    /// Of the tree with that root, by the program's maps `TREE` and `MARKING`.
    pub(super) fn new(root: u32, tree: &Map, marking: Map) -> Result<Self, RingError> {
        let Map::Array(tree) = tree else { return Err(RingError::Incomplete("TREE")) };
        let marks = Marks::map(tree.fd().as_fd(), PIDS as usize).map_err(RingError::Mapping)?;
        Ok(Self { root, marks, marking: Array::try_from(marking)?, early: Vec::new() })
    }

    /// Marks the root and what descends from it, before the socket listens.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.set_marking(true)?;
        self.set(self.root, true);
        self.early = trees(&processes()?, |kin| kin.pid == self.root);
        self.early.iter().for_each(|kin| self.set(kin.pid, true));
        Ok(())
    }

    /// Marks the rest, once the program sees each fork.
    pub(super) fn complete(&mut self) -> io::Result<()> {
        for scan in 0..SCANS {
            let processes = processes()?;
            if scan == 0 {
                self.forget_ended(&processes);
            }
            let members = trees(&processes, |kin| self.is_marked(kin.pid));
            let new: Vec<_> = members.into_iter().filter(|kin| !self.is_marked(kin.pid)).collect();
            new.iter().for_each(|kin| self.set(kin.pid, true));
            if scan > 0 && new.is_empty() {
                break;
            }
        }
        self.set_marking(false)
    }

    /// Takes the marks from processes that have the id of one that ended before the socket listened, when no fork was seen.
    fn forget_ended(&mut self, processes: &[Kin]) {
        let starts: HashMap<u32, u64> = self.early.drain(..).map(|kin| (kin.pid, kin.start_ticks)).collect();
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
