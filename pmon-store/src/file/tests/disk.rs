//! A disk that fails, fills up, or is slow, and its contents after a power loss.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};

use super::super::names::{NameOperations, RealNames};
use super::*;
use crate::disk::{Disk, RealDisk};

const PAGE: u64 = 4096;

/// A real file with fault injection.
pub(super) struct FaultyDisk {
    real: RealDisk,
    state: Mutex<FaultyDiskState>,
    changed: Condvar,
}

/// The faults that a test has set, and the history.
#[derive(Default)]
pub(super) struct FaultyDiskState {
    /// Number of pages available to the file; `None` for no limit.
    pub(super) pages: Option<usize>,
    /// `RLIMIT_FSIZE`.
    pub(super) limit: Option<u64>,
    /// Whether writes that leave a hole fail, as on a full filesystem without sparse files.
    pub(super) has_no_holes: bool,
    /// Bytes between the sealed blocks and the journal, if not the default; a small hole is read
    /// faster.
    pub(super) hole: Option<u64>,
    /// Whether `fallocate(2)` is unsupported.
    pub(super) has_no_punch: bool,
    /// The sync that fails, counted from 0, and its error.
    pub(super) fails_at_sync: Option<(u32, i32)>,
    pub(super) fails_at_directory: Option<i32>,
    pub(super) fails_at_rename: Option<i32>,
    /// Duration of a sync.
    pub(super) sync_takes: Duration,
    /// Whether syncs never end.
    pub(super) is_stuck: bool,
    /// Number of syncs that have begun.
    pub(super) syncs: u32,
    pub(super) history: FileHistory,
}

/// The history of the file.
#[derive(Default)]
pub(super) struct FileHistory {
    operations: Vec<DiskOperation>,
    /// Number of operations done when the last successful sync began.
    durable: usize,
    allocated: BTreeSet<u64>,
    len: u64,
}

enum DiskOperation {
    Write { at: u64, bytes: Vec<u8> },
    Len(u64),
    Punch { at: u64, len: u64 },
}

impl FaultyDisk {
    /// Begins a capture on such a disk.
    pub(super) fn create(
        target: &CaptureTarget,
        state: FaultyDiskState,
    ) -> Result<(CaptureFile, Arc<Self>), CaptureFileError> {
        let hole = state.hole.unwrap_or(CaptureFileOptions::default().hole);
        let options = CaptureFileOptions { hole, ..CaptureFileOptions::default() };
        let names = FaultyNames::default();
        let cell = names.disk.clone();
        let parts = |file| {
            let this = Self { real: RealDisk(file), state: Mutex::new(state), changed: Condvar::new() };
            FileParts { disk: cell.get_or_init(|| Arc::new(this)).clone(), options }
        };
        let file = CaptureFile::create_on(target, &header(), false, parts, Box::new(names))?;
        let disk = cell.get().unwrap().clone();
        Ok((file, disk))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, FaultyDiskState> {
        self.state.lock().unwrap()
    }

    /// Lets syncs end.
    pub(super) fn release(&self) {
        self.state().is_stuck = false;
        self.changed.notify_all();
    }

    /// Returns the number of operations, and how many of them are durable.
    pub(super) fn progress(&self) -> (usize, usize) {
        let state = self.state();
        (state.history.operations.len(), state.history.durable)
    }

    /// Returns how often the file was cut off.
    pub(super) fn truncations(&self) -> usize {
        self.state()
            .history
            .operations
            .iter()
            .filter(|operation| matches!(operation, DiskOperation::Len(_)))
            .count()
    }

    /// Returns the file after a power loss: all synced operations, and the others for which
    /// `survives` returns true.
    pub(super) fn after_power_loss(&self, mut survives: impl FnMut() -> bool) -> Vec<u8> {
        let durable = self.state().history.durable;
        self.image(|number| number < durable || survives())
    }

    /// Returns the file after the first `count` operations.
    pub(super) fn image_after(&self, count: usize) -> Vec<u8> {
        self.image(|number| number < count)
    }

    fn image(&self, mut is_done: impl FnMut(usize) -> bool) -> Vec<u8> {
        let state = self.state();
        let mut image = Vec::new();
        for (number, operation) in state.history.operations.iter().enumerate() {
            if !is_done(number) {
                continue;
            }
            match operation {
                DiskOperation::Write { at, bytes } => {
                    let (at, end) = (*at as usize, *at as usize + bytes.len());
                    image.resize(image.len().max(end), 0);
                    image[at..end].copy_from_slice(bytes);
                }
                DiskOperation::Len(len) => image.resize(*len as usize, 0),
                DiskOperation::Punch { at, len } => {
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
        if state.has_no_holes && at > state.history.len {
            return errno(libc::ENOSPC);
        }
        for page in at / PAGE..end.div_ceil(PAGE) {
            if !state.history.allocated.contains(&page) {
                if state.pages.is_some_and(|pages| state.history.allocated.len() >= pages) {
                    end = end.min(page * PAGE);
                    break;
                }
                state.history.allocated.insert(page);
            }
        }
        if end <= at {
            return errno(libc::ENOSPC);
        }
        let bytes = &bytes[..(end - at) as usize];
        state.history.len = state.history.len.max(end);
        state.history.operations.push(DiskOperation::Write { at, bytes: bytes.into() });
        self.real.write_at(bytes, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.history.len = len;
        state.history.allocated.split_off(&len.div_ceil(PAGE));
        state.history.operations.push(DiskOperation::Len(len));
        self.real.set_len(len)
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.has_no_punch {
            return errno(libc::EOPNOTSUPP);
        }
        state.history.allocated.retain(|page| page * PAGE < at || (page + 1) * PAGE > at + len);
        state.history.operations.push(DiskOperation::Punch { at, len });
        self.real.punch_hole(at, len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        let (number, until) = (state.syncs, state.history.operations.len());
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
        state.history.durable = until;
        Ok(())
    }

    fn size_limit(&self) -> Option<u64> {
        self.state().limit
    }
}

/// The names of a file on a [`FaultyDisk`].
#[derive(Default)]
struct FaultyNames {
    disk: Arc<OnceLock<Arc<FaultyDisk>>>,
}

impl NameOperations for FaultyNames {
    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let fails = self.disk.get().unwrap().state().fails_at_directory;
        fails.map_or(Ok(()), errno)
    }

    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let fails = self.disk.get().unwrap().state().fails_at_rename;
        fails.map_or_else(|| RealNames.rename(from, to, replace), errno)
    }
}
