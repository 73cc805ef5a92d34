//! Retention: the limits of a store, and their enforcement without a recorder.

use std::io;
use std::time::Duration;

use super::list::{SegmentFile, StoreListing};
use crate::disk::{FileEntry, Filesystem};

/// The limits of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Maximum bytes of the store on disk, everything included; `None` for no limit.
    pub max_use: Option<u64>,
    /// Bytes of the filesystem that stay free; `None` to use all.
    pub keep_free: Option<u64>,
    /// Maximum age of a segment's last event; `None` for segments of any age.
    pub max_age: Option<Duration>,
}

/// Why a segment is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionLimit {
    /// [`RetentionLimits::max_age`].
    MaxAge,
    /// [`RetentionLimits::max_use`].
    MaxUse,
    /// [`RetentionLimits::keep_free`].
    KeepFree,
}

impl RetentionLimit {
    /// Returns the option that sets the limit.
    pub fn option(self) -> &'static str {
        match self {
            Self::MaxAge => "--max-age",
            Self::MaxUse => "--max-use",
            Self::KeepFree => "--keep-free",
        }
    }
}

/// A segment that the limits do not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcessSegment {
    /// The segment's name.
    pub name: String,
    /// Bytes that it takes on disk.
    pub bytes: u64,
    /// The first limit that does not allow it.
    pub limit: RetentionLimit,
}

/// The result of [`vacuum`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VacuumReport {
    /// The segments that were removed, or would have been, oldest first.
    pub removed: Vec<ExcessSegment>,
    /// Segments that could not be removed, with the reason.
    pub failed: Vec<(String, String)>,
    /// Number of segments that stay, including those being written.
    pub kept: usize,
    /// Bytes of the store on disk afterwards, everything included.
    pub used: u64,
    /// Whether all limits are met afterwards. A store whose remaining segments are being written
    /// can still exceed them.
    pub is_within_limits: bool,
}

impl VacuumReport {
    /// Returns the bytes of the removed segments.
    pub fn removed_bytes(&self) -> u64 {
        self.removed.iter().map(|segment| segment.bytes).sum()
    }
}

/// Removes the oldest finished segments until the limits are met; with `dry_run`, only reports
/// them.
///
/// `now_ns` is the wall clock in ns since 1970-01-01T00:00Z. Segments that are being written, clips
/// and foreign files stay. A recorder may write the store at the same time.
///
/// # Errors
/// When the directory cannot be listed. A segment that cannot be removed is no error.
pub fn vacuum(
    filesystem: &dyn Filesystem,
    limits: RetentionLimits,
    now_ns: i64,
    dry_run: bool,
) -> io::Result<VacuumReport> {
    let StoreListing { segments, unreadable, others } = StoreListing::read(filesystem)?;
    let others: u64 = unreadable.iter().chain(&others).map(FileEntry::usage).sum();
    let directory = filesystem.directory()?.bytes;
    let mut report = VacuumReport { kept: segments.len(), ..VacuumReport::default() };
    report.used = segments.iter().map(|segment| segment.entry.usage()).sum::<u64>() + others + directory;
    // Without a known amount of free space, there is no such limit.
    let mut available = filesystem.available().unwrap_or(u64::MAX);
    // A segment ends where the next one of its machine starts.
    let end = |at: usize| {
        let machine = |segment: &SegmentFile| {
            let meta = &segment.header.meta;
            (meta.machine_id.clone(), meta.host.clone())
        };
        let next = segments[at + 1..].iter().find(|next| machine(next) == machine(&segments[at]));
        next.map(|next| next.header.meta.start.real_ns)
    };
    let excess = |report: &VacuumReport, available, end: Option<i64>| {
        let is_old = limits.max_age.zip(end).is_some_and(|(max, end)| {
            u128::try_from(now_ns.saturating_sub(end)).is_ok_and(|age| age > max.as_nanos())
        });
        let checks = [
            (is_old, RetentionLimit::MaxAge),
            (limits.max_use.is_some_and(|max| report.used > max), RetentionLimit::MaxUse),
            (limits.keep_free.is_some_and(|keep| available < keep), RetentionLimit::KeepFree),
        ];
        checks.into_iter().find_map(|(is_excess, limit)| is_excess.then_some(limit))
    };
    for (at, segment) in segments.iter().enumerate().filter(|(_, segment)| !segment.is_partial) {
        let Some(limit) = excess(&report, available, end(at)) else { continue };
        let (name, bytes) = (segment.entry.name.clone(), segment.entry.usage());
        match if dry_run { Ok(()) } else { filesystem.remove(&name) } {
            Ok(()) => report.removed.push(ExcessSegment { name, bytes, limit }),
            // The recorder or another process has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                report.failed.push((name, error.to_string()));
                continue;
            }
        }
        report.kept -= 1;
        report.used -= bytes;
        available = available.saturating_add(segment.entry.allocated);
    }
    report.is_within_limits = excess(&report, available, None).is_none();
    Ok(report)
}

