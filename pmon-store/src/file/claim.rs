//! The names of a capture in a regular file: `NAME.partial`, held by a lock, while it is written,
//! and then `NAME`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pmon_record::SinkError;

use super::CaptureFileError;
use super::names::{CaptureNames, NameOperations};

/// The names of a capture and the identity of its file.
pub(super) struct ClaimedNames {
    /// The final name.
    path: PathBuf,
    partial: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
    force: bool,
    /// Name to which an unfinished capture of the same name was moved. It is removed when this one
    /// is finished.
    replaced: Option<PathBuf>,
    published: bool,
    operations: Box<dyn NameOperations>,
}

impl ClaimedNames {
    /// Claims the names, and creates the file.
    pub(super) fn new(
        path: &Path,
        force: bool,
        operations: Box<dyn NameOperations>,
    ) -> Result<(Self, File), CaptureFileError> {
        let partial = with_suffix(path, ".partial");
        if path.is_dir() {
            return Err(failed("write to", path)(io::ErrorKind::IsADirectory.into()));
        }
        if exists(path) && !force {
            return Err(CaptureFileError::Exists { path: path.into() });
        }
        let mut replaced = None;
        if exists(&partial) {
            if is_locked(&partial) {
                return Err(CaptureFileError::Busy { path: partial });
            }
            if !force {
                return Err(CaptureFileError::Unfinished { path: partial });
            }
            let to = with_suffix(&partial, ".old");
            fs::rename(&partial, &to).map_err(failed("replace", &partial))?;
            replaced = Some(to);
        }
        // `create_new` is O_EXCL: it neither follows a link nor replaces a file.
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&partial);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CaptureFileError::Busy { path: partial.clone() },
            _ => failed("create", &partial)(source),
        })?;
        // On a filesystem without locks, only the name protects the file.
        let _ = file.try_lock();
        let meta = file.metadata().map_err(failed("read the metadata of", &partial))?;
        let identity = (meta.dev(), meta.ino());
        let path = path.into();
        Ok((Self { path, partial, identity, force, replaced, published: false, operations }, file))
    }

    fn unnamed(&self, action: &'static str, source: io::Error) -> SinkError {
        SinkError::Unnamed { action, path: self.shown_path(), current: self.current().into(), source }
    }
}

impl CaptureNames for ClaimedNames {
    fn path(&self) -> &Path {
        &self.path
    }

    fn current(&self) -> &Path {
        if self.published { &self.path } else { &self.partial }
    }

    fn publish(&mut self) -> Result<(), SinkError> {
        let is_ours = |meta: fs::Metadata| (meta.dev(), meta.ino()) == self.identity;
        if !fs::symlink_metadata(&self.partial).is_ok_and(is_ours) {
            return Err(SinkError::Replaced { partial: self.partial.clone() });
        }
        self.operations.rename(&self.partial, &self.path, self.force).map_err(|source| {
            match source.kind() {
                io::ErrorKind::AlreadyExists if !self.force => {
                    SinkError::Exists { path: self.shown_path(), partial: self.partial.clone(), source }
                }
                _ => self.unnamed("rename it to", source),
            }
        })?;
        self.published = true;
        let removed = self.replaced.take().map_or(Ok(()), fs::remove_file);
        self.sync_directory().map_err(|source| self.unnamed("sync the directory of", source))?;
        removed.map_err(|source| self.unnamed("remove the capture replaced by", source))
    }

    fn discard(&mut self) -> io::Result<()> {
        fs::remove_file(self.current())?;
        self.replaced.take().map_or(Ok(()), |replaced| fs::rename(replaced, &self.partial))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.operations.sync_directory(match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        })
    }
}

/// Whether a recorder is writing the file.
fn is_locked(path: &Path) -> bool {
    let opened = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    opened.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CaptureFileError + use<> {
    let path = path.to_owned();
    move |source| CaptureFileError::Io { action, path, source }
}
