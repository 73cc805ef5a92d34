//! Makes one clip from the ended segments of a store.

use std::io::{self, Write};
use std::sync::Arc;

use pmon_analysis::TimeBound;
use pmon_core::MonoNs;
use pmon_core::capture::{ClockAnchor, UnobservedReason};

use super::queue::PendingClip;
use super::request::{Clip, ClipError};
use super::service::ClipConfig;
use crate::cut::{CutError, CutOptions, CutReport, CutSource, cut};
use crate::disk::{Disk, DiskWriter, Filesystem};
use crate::file::{partial, sync_supported};
use crate::reader::{RangeBound, SegmentEntry, SegmentList};
use crate::segment::{CLIP_SUFFIX, UtcSecond, restricted};

/// Maximum length of the names of the requests in the name of a clip, in bytes.
const MAX_NAMES: usize = 100;
/// Number of attempts if retention removes a segment that the clip needs.
const ATTEMPTS: u32 = 3;
/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// Removes the unfinished clips of a recorder that was killed.
pub(crate) fn remove_unfinished(output: &dyn Filesystem) {
    let unfinished = partial(CLIP_SUFFIX);
    for file in output.list().unwrap_or_default() {
        if file.name.ends_with(&unfinished) {
            // A file that cannot be removed is no obstacle: names are never used twice.
            let _ = output.remove(&file.name);
        }
    }
}

/// Makes a clip.
pub(super) fn make(config: &ClipConfig, clip: &PendingClip, now: ClockAnchor) -> Result<Clip, ClipError> {
    let mut attempt = 1;
    loop {
        match attempt_to_make(config, clip, now) {
            // A segment was removed after it had been listed.
            Err((_, true)) if attempt < ATTEMPTS => attempt += 1,
            result => return result.map_err(|(error, _)| error),
        }
    }
}

/// Makes a clip. An error states whether a segment has disappeared.
fn attempt_to_make(
    config: &ClipConfig,
    clip: &PendingClip,
    now: ClockAnchor,
) -> Result<Clip, (ClipError, bool)> {
    let (name, disk) = create(config, clip, now).map_err(|error| {
        (
            ClipError::Failed { path: config.output.path("").display().to_string(), why: error.to_string() },
            false,
        )
    })?;
    let partial_name = partial(&name);
    let mut writer = DiskWriter::new(disk.clone());
    let made = write(config, clip, now, &mut writer).and_then(|report| {
        publish(&*config.output, &*disk, &partial_name, &name).map_err(CutError::Write)?;
        Ok(report)
    });
    let path = config.output.path(&name);
    made.map(|report| Clip {
        path: path.clone(),
        names: clip.names.clone(),
        from: report.from,
        until: report.until,
        events: report.events,
        bytes: report.bytes,
        verdict: report.verdict(),
        missing: report.missing(),
    })
    .map_err(|error| {
        // The error is reported. The file, if it stays, is removed at the next start.
        let _ = config.output.remove(&partial_name);
        let has_disappeared =
            matches!(&error, CutError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound);
        (explain(&error, &path.display().to_string(), writer.bytes()), has_disappeared)
    })
}

fn explain(error: &CutError, path: &str, bytes: u64) -> ClipError {
    match error {
        CutError::Write(source)
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            ClipError::NoRoom { bytes, reason: source.to_string() }
        }
        error => ClipError::Failed { path: path.into(), why: error.to_string() },
    }
}

