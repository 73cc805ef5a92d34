//! Recordings as sources of excerpts.

use std::io;

use super::CutSource;
use crate::disk::StoredFile;
use crate::reader::{CaptureBytes, SegmentEntry, SegmentList};

impl CutSource for SegmentList {
    fn count(&self) -> usize {
        self.len()
    }

    fn name(&self, index: usize) -> String {
        name(self.entries().get(index))
    }

    fn open(&self, index: usize) -> io::Result<Box<dyn StoredFile>> {
        open(self.entries().get(index))
    }
}

impl CutSource for [SegmentEntry] {
    fn count(&self) -> usize {
        self.len()
    }

    fn name(&self, index: usize) -> String {
        name(self.get(index))
    }

    fn open(&self, index: usize) -> io::Result<Box<dyn StoredFile>> {
        open(self.get(index))
    }
}

fn name(entry: Option<&SegmentEntry>) -> String {
    entry.map_or_else(|| "capture".into(), |entry| entry.path().display().to_string())
}

fn open(entry: Option<&SegmentEntry>) -> io::Result<Box<dyn StoredFile>> {
    match entry.ok_or(io::ErrorKind::NotFound)?.open()? {
        CaptureBytes::File(file) => Ok(Box::new(file)),
        CaptureBytes::Stored(file) => Ok(file),
        // An excerpt reads its source several times.
        CaptureBytes::Stdin(_) => Err(io::ErrorKind::NotSeekable.into()),
    }
}
