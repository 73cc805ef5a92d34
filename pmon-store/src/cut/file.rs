//! The file of an excerpt.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Directory, Disk, DiskWriter, Filesystem};
use crate::file::{CaptureFileError, open_special, partial, sync_supported};

/// The file of an excerpt, or an existing FIFO or device.
///
/// A regular file has mode 0600, and is named `NAME.partial` until it is complete. If it is dropped
/// before, it is removed.
pub struct CutFile(CutTarget);

enum CutTarget {
    Regular(RegularFile),
    Special(File),
}

/// An excerpt in a regular file.
struct RegularFile {
    path: PathBuf,
    directory: Directory,
    name: String,
    partial: String,
    disk: Arc<dyn Disk>,
    writer: DiskWriter,
    force: bool,
    is_published: bool,
}

impl CutFile {
    /// Creates the file, or opens the FIFO or device at `path`.
    ///
    /// # Errors
    /// If a regular file `path` or `path.partial` exists and `force` is not set, or the file cannot
    /// be created. A FIFO must have a reader, and a block device needs `force`.
    pub fn create(path: &Path, force: bool) -> Result<Self, CaptureFileError> {
        let target = match open_special(path, force)? {
            Some(file) => CutTarget::Special(file),
            None => CutTarget::Regular(RegularFile::create(path, force)?),
        };
        Ok(Self(target))
    }

    /// Makes everything durable, and gives a regular file its final name.
    ///
    /// # Errors
    /// If the file cannot be synced or renamed.
    pub fn publish(self) -> Result<(), CaptureFileError> {
        match self.0 {
            CutTarget::Regular(file) => file.publish(),
            CutTarget::Special(_) => Ok(()),
        }
    }
}

impl RegularFile {
    fn create(path: &Path, force: bool) -> Result<Self, CaptureFileError> {
        let failed = |source| CaptureFileError::Io { action: "create", path: path.into(), source };
        if path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?.to_owned();
        let partial = partial(&name);
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Directory::new(parent),
            _ => Directory::new("."),
        };
        if fs::symlink_metadata(path).is_ok() && !force {
            return Err(CaptureFileError::Exists { path: path.into() });
        }
        let mut created = directory.create(&partial);
        if force && created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            directory.remove(&partial).map_err(failed)?;
            created = directory.create(&partial);
        }
        let disk = created.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CaptureFileError::Unfinished { path: directory.path(&partial) },
            _ => failed(error),
        })?;
        let writer = DiskWriter::new(disk.clone());
        Ok(Self { path: path.into(), directory, name, partial, disk, writer, force, is_published: false })
    }

    fn publish(mut self) -> Result<(), CaptureFileError> {
        let path = self.path.clone();
        let failed = |action| {
            let path = path.clone();
            move |source| CaptureFileError::Io { action, path, source }
        };
        self.disk.sync().map_err(failed("sync"))?;
        let renamed = if self.force {
            fs::rename(self.directory.path(&self.partial), &self.path)
        } else {
            self.directory.rename(&self.partial, &self.name)
        };
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CaptureFileError::Exists { path: self.path.clone() },
            _ => failed("rename")(error),
        })?;
        self.is_published = true;
        sync_supported(&self.directory).map_err(failed("sync the directory of"))
    }
}

impl Write for CutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            CutTarget::Regular(file) => file.writer.write(bytes),
            CutTarget::Special(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for RegularFile {
    fn drop(&mut self) {
        if !self.is_published {
            // The error that ended the excerpt is reported.
            let _ = self.directory.remove(&self.partial);
        }
    }
}
