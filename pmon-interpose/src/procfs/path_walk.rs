//! Opens files and directories in the tracee's `/proc` without following symbolic links.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::sys::errno_of;

/// Whether a sandbox refuses `openat2`.
static IS_REFUSED: AtomicBool = AtomicBool::new(false);

/// Opens a file below `root`. The tracee is root in its `/proc`: no link of its making is followed.
pub(super) fn open_below(root: &OwnedFd, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    if !IS_REFUSED.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        match openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::NOSYS | Errno::PERM) => IS_REFUSED.store(true, Ordering::Relaxed),
            opened => return opened,
        }
    }
    open_stepwise(root, path, flags, mode)
}

/// Opens a file one directory at a time.
fn open_stepwise(root: &OwnedFd, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let last = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match path.rsplit_once('/') {
        None => openat(root, path, last, mode),
        Some((parents, name)) => {
            let mut directory = None;
            for parent in parents.split('/') {
                let at = directory.as_ref().unwrap_or(root);
                directory = Some(openat(at, parent, step, Mode::empty())?);
            }
            openat(directory.as_ref().unwrap_or(root), name, last, mode)
        }
    }
}

/// Creates or overwrites a file below `root`.
pub(super) fn write_file(root: &OwnedFd, path: &str, content: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
    let file = open_below(root, path, flags, Mode::from_raw_mode(0o644))?;
    File::from(file).write_all(content).map_err(|error| errno_of(&error))
}

/// Opens a directory. The tracee is root in its `/proc`: no link of its making is followed.
pub(super) fn open_directory(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::{env, fs, process};

    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn no_link_on_the_way_is_followed() {
        let dir = env::temp_dir().join(format!("pmon-path-walk-{}", process::id()));
        fs::create_dir_all(dir.join("7/task")).unwrap();
        symlink("7", dir.join("8")).unwrap();
        symlink("comm", dir.join("7/link")).unwrap();
        let root = openat(CWD, &dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
        let mode = Mode::from_raw_mode(0o644);
        for open in [open_below, open_stepwise] {
            assert!(open(&root, "7/comm", flags, mode).is_ok());
            assert!(open(&root, "7/task/comm", flags, mode).is_ok());
            assert!(open(&root, "file", flags, mode).is_ok());
            for path in ["8/comm", "7/link"] {
                let refused = open(&root, path, flags, mode).unwrap_err();
                assert!([Errno::LOOP, Errno::NOTDIR].contains(&refused), "{path}: {refused}");
            }
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
