//! The snapshot thread: one scan of `/proc`, so that processes older than the recording have names.

use std::fs;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use pmon_core::Tgid;
use pmon_core::capture::{Reason, Record, Snapshot, Subject};

use crate::clock::Clock;
use crate::procfs::Procfs;
use crate::recording::Shared;

/// Records that may wait for the writer thread.
pub(crate) const RECORDS: usize = 256;
/// A recording that ends waits so long for its scan.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread's body: sends a `Details` for each process and then the `Snapshot`. A scan that is cut short, because the
/// recording has ended or `/proc` cannot be listed, has no `Snapshot`.
pub(crate) fn run(records: &SyncSender<Record<'static>>, shared: &Shared, clock: Clock) {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    let (mut procfs, started, mut processes) = (Procfs::new(clock), clock.mono(), 0);
    let mut deadline = None;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for tgid in pids.map(Tgid) {
        if shared.is_stopping() && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + PATIENCE)
        {
            return;
        }
        let details = procfs.read(Subject::Snapshot { tgid });
        if details.start_ticks.is_none() {
            // It ended between the listing and the reading: there is nothing to tell of it.
            continue;
        }
        if records.send(Record::Details(Box::new(details))).is_err() {
            return;
        }
        processes += 1;
    }
    let snapshot = Snapshot { started, ended: clock.mono(), processes, reason: Reason::Start, atomic: false };
    // Without a writer there is nobody to tell.
    let _ = records.send(Record::Snapshot(snapshot));
}