#[cfg(test)]
mod tests {
    use pmon_core::MonoNs;
    use pmon_core::capture::{ClockAnchor, Encoder, Header, Meta};
    use pmon_core::wire::ByteOrder;

    use super::*;
    use crate::segment::SegmentName;
    use crate::simulated::SimulatedFilesystem;

    const SECOND: u64 = 1_000_000_000;

    /// Returns a store with a segment of 8 KiB for each of ten seconds; the last one is unfinished.
    fn store() -> SimulatedFilesystem {
        let fs = SimulatedFilesystem::default();
        for second in 0..10_u8 {
            let time = u64::from(second) * SECOND;
            let start = ClockAnchor { mono: MonoNs(time), boot_ns: time, real_ns: time as i64 };
            let meta = Meta { host: "h".into(), start, ..Meta::default() };
            let header = Header { uuid: [second; 16], byte_order: ByteOrder::NATIVE, meta };
            let name = SegmentName::unused("h", time as i64, |_| false).to_string();
            let name = if second == 9 { format!("{name}.partial") } else { name };
            let file = fs.create(&name).unwrap();
            file.write_at(Encoder::new(&header).unwrap().header(), 0).unwrap();
            file.set_len(8192).unwrap();
        }
        fs.create("notes.txt").unwrap().write_at(&[0; 99999], 0).unwrap();
        fs
    }

    #[test]
    fn each_limit_removes_the_oldest_segments_and_a_dry_run_none() {
        let full = vacuum(&store(), RetentionLimits::default(), 0, false).unwrap();
        assert_eq!((full.removed.len(), full.kept), (0, 10));
        for (limits, removed, limit) in [
            (
                RetentionLimits { max_use: Some(full.used - 8193), ..RetentionLimits::default() },
                2,
                RetentionLimit::MaxUse,
            ),
            (
                RetentionLimits { max_age: Some(Duration::from_secs(6)), ..RetentionLimits::default() },
                3,
                RetentionLimit::MaxAge,
            ),
        ] {
            let fs = store();
            let planned = vacuum(&fs, limits, 10 * SECOND as i64 - 1, true).unwrap();
            assert_eq!(fs.names().len(), 11);
            let report = vacuum(&fs, limits, 10 * SECOND as i64 - 1, false).unwrap();
            assert_eq!(report, planned);
            assert_eq!(report.removed.len(), removed, "{report:?}");
            assert!(report.removed.iter().all(|segment| segment.limit == limit));
            assert_eq!(report.removed[0].name, "h-19700101T000000Z.pmon");
            assert_eq!(fs.names().len(), 11 - removed);
            assert!(report.is_within_limits);
        }
    }

    #[test]
    fn the_segment_being_written_and_foreign_files_stay() {
        let fs = store();
        let limits = RetentionLimits { max_use: Some(0), ..RetentionLimits::default() };
        let report = vacuum(&fs, limits, 0, false).unwrap();
        assert_eq!((report.removed.len(), report.kept, report.is_within_limits), (9, 1, false));
        let names: Vec<_> = fs.names().into_iter().collect();
        assert_eq!(names, ["h-19700101T000009Z.pmon.partial", "notes.txt"]);
    }

    #[test]
    fn free_space_is_made_by_removing_segments() {
        let fs = store();
        fs.set_conditions(|disk| disk.capacity = Some(1 << 20));
        let keep = fs.available().unwrap() + 1;
        let limits = RetentionLimits { keep_free: Some(keep), ..RetentionLimits::default() };
        let report = vacuum(&fs, limits, 0, false).unwrap();
        assert_eq!(report.removed.len(), 1, "{report:?}");
        assert!(fs.available().unwrap() >= keep);
    }
}
