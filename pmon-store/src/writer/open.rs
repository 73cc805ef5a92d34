//! Opens a store for writing: its lock, and the recovery of unfinished segments.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pmon_analysis::process::ProcessModel;
use pmon_core::capture::{Header, Positions, Record, SegmentReason};
use thiserror::Error;

use super::StoreOptions;
use super::begin::room_to_begin;
use crate::disk::{Filesystem, StoreLock};
use crate::file::partial;
use crate::segment::{self, EndPositions, Recovery, SegmentFile, StoreListing, StoreMachine, restricted};

/// Why a store cannot be opened for writing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// Another recorder writes the store.
    #[error(
        "another recorder{} writes the store {}: stop it, or name another directory",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), .path.display()
    )]
    Busy {
        /// The store's directory.
        path: PathBuf,
        /// Process id of the other recorder, if it is known.
        pid: Option<u32>,
    },
    /// Files that are never removed take the maximum size of the store.
    #[error(
        "no room for a segment in the store {} within --max-use {max_use}: its clips and other files \
         that are never removed take {fixed} bytes; remove or move some of them, or raise the limit",
        .path.display()
    )]
    NoRoom {
        /// The store's directory.
        path: PathBuf,
        /// Maximum bytes of the store.
        max_use: u64,
        /// Bytes of the files that are never removed.
        fixed: u64,
    },
    /// The directory cannot be used.
    #[error("cannot {action} the store {}: {source}", .path.display())]
    Io {
        /// The step that failed.
        action: &'static str,
        /// The store's directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// What an earlier recorder left in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Names of the segments that an earlier recorder did not finish, and that were salvaged.
    pub salvaged: Vec<String>,
    /// Names of files with records and without a readable header, which were kept.
    pub set_aside: Vec<String>,
    /// Unfinished segments that could not be salvaged, with the reason. They are still readable.
    pub failed: Vec<(String, String)>,
    /// The last segment of this host; `None` in a new store.
    pub last: Option<LastSegment>,
}

/// The last segment of a store, as found when the store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSegment {
    /// The segment's name.
    pub name: String,
    /// The segment's header.
    pub header: Header,
    /// Whether the segment ended cleanly.
    pub ended_cleanly: bool,
    /// Positions after the segment's last record: as stated if it ended cleanly, otherwise counted
    /// from its records.
    pub positions: Positions,
    /// Whether the positions are those of all CPUs. Otherwise, the recorder was killed before its
    /// first fence was written, and the next one cannot continue: it would not notice the loss of
    /// the first events of a CPU.
    pub has_all_cpus: bool,
}

/// A store that this process has locked, and in which it has recovered unfinished segments.
pub struct LockedStore {
    pub(super) filesystem: Arc<dyn Filesystem>,
    pub(super) lock: Box<dyn StoreLock>,
    pub(super) recovered: Recovered,
    /// The files of the store after the recovery. Reading all headers of a large store takes long.
    pub(super) listing: StoreListing,
}

impl LockedStore {
    /// Locks the store, and recovers the segments of a recorder on `host` that was killed.
    ///
    /// # Errors
    /// [`OpenStoreError::Busy`] if another recorder writes the store, otherwise when the directory
    /// cannot be used. A segment that cannot be salvaged is no error.
    pub fn open(filesystem: Arc<dyn Filesystem>, host: &str) -> Result<Self, OpenStoreError> {
        let path = filesystem.path("");
        let lock = filesystem.lock().map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => {
                OpenStoreError::Busy { path: path.clone(), pid: filesystem.lock_owner() }
            }
            _ => OpenStoreError::Io { action: "lock", path: path.clone(), source },
        })?;
        let recovered = recover(&*filesystem, &restricted(host));
        let (recovered, listing) =
            recovered.map_err(|source| OpenStoreError::Io { action: "list", path, source })?;
        Ok(Self { filesystem, lock, recovered, listing })
    }

    /// Returns what an earlier recorder left.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Checks that a recorder on `machine` has room for a segment within the maximum size.
    ///
    /// # Errors
    /// [`OpenStoreError::NoRoom`] if files that are never removed take it.
    pub fn check_room(&self, machine: &StoreMachine, options: &StoreOptions) -> Result<(), OpenStoreError> {
        let path = || self.filesystem.path("");
        let Some(max_use) = options.limits.max_use else { return Ok(()) };
        let directory = self.filesystem.directory();
        let directory =
            directory.map_err(|source| OpenStoreError::Io { action: "list", path: path(), source })?.usage();
        let fixed = directory + self.listing.fixed_bytes(machine);
        match fixed + room_to_begin(options) > max_use {
            true => Err(OpenStoreError::NoRoom { path: path(), max_use, fixed }),
            false => Ok(()),
        }
    }

    /// Applies the records of the last segment to `model`, which then holds the processes as of its
    /// end. A recorder that continues with the same socket needs them.
    ///
    /// # Errors
    /// When the segment cannot be read. `model` then has a part of its records.
    pub fn apply_last_segment(&self, model: &mut ProcessModel) -> io::Result<()> {
        let Some(last) = &self.recovered.last else { return Ok(()) };
        segment::read_records(&*self.filesystem, &last.name, |record: &Record<'_>| model.apply(record))
    }
}

