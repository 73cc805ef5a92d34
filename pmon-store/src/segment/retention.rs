//! Retention: the limits of a store, and their enforcement without a recorder.

use std::io;
use std::time::Duration;

use super::list::{SegmentFile, StoreListing};
use super::machine::StoreMachine;
use crate::disk::{FileEntry, Filesystem};

/// The limits of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Maximum bytes of the store on disk, everything included; `None` for no limit.
    pub max_use: Option<u64>,
    /// Bytes of the filesystem that stay free; `None` to use all.
    pub keep_free: Option<u64>,
    /// Time from the end of a segment, which is the start of the next one, until the segment is
    /// removed; `None` to keep segments of any age.
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

/// A limit that the removal of every segment that may be removed would not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnmeetableLimit {
    /// The limit.
    pub limit: RetentionLimit,
    /// For [`RetentionLimit::MaxUse`], the bytes that would remain; for
    /// [`RetentionLimit::KeepFree`], the bytes that would be free.
    pub reachable: u64,
}

/// The result of [`vacuum`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VacuumReport {
    /// The segments that were removed, or would have been, oldest first. Damaged ones are among
    /// them.
    pub removed: Vec<ExcessSegment>,
    /// The limits that cannot be met. No segment was removed for them.
    pub unmeetable: Vec<UnmeetableLimit>,
    /// Segments that could not be removed, with the reason.
    pub failed: Vec<(String, String)>,
    /// Number of segments with an intact header that stay, including those being written.
    pub kept: usize,
    /// Bytes of the store on disk afterwards, everything included.
    pub used: u64,
    /// Whether all limits are met afterwards.
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
/// `now_ns` is the wall clock in ns since 1970-01-01T00:00Z. The newest segment, those that are
/// being written, clips and foreign files stay. For a limit that cannot be met without them, no
/// segment is removed: such a limit is more often a mistake than a request to remove everything.
///
/// If `machine` has segments in the store, those of other machines are foreign, as for its
/// recorder, which may write the store at the same time.
///
/// # Errors
/// When the directory cannot be listed. A segment that cannot be removed is no error.
pub fn vacuum(
    filesystem: &dyn Filesystem,
    limits: RetentionLimits,
    machine: &StoreMachine,
    now_ns: i64,
    dry_run: bool,
) -> io::Result<VacuumReport> {
    let mut listing = StoreListing::read(filesystem)?;
    if listing.segments.iter().any(|segment| machine.recorded(segment)) {
        (listing, _) = listing.of_machine(machine);
    }
    let others: u64 = listing.unreadable.iter().chain(&listing.others).map(FileEntry::usage).sum();
    let directory = filesystem.directory()?.usage();
    let files = listing.oldest_first();
    let mut report = VacuumReport { kept: listing.segments.len(), ..VacuumReport::default() };
    report.used = files.iter().map(|file| file.entry.usage()).sum::<u64>() + others + directory;
    // Without a known amount of free space, there is no such limit.
    let mut available = filesystem.available().unwrap_or(u64::MAX);
    let newest = files.iter().rposition(|file| file.segment.is_some());
    let is_removable = |at: usize| {
        let is_partial = files[at].segment.is_some_and(|segment| segment.is_partial);
        !is_partial && Some(at) != newest
    };
    let removable = || (0..files.len()).filter(|&at| is_removable(at)).map(|at| files[at].entry);
    let fixed = report.used - removable().map(FileEntry::usage).sum::<u64>();
    let freeable = removable().fold(available, |free, entry| free.saturating_add(entry.allocated));
    let unmeetable = [
        (limits.max_use.is_some_and(|max| fixed > max), RetentionLimit::MaxUse, fixed),
        (limits.keep_free.is_some_and(|keep| freeable < keep), RetentionLimit::KeepFree, freeable),
    ];
    let unmeetable = unmeetable.into_iter().filter(|(is_unmeetable, ..)| *is_unmeetable);
    report.unmeetable =
        unmeetable.map(|(_, limit, reachable)| UnmeetableLimit { limit, reachable }).collect();
    let is_met = |limit| report.unmeetable.iter().all(|unmeetable| unmeetable.limit != limit);
    let limits = RetentionLimits {
        max_use: limits.max_use.filter(|_| is_met(RetentionLimit::MaxUse)),
        keep_free: limits.keep_free.filter(|_| is_met(RetentionLimit::KeepFree)),
        ..limits
    };
    // A segment ends where the next one of its machine starts. The machine of a damaged one is
    // unknown.
    let end = |at: usize| {
        let machine = |segment: &SegmentFile| {
            let summary = &segment.summary;
            (summary.machine_id.clone(), summary.host.clone())
        };
        let mut later = files[at + 1..].iter().filter_map(|file| file.segment);
        let next = match files[at].segment {
            Some(segment) => later.find(|next| machine(next) == machine(segment)),
            None => later.next(),
        };
        next.map(|next| next.summary.start.real_ns)
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
    for (at, file) in files.iter().enumerate().filter(|(at, _)| is_removable(*at)) {
        let Some(limit) = excess(&report, available, end(at)) else { continue };
        let (name, bytes) = (file.entry.name.clone(), file.entry.usage());
        match if dry_run { Ok(()) } else { filesystem.remove(&name) } {
            Ok(()) => report.removed.push(ExcessSegment { name, bytes, limit }),
            // The recorder or another process has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                report.failed.push((name, error.to_string()));
                continue;
            }
        }
        report.kept -= usize::from(file.segment.is_some());
        report.used -= bytes;
        available = available.saturating_add(file.entry.allocated);
    }
    report.is_within_limits = report.unmeetable.is_empty() && excess(&report, available, None).is_none();
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

    fn machine() -> StoreMachine {
        StoreMachine::of(&Meta { host: "h".into(), ..Meta::default() })
    }

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
        let full = vacuum(&store(), RetentionLimits::default(), &machine(), 0, false).unwrap();
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
            let planned = vacuum(&fs, limits, &machine(), 10 * SECOND as i64 - 1, true).unwrap();
            assert_eq!(fs.names().len(), 11);
            let report = vacuum(&fs, limits, &machine(), 10 * SECOND as i64 - 1, false).unwrap();
            assert_eq!(report, planned);
            assert_eq!(report.removed.len(), removed, "{report:?}");
            assert!(report.removed.iter().all(|segment| segment.limit == limit));
            assert_eq!(report.removed[0].name, "h-19700101T000000Z.pmon");
            assert_eq!(fs.names().len(), 11 - removed);
            assert!(report.is_within_limits);
        }
    }

    #[test]
    fn a_limit_that_cannot_be_met_removes_no_segment() {
        let fs = store();
        let used = vacuum(&fs, RetentionLimits::default(), &machine(), 0, true).unwrap().used;
        // The segment being written, and the directory.
        let fixed = used - 9 * 8192;
        let limit = |max_use| RetentionLimits { max_use: Some(max_use), ..RetentionLimits::default() };
        for max_use in [0, fixed - 1] {
            let report = vacuum(&fs, limit(max_use), &machine(), 0, false).unwrap();
            assert_eq!((report.removed.len(), report.kept, report.is_within_limits), (0, 10, false));
            let unmeetable = UnmeetableLimit { limit: RetentionLimit::MaxUse, reachable: fixed };
            assert_eq!(report.unmeetable, [unmeetable]);
        }
        fs.set_conditions(|disk| disk.capacity = Some(1 << 20));
        let keep_free =
            |keep_free| RetentionLimits { keep_free: Some(keep_free), ..RetentionLimits::default() };
        let report = vacuum(&fs, keep_free(1 << 20), &machine(), 0, false).unwrap();
        assert_eq!((report.removed.len(), report.is_within_limits), (0, false));
        let most = report.unmeetable[0].reachable;
        assert_eq!(report.unmeetable[0].limit, RetentionLimit::KeepFree);
        // Another limit still applies.
        let both = RetentionLimits { max_age: Some(Duration::from_secs(6)), ..limit(0) };
        let report = vacuum(&fs, both, &machine(), 10 * SECOND as i64 - 1, false).unwrap();
        assert_eq!((report.removed.len(), report.unmeetable.len(), report.is_within_limits), (3, 1, false));
        assert!(report.removed.iter().all(|segment| segment.limit == RetentionLimit::MaxAge));
        // The least limits that can be met leave the segment being written, and foreign files.
        let report = vacuum(&fs, keep_free(most), &machine(), 0, true).unwrap();
        assert!(report.is_within_limits, "{report:?}");
        let report = vacuum(&fs, limit(fixed), &machine(), 0, false).unwrap();
        assert_eq!((report.removed.len(), report.kept, report.is_within_limits), (6, 1, true));
        let names: Vec<_> = fs.names().into_iter().collect();
        assert_eq!(names, ["h-19700101T000009Z.pmon.partial", "notes.txt"]);
    }

    #[test]
    fn the_newest_segment_stays_in_a_store_without_a_recorder() {
        let fs = store();
        fs.delete("h-19700101T000009Z.pmon.partial");
        let used = vacuum(&fs, RetentionLimits::default(), &machine(), 0, true).unwrap().used;
        let limit = |max_use| RetentionLimits { max_use: Some(max_use), ..RetentionLimits::default() };
        let report = vacuum(&fs, limit(used - 8 * 8192 - 1), &machine(), 0, false).unwrap();
        assert_eq!((report.removed.len(), report.unmeetable.len()), (0, 1));
        let report = vacuum(&fs, limit(used - 8 * 8192), &machine(), 0, false).unwrap();
        assert_eq!((report.removed.len(), report.kept, report.is_within_limits), (8, 1, true));
        assert!(fs.names().contains("h-19700101T000008Z.pmon"));
    }

    #[test]
    fn damaged_segments_are_removed_in_the_order_of_the_times_in_their_names() {
        let fs = store();
        // The header of one segment is destroyed, and the recovery has set aside another one.
        fs.reopen("h-19700101T000003Z.pmon").unwrap().write_at(&[0; 64], 0).unwrap();
        fs.create("h-19700101T000001Z-2.damaged.pmon").unwrap().set_len(8192).unwrap();
        fs.create("h-19700101T000001Z-x.clip.pmon").unwrap().set_len(8192).unwrap();
        let full = vacuum(&fs, RetentionLimits::default(), &machine(), 0, true).unwrap();
        assert_eq!(full.kept, 9);
        let by_use = RetentionLimits { max_use: Some(full.used - 5 * 8192), ..RetentionLimits::default() };
        let by_age = RetentionLimits { max_age: Some(Duration::from_secs(5)), ..RetentionLimits::default() };
        for limits in [by_use, by_age] {
            let report = vacuum(&fs, limits, &machine(), 10 * SECOND as i64 - 1, true).unwrap();
            let names: Vec<_> = report.removed.iter().map(|file| file.name.as_str()).collect();
            let expected = ["00Z.pmon", "01Z-2.damaged.pmon", "01Z.pmon", "02Z.pmon", "03Z.pmon"]
                .map(|end| format!("h-19700101T0000{end}"));
            assert_eq!(names, expected, "{limits:?}");
            assert_eq!((report.kept, report.is_within_limits), (6, true));
        }
    }

    #[test]
    fn all_segments_belong_to_a_store_without_one_of_this_machine() {
        let other = StoreMachine::of(&Meta { host: "other".into(), ..Meta::default() });
        let used = vacuum(&store(), RetentionLimits::default(), &machine(), 0, true).unwrap().used;
        let limits = RetentionLimits { max_use: Some(used - 9 * 8192), ..RetentionLimits::default() };
        assert_eq!(vacuum(&store(), limits, &other, 0, false).unwrap().removed.len(), 9);
    }

    #[test]
    fn free_space_is_made_by_removing_segments() {
        let fs = store();
        fs.set_conditions(|disk| disk.capacity = Some(1 << 20));
        let keep = fs.available().unwrap() + 1;
        let limits = RetentionLimits { keep_free: Some(keep), ..RetentionLimits::default() };
        let report = vacuum(&fs, limits, &machine(), 0, false).unwrap();
        assert_eq!(report.removed.len(), 1, "{report:?}");
        assert!(fs.available().unwrap() >= keep);
    }
}
