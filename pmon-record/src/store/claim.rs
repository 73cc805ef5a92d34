//! The names of a capture in a file: `NAME.partial` while it is written, held by a lock, and `NAME` in the end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::StoreError;

pub(super) struct Claim {
    path: PathBuf,
    partial: PathBuf,
    force: bool,
    /// An unfinished capture that was in the way, and where it waits until this one is finished.
    aside: Option<PathBuf>,
    published: bool,
}

impl Claim {
    /// Claims the names, and creates the file.
    pub(super) fn new(path: &Path, force: bool) -> Result<(Self, File), StoreError> {
        let partial = with(path, ".partial");
        if path.is_dir() {
            return Err(failed("write to", path)(io::ErrorKind::IsADirectory.into()));
        }
        if exists(path) && !force {
            return Err(StoreError::Exists { path: path.into() });
        }
        let mut aside = None;
        if exists(&partial) {
            if is_locked(&partial) {
                return Err(StoreError::Busy { path: partial });
            }
            if !force {
                return Err(StoreError::Unfinished { path: partial });
            }
            let to = with(&partial, ".old");
            fs::rename(&partial, &to).map_err(failed("replace", &partial))?;
            aside = Some(to);
        }
        // `create_new` is O_EXCL: never through a link, never over a file.
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&partial);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Busy { path: partial.clone() },
            _ => failed("create", &partial)(source),
        })?;
        // On a filesystem without locks, only the name holds others off.
        let _ = file.try_lock();
        Ok((Self { path: path.into(), partial, force, aside, published: false }, file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The name that the file has now.
    pub(super) fn current(&self) -> &Path {
        if self.published { &self.path } else { &self.partial }
    }

    /// Gives the file its final name. An error of kind `AlreadyExists`: somebody else has taken that meanwhile.
    pub(super) fn publish(&mut self) -> io::Result<()> {
        if self.force {
            fs::rename(&self.partial, &self.path)?;
        } else {
            rename_to_new(&self.partial, &self.path)?;
        }
        self.published = true;
        if let Some(aside) = self.aside.take() {
            fs::remove_file(aside)?;
        }
        self.sync_directory()
    }

    /// Removes the file, and puts back what was in its way.
    pub(super) fn withdraw(&mut self) -> io::Result<()> {
        fs::remove_file(self.current())?;
        self.aside.take().map_or(Ok(()), |aside| fs::rename(aside, &self.partial))
    }

    /// Makes names safe from power loss, in a directory that may be read.
    pub(super) fn sync_directory(&self) -> io::Result<()> {
        let directory = match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        match File::open(directory).and_then(|directory| directory.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
            _ => Ok(()),
        }
    }
}

/// Renames, and never replaces.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS and FUSE cannot; there a second name takes its place.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        result => return Ok(result?),
    }
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if exists(to) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
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

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_name_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        fs::write(&from, "1").unwrap();
        fs::write(&to, "2").unwrap();
        assert_eq!(rename_to_new(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&to).unwrap();
        rename_to_new(&from, &to).unwrap();
        assert_eq!((fs::read(&to).unwrap(), exists(&from)), (b"1".to_vec(), false));
    }
}