/// Creates the file of a clip under a name that no file has. Returns the final name.
fn create(config: &ClipConfig, clip: &PendingClip, now: ClockAnchor) -> io::Result<(String, Arc<dyn Disk>)> {
    let real_ns = now.at(clip.at).real_ns;
    let taken = |name: &str| config.output.entry(name).is_ok();
    let mut suffix = None;
    loop {
        let name = file_name(&config.host, real_ns, suffix, clip);
        let next = suffix.map_or(real_ns.rem_euclid(SECOND), |suffix| (suffix + 1) % SECOND);
        if !taken(&name) {
            match config.output.create(&partial(&name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => return Ok((name, created?)),
            }
        }
        suffix = Some(next);
    }
}

/// Returns `HOST-YYYYMMDDTHHMMSSZ-NAME.clip.pmon`; with `suffix`, `_NNNNNNNNN` follows the time.
fn file_name(host: &str, real_ns: i64, suffix: Option<i64>, clip: &PendingClip) -> String {
    let mut names = String::new();
    for name in &clip.names {
        if names.is_empty() {
            names.push_str(name.as_str());
        } else if names.len() + name.as_str().len() < MAX_NAMES {
            names.push('+');
            names.push_str(name.as_str());
        }
    }
    let suffix = suffix.map(|nanos| format!("_{nanos:09}")).unwrap_or_default();
    format!("{}-{}{suffix}-{names}{CLIP_SUFFIX}", restricted(host), UtcSecond::of(real_ns))
}

fn write(
    config: &ClipConfig,
    clip: &PendingClip,
    now: ClockAnchor,
    out: &mut dyn Write,
) -> Result<CutReport, CutError> {
    let EndedSegments { entries, before, lacks_end } = ended_segments(config, clip, now)?;
    let options = CutOptions {
        since: Some(TimeBound::Mono(clip.from)),
        until: Some(TimeBound::Mono(clip.until)),
        selection: None,
        uuid: config.output.new_uuid(),
        tool: config.tool.clone(),
        now: Some(now.mono),
        before,
        lacks_end,
    };
    let source: &[SegmentEntry] = &entries;
    cut(&SourceOf(source), &options, out, &mut |_| ())
}

/// The ended segments that a clip needs.
struct SourceOf<'a>(&'a [SegmentEntry]);

impl CutSource for SourceOf<'_> {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }

    fn open(&self, index: usize) -> io::Result<Box<dyn crate::disk::StoredFile>> {
        CutSource::open(self.0, index)
    }
}

/// The ended segments of the present boot that can hold a part of a clip.
struct EndedSegments {
    entries: Vec<SegmentEntry>,
    /// Why there are no events before the first one, if another segment is there.
    before: Option<UnobservedReason>,
    /// Whether a later one has not ended: a failing disk can keep it from that.
    lacks_end: bool,
}

fn ended_segments(
    config: &ClipConfig,
    clip: &PendingClip,
    now: ClockAnchor,
) -> Result<EndedSegments, CutError> {
    let filesystem = config.store.filesystem();
    let mut list = match SegmentList::of_store(filesystem, Some(&config.host)) {
        Ok(list) => list,
        Err(crate::reader::ListError::Io(source)) => {
            return Err(CutError::Read { name: config.output.path("").display().to_string(), source });
        }
        Err(_) => return Err(CutError::NoCapture),
    };
    let all = list.entries().to_vec();
    let bound = |time: MonoNs| RangeBound { real_ns: now.at(time).real_ns, mono: Some(time) };
    list.restrict(Some(bound(clip.from)), Some(bound(clip.until)));
    let mut entries = list.entries().to_vec();
    let ended = entries.iter().rposition(|entry| !entry.is_partial).map_or(0, |last| last + 1);
    let mut unended = entries.split_off(ended);
    entries.retain(|entry| !entry.is_partial);
    // Earlier boots have another monotonic clock.
    let boot = entries.last_mut().and_then(|last| Some(last.summary()?.boot_id.clone()));
    let Some(boot) = boot else { return Ok(EndedSegments { entries, before: None, lacks_end: false }) };
    entries.retain_mut(|entry| entry.summary().is_none_or(|summary| summary.boot_id == boot));
    let lacks_end = unended
        .iter_mut()
        .filter_map(SegmentEntry::summary)
        .any(|summary| summary.boot_id == boot && summary.start.mono < clip.until);
    let before = entries.first_mut().and_then(|first| reason_before(first, all, &boot));
    Ok(EndedSegments { entries, before, lacks_end })
}

/// Returns why a clip of this boot has no events from before the segment `first`, if there is a
/// segment before it among `all`. Without one, retention may have removed it.
fn reason_before(
    first: &mut SegmentEntry,
    mut all: Vec<SegmentEntry>,
    boot: &str,
) -> Option<UnobservedReason> {
    let previous = first.summary()?.previous?;
    let at = all.iter().position(|entry| entry.name == first.name)?;
    let before = all.get_mut(at.checked_sub(1)?)?.summary();
    let is_earlier_boot = before.is_some_and(|of| of.uuid == previous && of.boot_id != boot);
    // A segment of this boot that is not used has not ended, or cannot be read.
    Some(if is_earlier_boot { UnobservedReason::Stopped } else { UnobservedReason::Missing })
}

/// Gives a clip its final name, once everything is on the disk.
fn publish(output: &dyn Filesystem, disk: &dyn Disk, partial: &str, name: &str) -> io::Result<()> {
    disk.sync()?;
    output.rename(partial, name)?;
    sync_supported(output).map_err(|error| {
        io::Error::other(format!("it is complete, but a power loss can undo its name: {error}"))
    })
}
