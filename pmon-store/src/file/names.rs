//! The names of a capture in a regular file: one while it is written, one when it is finished.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pmon_record::SinkError;

use super::CaptureFileError;
use crate::disk::{Disk, Filesystem, rename_to_new, supported_directory_sync};

/// Suffix of the name of a capture that is being written.
pub(crate) const PARTIAL: &str = ".partial";

/// The names of a capture.
pub(super) trait CaptureNames: Send {
    /// Returns the final name.
    fn path(&self) -> &Path;

    /// Returns the current name.
    fn current(&self) -> &Path;

    /// Gives the file its final name.
    fn publish(&mut self) -> Result<(), SinkError>;

    /// Removes the file, and restores the capture that it would have replaced.
    fn discard(&mut self) -> io::Result<()>;

    /// Makes the names durable.
    fn sync_directory(&self) -> io::Result<()>;

    /// Returns the final name as errors show it.
    fn shown_path(&self) -> String {
        self.path().display().to_string()
    }
}

/// The system calls for the names of a capture that the user has named.
pub(super) trait NameOperations: Send {
    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Renames a file. An existing `to` is an error of kind `AlreadyExists`, unless `replace` is
    /// set.
    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()>;
}

/// Real filesystems.
pub(super) struct RealNames;

impl NameOperations for RealNames {
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        match File::open(directory).and_then(|directory| directory.sync_all()) {
            // Files may be created in a directory that is not readable.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => supported_directory_sync(result),
        }
    }

    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        if replace { fs::rename(from, to) } else { rename_to_new(from, to) }
    }
}

/// The names of a segment in the directory of a store.
pub(super) struct SegmentNames {
    filesystem: Arc<dyn Filesystem>,
    name: String,
    path: PathBuf,
    partial: PathBuf,
    published: bool,
}

impl SegmentNames {
    /// Creates the file `NAME.partial`.
    pub(super) fn create(
        filesystem: Arc<dyn Filesystem>,
        name: &str,
    ) -> Result<(Self, Arc<dyn Disk>), CaptureFileError> {
        let partial_name = partial(name);
        let (path, partial) = (filesystem.path(name), filesystem.path(&partial_name));
        if filesystem.entry(name).is_ok() {
            return Err(CaptureFileError::Exists { path });
        }
        let disk = filesystem.create(&partial_name).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CaptureFileError::Unfinished { path: partial.clone() },
            _ => CaptureFileError::Io { action: "create", path: partial.clone(), source },
        })?;
        Ok((Self { filesystem, name: name.into(), path, partial, published: false }, disk))
    }

    fn unnamed(&self, action: &'static str, source: io::Error) -> SinkError {
        SinkError::Unnamed { action, path: self.shown_path(), current: self.current().into(), source }
    }
}

impl CaptureNames for SegmentNames {
    fn path(&self) -> &Path {
        &self.path
    }

    fn current(&self) -> &Path {
        if self.published { &self.path } else { &self.partial }
    }

    fn publish(&mut self) -> Result<(), SinkError> {
        let renamed = self.filesystem.rename(&partial(&self.name), &self.name);
        renamed.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => {
                SinkError::Exists { path: self.shown_path(), partial: self.partial.clone(), source }
            }
            io::ErrorKind::NotFound => SinkError::Replaced { partial: self.partial.clone() },
            _ => self.unnamed("rename it to", source),
        })?;
        self.published = true;
        self.sync_directory().map_err(|source| self.unnamed("sync the directory of", source))
    }

    fn discard(&mut self) -> io::Result<()> {
        let name = if self.published { self.name.clone() } else { partial(&self.name) };
        self.filesystem.remove(&name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        sync_supported(&*self.filesystem)
    }
}

/// Makes the names in a directory durable, if its filesystem can do so.
pub(crate) fn sync_supported(filesystem: &dyn Filesystem) -> io::Result<()> {
    match filesystem.sync_directory() {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        result => result,
    }
}

/// Returns the name of an unfinished capture.
pub(crate) fn partial(name: &str) -> String {
    format!("{name}{PARTIAL}")
}
