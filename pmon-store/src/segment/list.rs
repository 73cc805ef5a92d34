//! The files of a store in a directory.

use std::collections::HashMap;
use std::io;

use super::name::{SegmentName, is_store_file};
use super::order::in_order;
use super::summary::SegmentSummary;
use crate::disk::{FileEntry, Filesystem};

/// A segment in a directory, with an intact header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    pub(crate) entry: FileEntry,
    /// The final name of the segment.
    pub(crate) name: SegmentName,
    /// Whether the segment is not finished.
    pub(crate) is_partial: bool,
    pub(crate) summary: SegmentSummary,
}

/// A finished segment without an intact header, or an unfinished one that a recovery has set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DamagedFile {
    pub(crate) entry: FileEntry,
    /// The name that the segment would have. It states the age of the file.
    pub(crate) name: SegmentName,
}

/// A file of a store that ages: a segment, or a damaged file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgedFile<'a> {
    pub(crate) entry: &'a FileEntry,
    /// `None` for a damaged file.
    pub(crate) segment: Option<&'a SegmentFile>,
}

/// The files of a directory that belong to a store.
///
/// This listing is for a recorder and for retention: it has the size of every file. Readers use a
/// [`SegmentList`](crate::SegmentList), which reads a header when it is needed, and also takes
/// given files with any names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreListing {
    /// The segments, in the order of their headers.
    pub(crate) segments: Vec<SegmentFile>,
    /// Files of segments without a readable header that no recorder finishes.
    pub(crate) damaged: Vec<DamagedFile>,
    /// Unfinished segments without a readable header.
    pub(crate) unreadable: Vec<FileEntry>,
    /// Other files of the store: clips, those of the recorder, and finished segments that cannot be
    /// opened.
    pub(crate) others: Vec<FileEntry>,
}

impl StoreListing {
    /// Lists a directory. Foreign files are left out.
    ///
    /// # Errors
    /// When the directory cannot be listed. A file that cannot be read is no error.
    pub(crate) fn read(filesystem: &dyn Filesystem) -> io::Result<Self> {
        Ok(Self::of(filesystem, filesystem.list()?, Self::default()))
    }

    /// Returns the listing of files. The headers of segments in an `earlier` listing are not read
    /// again.
    pub(crate) fn of(filesystem: &dyn Filesystem, files: Vec<FileEntry>, earlier: Self) -> Self {
        let known = earlier.segments.into_iter().map(|segment| (segment.entry.name, segment.summary));
        let mut known: HashMap<String, SegmentSummary> = known.collect();
        let mut this = Self::default();
        for entry in files {
            let Some((name, is_partial)) = SegmentName::parse_file(&entry.name) else {
                if let Some(name) = SegmentName::parse_damaged(&entry.name) {
                    this.damaged.push(DamagedFile { entry, name });
                } else if is_store_file(&entry.name) {
                    this.others.push(entry);
                }
                continue;
            };
            let known = known.remove(&entry.name).map(|summary| Ok(Some(summary)));
            let read = || filesystem.open(&entry.name).map(|mut file| SegmentSummary::read(&mut file));
            match known.unwrap_or_else(read) {
                Ok(Some(summary)) => this.segments.push(SegmentFile { entry, name, is_partial, summary }),
                _ if is_partial => this.unreadable.push(entry),
                Ok(None) => this.damaged.push(DamagedFile { entry, name }),
                Err(_) => this.others.push(entry),
            }
        }
        this.damaged.sort_by(|one, other| one.name.time().cmp(other.name.time()));
        this.segments = in_order(std::mem::take(&mut this.segments), |segment| &segment.summary);
        this
    }

    /// Returns the segments and the damaged files, oldest first. The order of segments is that of
    /// their headers; the name of a damaged file places it among them.
    pub(crate) fn oldest_first(&self) -> Vec<AgedFile<'_>> {
        let mut files = Vec::with_capacity(self.segments.len() + self.damaged.len());
        let mut damaged = self.damaged.iter().peekable();
        for segment in &self.segments {
            while let Some(file) = damaged.next_if(|file| file.name.time() <= segment.name.time()) {
                files.push(AgedFile { entry: &file.entry, segment: None });
            }
            files.push(AgedFile { entry: &segment.entry, segment: Some(segment) });
        }
        files.extend(damaged.map(|file| AgedFile { entry: &file.entry, segment: None }));
        files
    }
}
