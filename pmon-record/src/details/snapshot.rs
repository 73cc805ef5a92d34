//! The snapshot thread scans `/proc`.
//!
//! It does so at the start, to record the names of processes that are older than the recording, and
//! after events were lost, to record which processes exist.

use std::fs;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::Tgid;
use pmon_core::capture::{DetailsSubject, Record, Snapshot, SnapshotReason};

use crate::details::exec::{MemoryShare, MemoryUse};
use crate::details::procfs::ProcfsReader;
use crate::status::RecordingStatus;

/// Maximum number of records that wait for the writer thread.
pub(crate) const RECORDS: usize = 256;
/// Maximum bytes of memory of records that wait for the writer thread. Beyond it, the scan pauses
/// for [`PAUSE`] and checks again.
const MAX_MEMORY: usize = 2 << 20;
/// Time for which a scan pauses while the writer thread lags.
const PAUSE: Duration = Duration::from_millis(1);
/// Maximum number of waiting reasons for a scan. The next scan serves all of them.
pub(crate) const REASONS: usize = 1;
/// Maximum time that the end of a recording waits for a scan.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Minimum time between two scans because of losses.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// A record of a scan, and the memory that it takes until the writer thread receives it.
pub(crate) struct Scanned {
    pub(crate) record: Record<'static>,
    _share: MemoryShare,
}

/// Runs the snapshot thread until the other end of either channel is closed: scans at the start,
/// and for each of the `reasons`, at least [`MIN_INTERVAL`] after the last such scan.
pub(crate) fn run(
    records: &SyncSender<Scanned>,
    reasons: &Receiver<SnapshotReason>,
    shared: &RecordingStatus,
    mut procfs: ProcfsReader,
) {
    let mut reason = SnapshotReason::Start;
    loop {
        if scan(reason, records, shared, &mut procfs).is_none() {
            return;
        }
        let free_at =
            Instant::now() + if reason == SnapshotReason::Start { Duration::ZERO } else { MIN_INTERVAL };
        let Ok(next) = reasons.recv() else { return };
        reason = next;
        loop {
            match reasons.recv_timeout(free_at.saturating_duration_since(Instant::now())) {
                Ok(next) => reason = next,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Sends the `Details` of each process and then the `Snapshot`. Returns `None`, without a
/// `Snapshot`, if the recording ends meanwhile.
fn scan(
    reason: SnapshotReason,
    records: &SyncSender<Scanned>,
    shared: &RecordingStatus,
    procfs: &mut ProcfsReader,
) -> Option<()> {
    let Ok(entries) = fs::read_dir("/proc") else { return Some(()) };
    let (started, mut processes) = (procfs.clock.mono(), 0);
    let mut deadline = None;
    let mut is_over = || {
        shared.is_stopping() && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + END_TIMEOUT)
    };
    let memory = MemoryUse::default();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for tgid in pids.map(Tgid) {
        while memory.load(Ordering::Relaxed) > MAX_MEMORY && !is_over() {
            thread::sleep(PAUSE);
        }
        if is_over() {
            return None;
        }
        let details = procfs.read(DetailsSubject::Snapshot { tgid });
        if details.start_ticks.is_none() {
            // The process ended between the listing and the reading.
            continue;
        }
        let share = MemoryShare::new(&details, &memory);
        records.send(Scanned { record: Record::Details(Box::new(details)), _share: share }).ok()?;
        processes += 1;
    }
    let snapshot = Snapshot { started, ended: procfs.clock.mono(), processes, reason, atomic: false };
    records.send(Scanned { record: Record::Snapshot(snapshot), _share: MemoryShare::default() }).ok()
}