/// Salvages the unfinished segments of a host, and finds its last segment. Returns the files of the
/// store as well.
fn recover(filesystem: &dyn Filesystem, host: &str) -> io::Result<(Recovered, StoreListing)> {
    let listing = StoreListing::read(filesystem)?;
    let is_ours = |name: &str| name.strip_prefix(host).is_some_and(|rest| rest.starts_with('-'));
    let unfinished = listing.segments.iter().filter(|segment| segment.is_partial);
    let mut names: Vec<String> = unfinished.map(|segment| segment.entry.name.clone()).collect();
    names.extend(listing.unreadable.iter().map(|entry| entry.name.clone()));
    let mut recovered = Recovered::default();
    for name in names.into_iter().filter(|name| is_ours(name)) {
        match segment::salvage(filesystem, &name) {
            Ok(Recovery::Salvaged(name)) => recovered.salvaged.push(name),
            Ok(Recovery::SetAside(name)) => recovered.set_aside.push(name),
            Ok(Recovery::Removed) => {}
            Err(error) => recovered.failed.push((name, error.to_string())),
        }
    }
    let listing = match recovered == Recovered::default() {
        true => listing,
        false => StoreListing::of(filesystem, filesystem.list()?, listing),
    };
    let ours = listing.segments.iter().filter(|segment| segment.name.host() == host);
    recovered.last = last_segment(filesystem, ours);
    Ok((recovered, listing))
}

/// Returns the last one of these segments.
fn last_segment<'a>(
    filesystem: &dyn Filesystem,
    segments: impl DoubleEndedIterator<Item = &'a SegmentFile> + Clone,
) -> Option<LastSegment> {
    let mut latest = segments.clone().rev();
    let (last, before) = (latest.next()?, latest.next());
    let SegmentFile { entry, summary, .. } = last;
    let drops_before = if summary.reason == Some(SegmentReason::Start) {
        Some(0)
    } else {
        let before = before.filter(|before| summary.previous == Some(before.summary.uuid));
        let end = before.and_then(|before| segment::end_positions(filesystem, &before.entry.name, None).ok());
        end.and_then(|end| end.positions.source_drops)
    };
    let end = segment::end_positions(filesystem, &entry.name, drops_before).ok()?;
    let EndPositions { positions, ended_cleanly, has_all_cpus } = end;
    let has_all_cpus = has_all_cpus || continues_all_cpus(filesystem, segments.rev());
    Some(LastSegment {
        name: entry.name.clone(),
        header: Header::read(&mut filesystem.open(&entry.name).ok()?).ok()??,
        ended_cleanly,
        positions,
        has_all_cpus,
    })
}

/// Returns whether the first one of these segments, latest first, began after a failure of the
/// storage, and continues a segment with the positions of all CPUs.
fn continues_all_cpus<'a>(
    filesystem: &dyn Filesystem,
    mut segments: impl Iterator<Item = &'a SegmentFile>,
) -> bool {
    let Some(mut segment) = segments.next() else { return false };
    while segment.summary.reason == Some(SegmentReason::Storage) {
        let Some(before) =
            segments.next().filter(|before| segment.summary.previous == Some(before.summary.uuid))
        else {
            return false;
        };
        if segment::end_positions(filesystem, &before.entry.name, None).is_ok_and(|end| end.has_all_cpus) {
            return true;
        }
        segment = before;
    }
    false
}

/// Returns whether a segment of this name exists, finished or not.
pub(super) fn is_taken(filesystem: &dyn Filesystem, name: &str) -> bool {
    filesystem.entry(name).is_ok() || filesystem.entry(&partial(name)).is_ok()
}
