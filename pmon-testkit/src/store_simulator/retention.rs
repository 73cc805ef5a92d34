//! The limits of a store, and the order in which it removes segments.

use std::collections::BTreeSet;

use pmon_core::MonoNs;
use pmon_core::capture::Reader;
use pmon_store::simulated::SimulatedFilesystem;
use pmon_store::{Filesystem as _, RetentionLimits, SegmentName};

/// A segment whose header has been read.
#[derive(Clone, Debug)]
struct KnownSegment {
    name: String,
    boot_id: String,
    start: MonoNs,
}

/// The segments of a store after a step.
#[derive(Debug, Default)]
pub(super) struct RetentionCheck {
    segments: Vec<KnownSegment>,
    /// Names of the segments that had their final names.
    sealed: BTreeSet<String>,
}

impl RetentionCheck {
    /// Checks that the limits were kept after each operation since the last call, and that the
    /// oldest segments were removed first, unless `is_ordered` is not set.
    ///
    /// # Errors
    /// The first contradiction.
    pub(super) fn check(
        &mut self,
        fs: &SimulatedFilesystem,
        limits: &RetentionLimits,
        is_ordered: bool,
    ) -> Result<(), String> {
        let extremes = fs.take_extremes();
        let RetentionLimits { max_use, keep_free, .. } = *limits;
        if let Some(max_use) = max_use.filter(|max_use| extremes.most_used > *max_use) {
            return Err(format!("{} bytes were used, more than {max_use}", extremes.most_used));
        }
        if let Some(keep_free) = keep_free.filter(|keep_free| extremes.least_available < *keep_free) {
            return Err(format!("{} bytes were left free, fewer than {keep_free}", extremes.least_available));
        }
        let names = fs.names();
        self.check_removed(&names, is_ordered)?;
        for file in names {
            let name = file.strip_suffix(".partial").unwrap_or(&file).to_owned();
            if SegmentName::parse(&name).is_none() || self.segments.iter().any(|known| known.name == name) {
                continue;
            }
            let input = fs.open(&file).map_err(|error| error.to_string())?;
            if let Some(header) = Reader::open(input).ok().and_then(|reader| reader.header().cloned()) {
                let (boot_id, start) = (header.meta.boot_id, header.meta.start.mono);
                self.segments.push(KnownSegment { name, boot_id, start });
            }
        }
        Ok(())
    }

    /// Compares the removed segments with those that are still there.
    fn check_removed(&mut self, names: &BTreeSet<String>, is_ordered: bool) -> Result<(), String> {
        // The name of a removed segment is free for another one of the same second.
        let is_partial =
            |name: &String| !self.sealed.contains(name) && names.contains(&format!("{name}.partial"));
        let is_there = |segment: &KnownSegment| names.contains(&segment.name) || is_partial(&segment.name);
        let (kept, mut removed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.segments).into_iter().partition(is_there);
        // A segment that had not got its final name yet was removed because it held nothing.
        removed.retain(|segment| self.sealed.contains(&segment.name));
        let age = |segment: &KnownSegment| (segment.boot_id.clone(), segment.start);
        // One that has got its final name since was not there yet.
        let oldest = kept.iter().filter(|segment| self.sealed.contains(&segment.name)).map(age).min();
        self.sealed = names.iter().filter(|name| SegmentName::parse(name).is_some()).cloned().collect();
        if let (Some(newest), Some(oldest)) = (removed.iter().map(age).max(), oldest)
            && newest > oldest
            && is_ordered
        {
            return Err(format!("{removed:?} was removed before {kept:?}"));
        }
        self.segments = kept;
        Ok(())
    }

    /// Returns the name of a finished segment that another program is about to remove: the one at
    /// that percentage of the segments.
    pub(super) fn take(&mut self, percent: u32, fs: &SimulatedFilesystem) -> Option<String> {
        let at = self.segments.len() * percent as usize / 100;
        let name = &self.segments.get(at)?.name;
        fs.names().contains(name).then(|| self.segments.remove(at).name)
    }
}
