//! A disk that fails, fills up, or is slow; and what is on it after a power loss.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::super::disk::{Disk, RealDisk};
use super::*;

const PAGE: u64 = 4096;

/// A real file, with faults in front of it.
pub(super) struct FaultyDisk {
    real: RealDisk,
    state: Mutex<State>,
    changed: Condvar,
}

/// What a test has set, and what has happened.
#[derive(Default)]
pub(super) struct State {
    /// Pages that the disk has for the file; without a number, as many as are wanted.
    pub(super) pages: Option<usize>,
    /// `RLIMIT_FSIZE`.
    pub(super) limit: Option<u64>,
    /// Writes that leave a hole fail, as on a filesystem without sparse files that has no room.
    pub(super) has_no_holes: bool,
    /// Bytes between the sealed blocks and the journal, if not as usual: a small hole is read faster.
    pub(super) hole: Option<u64>,
    /// `fallocate(2)` is not supported.
    pub(super) has_no_punch: bool,
    /// The error of the sync of that number, from 0.
    pub(super) fails_at_sync: Option<(u32, i32)>,
    pub(super) fails_at_directory: Option<i32>,
    pub(super) fails_at_rename: Option<i32>,
    /// A sync takes this long.
    pub(super) sync_takes: Duration,
    /// No sync ends.
    pub(super) is_stuck: bool,
    /// Syncs that have begun.
    pub(super) syncs: u32,
    pub(super) past: Past,
}

/// What has happened to the file.
#[derive(Default)]
pub(super) struct Past {
    operations: Vec<Operation>,
    /// How many of these were done when the last sync that has succeeded began.
    durable: usize,
    allocated: BTreeSet<u64>,
    len: u64,
}

enum Operation {
    Write { at: u64, bytes: Vec<u8> },
    Len(u64),
    Punch { at: u64, len: u64 },
}

impl FaultyDisk {
    /// Begins a capture on such a disk.
    pub(super) fn create(target: &Target, state: State) -> Result<(CaptureFile, Arc<Self>), StoreError> {
        let mut disk = None;
        let file = CaptureFile::create_on(target, &header(), false, |file| {
            let real = RealDisk { file };
            disk.insert(Arc::new(Self { real, state: Mutex::new(state), changed: Condvar::new() })).clone()
        })?;
        Ok((file, disk.unwrap()))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets syncs end.
    pub(super) fn release(&self) {
        self.state().is_stuck = false;
        self.changed.notify_all();
    }

    /// How much has been done, and how much of it is safe from power loss.
    pub(super) fn progress(&self) -> (usize, usize) {
        let state = self.state();
        (state.past.operations.len(), state.past.durable)
    }

    /// How often the file was cut off.
    pub(super) fn cuts(&self) -> usize {
        self.state().past.operations.iter().filter(|operation| matches!(operation, Operation::Len(_))).count()
    }

    /// What a power loss leaves: all that was synced, and of the rest what `survives` says.
    pub(super) fn after_power_loss(&self, mut survives: impl FnMut() -> bool) -> Vec<u8> {
        let state = self.state();
        let mut image = Vec::new();
        for (number, operation) in state.past.operations.iter().enumerate() {
            if number >= state.past.durable && !survives() {
                continue;
            }
            match operation {
                Operation::Write { at, bytes } => {
                    let (at, end) = (*at as usize, *at as usize + bytes.len());
                    image.resize(image.len().max(end), 0);
                    image[at..end].copy_from_slice(bytes);
                }
                Operation::Len(len) => image.resize(*len as usize, 0),
                Operation::Punch { at, len } => {
                    let end = image.len().min((at + len) as usize);
                    image[(*at as usize).min(end)..end].fill(0);
                }
            }
        }
        image
    }
}

fn errno<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

impl Disk for FaultyDisk {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut state = self.state();
        let mut end = at + bytes.len() as u64;
        if let Some(limit) = state.limit {
            end = end.min(limit);
            if end <= at {
                return errno(libc::EFBIG);
            }
        }
        if state.has_no_holes && at > state.past.len {
            return errno(libc::ENOSPC);
        }
        for page in at / PAGE..end.div_ceil(PAGE) {
            if !state.past.allocated.contains(&page) {
                if state.pages.is_some_and(|pages| state.past.allocated.len() >= pages) {
                    end = end.min(page * PAGE);
                    break;
                }
                state.past.allocated.insert(page);
            }
        }
        if end <= at {
            return errno(libc::ENOSPC);
        }
        let bytes = &bytes[..(end - at) as usize];
        state.past.len = state.past.len.max(end);
        state.past.operations.push(Operation::Write { at, bytes: bytes.into() });
        self.real.write_at(bytes, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.past.len = len;
        state.past.allocated.split_off(&len.div_ceil(PAGE));
        state.past.operations.push(Operation::Len(len));
        self.real.set_len(len)
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.has_no_punch {
            return errno(libc::EOPNOTSUPP);
        }
        state.past.allocated.retain(|page| page * PAGE < at || (page + 1) * PAGE > at + len);
        state.past.operations.push(Operation::Punch { at, len });
        self.real.punch(at, len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        let (number, until) = (state.syncs, state.past.operations.len());
        state.syncs += 1;
        let takes = state.sync_takes;
        while state.is_stuck {
            state = self.changed.wait(state).unwrap();
        }
        drop(state);
        thread::sleep(takes);
        let mut state = self.state();
        if let Some((_, error)) = state.fails_at_sync.filter(|&(at, _)| at == number) {
            return errno(error);
        }
        state.past.durable = until;
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let fails = self.state().fails_at_directory;
        fails.map_or(Ok(()), errno)
    }

    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let fails = self.state().fails_at_rename;
        fails.map_or_else(|| self.real.rename(from, to, replace), errno)
    }

    fn hole(&self) -> u64 {
        self.state().hole.unwrap_or_else(|| self.real.hole())
    }

    fn size_limit(&self) -> Option<u64> {
        self.state().limit
    }
}
