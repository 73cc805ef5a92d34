//! A capture in a recording, whose header is read when it is needed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bytes::CaptureBytes;
use crate::disk::Filesystem;
use crate::file::PARTIAL;
use crate::segment::{SegmentName, SegmentSummary, UtcSecond};

/// One capture of a recording.
#[derive(Clone)]
pub struct SegmentEntry {
    /// Name of the file; for given files, the path.
    pub name: String,
    /// Whether the file is still being written, or its recorder was killed.
    pub is_partial: bool,
    /// The final name of the segment; `None` if the file has another name.
    pub(super) segment: Option<SegmentName>,
    location: Location,
    /// What the header states, once it was read.
    pub(super) summary: Option<SegmentSummary>,
    is_read: bool,
}

#[derive(Clone)]
enum Location {
    Path(PathBuf),
    Stored(Arc<dyn Filesystem>),
}

impl SegmentEntry {
    /// Returns the segment in a file of a store; `None` if its name is not that of a segment.
    pub(super) fn stored(filesystem: &Arc<dyn Filesystem>, name: &str) -> Option<Self> {
        let (segment, is_partial) = SegmentName::parse_file(name)?;
        Some(Self {
            name: name.to_owned(),
            is_partial,
            segment: Some(segment),
            location: Location::Stored(Arc::clone(filesystem)),
            summary: None,
            is_read: false,
        })
    }

    /// Returns the capture at a path, which need not have the name of a segment.
    pub(super) fn at(path: &Path) -> Self {
        let file = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        Self {
            name: path.to_string_lossy().into_owned(),
            is_partial: file.ends_with(PARTIAL),
            segment: SegmentName::parse_file(&file).map(|(name, _)| name),
            location: Location::Path(path.to_owned()),
            summary: None,
            is_read: false,
        }
    }

    /// Returns the length of the file in bytes; 0 if it cannot be found.
    pub fn file_len(&self) -> u64 {
        match &self.location {
            Location::Path(path) => path.metadata().map_or(0, |meta| meta.len()),
            Location::Stored(filesystem) => filesystem.entry(&self.name).map_or(0, |entry| entry.len),
        }
    }

    /// Opens the capture. A segment of a store may have got its final name since it was listed.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub fn open(&self) -> io::Result<CaptureBytes> {
        match &self.location {
            Location::Path(path) => File::open(path).map(CaptureBytes::File),
            Location::Stored(filesystem) => {
                let opened = filesystem.open(&self.name).or_else(|error| match &self.segment {
                    Some(segment) if self.is_partial && error.kind() == io::ErrorKind::NotFound => {
                        filesystem.open(segment.as_str())
                    }
                    _ => Err(error),
                });
                opened.map(CaptureBytes::Stored)
            }
        }
    }

    /// Sets what the header states, which is known already.
    pub(super) fn set_summary(&mut self, summary: Option<SegmentSummary>) {
        (self.summary, self.is_read) = (summary, true);
    }

    /// Returns what the header states; `None` if it cannot be read. Reads the header once.
    pub fn summary(&mut self) -> Option<&SegmentSummary> {
        if !self.is_read {
            self.is_read = true;
            self.summary = self.open().ok().and_then(|mut bytes| SegmentSummary::read(&mut bytes));
        }
        self.summary.as_ref()
    }

    /// Returns whether the file is a capture, although its header may be damaged.
    pub(super) fn is_capture(&mut self) -> bool {
        self.summary().is_some() || self.open().is_ok_and(|bytes| bytes.into_reader().is_ok())
    }

    /// Returns what the header states, if it was read and is intact.
    pub(super) fn known_summary(&self) -> Option<&SegmentSummary> {
        self.summary.as_ref()
    }

    /// Returns whether the time in the file's name is not that of the header.
    pub fn is_misnamed(&self) -> bool {
        self.summary
            .as_ref()
            .zip(self.second())
            .is_some_and(|(summary, second)| UtcSecond::of(summary.start.real_ns).to_string() != second)
    }

    /// Returns the time in the name of a segment, which orders segments of a host by their names.
    pub(super) fn time(&self) -> Option<&str> {
        self.segment.as_ref().map(SegmentName::time)
    }

    /// Returns the second in the name of a segment.
    pub(super) fn second(&self) -> Option<&str> {
        self.segment.as_ref().map(SegmentName::second)
    }

    /// Returns the path of the file as messages show it.
    pub fn path(&self) -> PathBuf {
        match &self.location {
            Location::Path(path) => path.clone(),
            Location::Stored(filesystem) => filesystem.path(&self.name),
        }
    }
}
