//! The snapshot thread: scans of `/proc`. At the start, so that processes older than the recording have names; and after a
//! time of which events are missing, so that what is known of the processes is right again.

use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::Tgid;
use pmon_core::capture::{DetailsSubject, Record, Snapshot, SnapshotReason};

use crate::details::exec::{MemoryShare, MemoryUse};
use crate::details::procfs::Procfs;
use crate::status::RecordingStatus;

/// Records that may wait for the writer thread.
pub(crate) const RECORDS: usize = 256;
/// Maximum bytes of memory of records that wait for the writer thread. Beyond it, the scan pauses
/// for [`PAUSE`] and checks again.
const MEMORY: usize = 2 << 20;
/// Time for which a scan pauses while the writer thread lags.
const PAUSE: Duration = Duration::from_millis(1);
/// Reasons for a scan that may wait: the next scan serves all of them.
pub(crate) const REASONS: usize = 1;
/// A recording that ends waits so long for its scan.
const PATIENCE: Duration = Duration::from_secs(1);
/// While events go on being lost, one of `/proc` this often.
const APART: Duration = Duration::from_secs(10);

/// A record of a scan, and the memory that it takes until the writer thread receives it.
pub(crate) struct Scanned {
    pub(crate) record: Record<'static>,
    _share: MemoryShare,
}

/// The thread's body: a scan at the start, and one for the `reasons`, at once or as soon as the last such scan is long
/// enough ago; until the other end of either channel is gone.
pub(crate) fn run(
    records: &SyncSender<Scanned>,
    reasons: &Receiver<SnapshotReason>,
    shared: &RecordingStatus,
    mut procfs: Procfs,
) {
    let mut reason = SnapshotReason::Start;
    loop {
        if scan(reason, records, shared, &mut procfs).is_none() {
            return;
        }
        let free_at = Instant::now() + if reason == SnapshotReason::Start { Duration::ZERO } else { APART };
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

/// Sends a `Details` for each process and then the `Snapshot`. A scan that is cut short has no `Snapshot`; `None` if that
/// is because the recording has ended.
fn scan(
    reason: SnapshotReason,
    records: &SyncSender<Scanned>,
    shared: &RecordingStatus,
    procfs: &mut Procfs,
) -> Option<()> {
    let Ok(entries) = fs::read_dir("/proc") else { return Some(()) };
    let (started, mut processes) = (procfs.clock().mono(), 0);
    let mut deadline = None;
    let mut is_over = || {
        shared.is_stopping() && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + PATIENCE)
    };
    let held = MemoryUse::default();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for tgid in pids.map(Tgid) {
        while held.bytes() > MEMORY && !is_over() {
            thread::sleep(PAUSE);
        }
        if is_over() {
            return None;
        }
        let details = procfs.read(DetailsSubject::Snapshot { tgid });
        if details.start_ticks.is_none() {
            // It ended between the listing and the reading: there is nothing to tell of it.
            continue;
        }
        let share = MemoryShare::new(&details, &held);
        records.send(Scanned { record: Record::Details(Box::new(details)), _share: share }).ok()?;
        processes += 1;
    }
    let snapshot = Snapshot { started, ended: procfs.clock().mono(), processes, reason, atomic: false };
    records.send(Scanned { record: Record::Snapshot(snapshot), _share: MemoryShare::default() }).ok()
}
