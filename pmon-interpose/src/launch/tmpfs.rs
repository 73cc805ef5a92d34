//! The tracee's private tmpfs mounts, in the place of existing directories.

use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, move_mount,
};
use rustix::process::{getegid, geteuid};
use thiserror::Error;

use crate::error::InterposeError;
use crate::launch::options::LaunchOptions;

/// Maximum size of the files of a mount, in bytes.
const MAX_BYTES: u32 = 64 << 20;
/// Maximum number of files of a mount.
const MAX_FILES: u32 = 1 << 14;
/// The rights that the tracee always has, as the owner of the directory.
const OWNER_RIGHTS: u32 = 0o700;
const PERMISSIONS: u32 = 0o7777;

/// A tmpfs that the new process mounts, prepared in advance: that process must not allocate memory.
pub(crate) struct TmpfsMount {
    directory: CString,
    options: Vec<(&'static CStr, CString)>,
}

/// The reason why no tmpfs can be mounted on a directory.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TmpfsError {
    /// The path does not begin with `/`.
    #[error("the path is relative; give an absolute path")]
    Relative,
    /// The file system's root would hide all files.
    #[error("it would hide all files; give a directory below it")]
    Root,
    /// The directory is `/proc` or below it.
    #[error("/proc shows the recorded processes; give another directory")]
    Proc,
    /// The path is not that of a directory.
    #[error("it is not a directory; give an existing directory")]
    NotDirectory,
    /// The path is not accessible.
    #[error("{0}; give an existing directory")]
    Io(io::Error),
    /// The directory is given twice.
    #[error("it is given twice; give each directory once")]
    Duplicate,
    /// The directory is below another one.
    #[error("it is below {}, which would hide it; give only one of them", .0.display())]
    Below(PathBuf),
}

/// Prepares the mounts of `options`.
pub(crate) fn prepare(options: &LaunchOptions) -> Result<Vec<TmpfsMount>, InterposeError> {
    let mut directories: Vec<PathBuf> = Vec::new();
    let mut mounts = Vec::new();
    for path in &options.tmpfs {
        let refused = |why| InterposeError::Tmpfs { path: path.clone(), why };
        let (directory, mode) = existing_directory(path).map_err(refused)?;
        for other in &directories {
            if *other == directory {
                return Err(refused(TmpfsError::Duplicate));
            }
            if directory.starts_with(other) {
                return Err(refused(TmpfsError::Below(other.clone())));
            }
            if other.starts_with(&directory) {
                let why = TmpfsError::Below(directory);
                return Err(InterposeError::Tmpfs { path: other.clone(), why });
            }
        }
        let mount = TmpfsMount::new(&directory, mode, options.uid);
        mounts.push(mount.ok_or_else(|| refused(TmpfsError::NotDirectory))?);
        directories.push(directory);
    }
    Ok(mounts)
}

/// Returns the path of a directory without symbolic links, and its permissions.
fn existing_directory(path: &Path) -> Result<(PathBuf, u32), TmpfsError> {
    if !path.is_absolute() {
        return Err(TmpfsError::Relative);
    }
    let directory = path.canonicalize().map_err(TmpfsError::Io)?;
    let metadata = fs::metadata(&directory).map_err(TmpfsError::Io)?;
    match directory {
        _ if !metadata.is_dir() => Err(TmpfsError::NotDirectory),
        root if root.parent().is_none() => Err(TmpfsError::Root),
        proc if proc.starts_with("/proc") => Err(TmpfsError::Proc),
        directory => Ok((directory, metadata.mode() & PERMISSIONS | OWNER_RIGHTS)),
    }
}

impl TmpfsMount {
    /// Returns a mount that belongs to the user `uid` of the new user namespace. `None` if the path
    /// contains a zero byte, which no existing path does.
    fn new(directory: &Path, mode: u32, uid: u32) -> Option<Self> {
        // As in `map_users`: root has all groups, another user has one.
        let gid = if geteuid().is_root() || uid == 0 { uid } else { getegid().as_raw() };
        let value = |value: &dyn Display| CString::new(value.to_string()).ok();
        let options = vec![
            (c"mode", value(&format_args!("{mode:o}"))?),
            (c"uid", value(&uid)?),
            (c"gid", value(&gid)?),
            (c"size", value(&MAX_BYTES)?),
            (c"nr_inodes", value(&MAX_FILES)?),
        ];
        Some(Self { directory: CString::new(directory.as_os_str().as_bytes()).ok()?, options })
    }

    /// Mounts the tmpfs, in the new process.
    pub(crate) fn mount(&self) -> Result<(), Errno> {
        let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (option, value) in &self.options {
            fsconfig_set_string(context.as_fd(), *option, value)?;
        }
        fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        move_mount(&mount, c"", CWD, &self.directory, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the reason why these directories are refused; an empty text if they are not.
    fn refusal(paths: &[&str]) -> String {
        let mut options = LaunchOptions::new("true");
        options.tmpfs = paths.iter().map(PathBuf::from).collect();
        prepare(&options).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn existing_directories_are_accepted() {
        assert_eq!(refusal(&["/usr", "/var/tmp", "/tmp/"]), "");
        assert_eq!(refusal(&[]), "");
    }

    #[test]
    fn other_paths_are_refused_with_the_reason() {
        for (paths, why) in [
            (&["run"][..], "cannot mount a tmpfs on run: the path is relative"),
            (&[""], "the path is relative"),
            (&["/"], "cannot mount a tmpfs on /: it would hide all files"),
            (&["/usr/.."], "it would hide all files"),
            (&["/proc"], "/proc shows the recorded processes"),
            (&["/proc/sys"], "/proc shows the recorded processes"),
            (&["/etc/passwd"], "/etc/passwd: it is not a directory"),
            (&["/etc/passwd/x"], "/etc/passwd/x: Not a directory"),
            (&["/no/such"], "/no/such: No such file or directory"),
            (&["/usr", "/tmp", "/usr"], "on /usr: it is given twice"),
            (&["/usr", "/tmp/../usr/"], "it is given twice"),
            (&["/usr", "/usr/bin"], "on /usr/bin: it is below /usr, which would hide it"),
            (&["/usr/bin", "/usr"], "on /usr/bin: it is below /usr, which would hide it"),
        ] {
            let found = refusal(paths);
            assert!(found.contains(why), "{paths:?}: {found}");
        }
    }
}
