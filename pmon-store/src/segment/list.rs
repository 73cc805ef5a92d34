//! The segments in a directory.

use std::collections::HashMap;
use std::io;

use pmon_core::capture::Header;

use super::name::{SegmentName, is_store_file};
use super::order::{OrderKey, in_order};
use crate::disk::{FileEntry, Filesystem};
use crate::file::PARTIAL;

/// A segment in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// The file.
    pub entry: FileEntry,
    /// The final name of the segment.
    pub name: SegmentName,
    /// Whether the segment is not finished.
    pub is_partial: bool,
    /// The header.
    pub header: Header,
}

/// The files of a directory that belong to a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreListing {
    /// The segments, in the order of their headers.
    pub segments: Vec<SegmentFile>,
    /// Unfinished segments without a readable header.
    pub unreadable: Vec<FileEntry>,
    /// Other files of the store: clips, and those of the recorder.
    pub others: Vec<FileEntry>,
}

impl StoreListing {
    /// Lists a directory. Foreign files, and segments with a damaged header, are left out.
    ///
    /// # Errors
    /// When the directory cannot be listed. A file that cannot be read is no error.
    pub fn read(filesystem: &dyn Filesystem) -> io::Result<Self> {
        Ok(Self::of(filesystem, filesystem.list()?, Self::default()))
    }

    /// Returns the listing of files. The headers of segments in an `earlier` listing are not read
    /// again.
    pub(crate) fn of(filesystem: &dyn Filesystem, files: Vec<FileEntry>, earlier: Self) -> Self {
        let known = earlier.segments.into_iter().map(|segment| (segment.entry.name, segment.header));
        let mut known: HashMap<String, Header> = known.collect();
        let mut this = Self::default();
        for entry in files {
            let (stem, is_partial) = match entry.name.strip_suffix(PARTIAL) {
                Some(stem) => (stem, true),
                None => (&*entry.name, false),
            };
            let Some(name) = SegmentName::parse(stem) else {
                if is_store_file(&entry.name) {
                    this.others.push(entry);
                }
                continue;
            };
            match known.remove(&entry.name).or_else(|| header(filesystem, &entry.name)) {
                Some(header) => this.segments.push(SegmentFile { entry, name, is_partial, header }),
                None if is_partial => this.unreadable.push(entry),
                None => this.others.push(entry),
            }
        }
        this.segments = in_order(std::mem::take(&mut this.segments), |segment| OrderKey::of(&segment.header));
        this
    }
}

/// Reads the header of a capture; `None` if it cannot be read.
pub(crate) fn header(filesystem: &dyn Filesystem, name: &str) -> Option<Header> {
    Header::read(&mut filesystem.open(name).ok()?).ok().flatten()
}
