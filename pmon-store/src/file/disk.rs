//! System calls that write a capture's file, behind a trait: tests replace them with a disk that
//! fails, fills up, or is slow.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use pmon_core::capture::MAX_BLOCK;
use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Minimum bytes between the sealed blocks and a journal: the largest block and an index fit.
const MIN_HOLE: u64 = MAX_BLOCK as u64 + (1 << 20);

/// A file that a capture is written to, and its directory.
pub(super) trait Disk: Send + Sync {
    /// Writes a part of `bytes` at an offset, as `pwrite(2)`, and returns the number of bytes
    /// written.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Sets the length of the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Zeroes a range of bytes without changing the file's length.
    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()>;

    /// Makes all written data durable, as `fdatasync(2)`.
    fn sync(&self) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Renames the file. An existing `to` is an error of kind `AlreadyExists`, unless `replace` is
    /// set.
    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()>;

    /// Minimum bytes between the sealed blocks and a journal.
    fn hole(&self) -> u64 {
        MIN_HOLE
    }

    /// Maximum size in bytes that this process may give the file (`RLIMIT_FSIZE`); `None` if there
    /// is no limit.
    fn size_limit(&self) -> Option<u64>;
}

/// A file in a real filesystem.
pub(super) struct RealDisk(pub(super) File);

impl Disk for RealDisk {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.0.write_at(bytes, at)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        Ok(fallocate(&self.0, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len)?)
    }

    fn sync(&self) -> io::Result<()> {
        supported_file_sync(self.0.sync_data())
    }

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

    fn size_limit(&self) -> Option<u64> {
        getrlimit(Resource::Fsize).current
    }
}

/// Returns the result of a file sync. A filesystem that does not support the call is not a failure.
///
/// `EIO`, `ENOSPC` and `EDQUOT` mean that data was lost; so does `EROFS`, which ext4 returns after
/// it has aborted its journal.
pub(super) fn supported_file_sync(result: io::Result<()>) -> io::Result<()> {
    ignore(result, &[libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP])
}

/// Returns the result of a directory sync, which network and shared filesystems (9p, vboxsf, CIFS,
/// many FUSE) refuse with several errors.
fn supported_directory_sync(result: io::Result<()>) -> io::Result<()> {
    supported_file_sync(ignore(result, &[libc::EBADF, libc::EROFS, libc::EISDIR, libc::ENOTTY]))
}

/// Returns the result, but success for any of these errors.
fn ignore(result: io::Result<()>, errnos: &[i32]) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error().is_some_and(|errno| errnos.contains(&errno)) => Ok(()),
        result => result,
    }
}

/// Renames a file without replacing an existing one.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network, shared and FUSE filesystems do not support this flag, but hard links.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        result => return Ok(result?),
    }
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if fs::symlink_metadata(to).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renaming_to_a_new_name_replaces_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        fs::write(&from, "1").unwrap();
        fs::write(&to, "2").unwrap();
        assert_eq!(rename_to_new(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&to).unwrap();
        rename_to_new(&from, &to).unwrap();
        assert_eq!((fs::read(&to).unwrap(), from.exists()), (b"1".to_vec(), false));
    }

    #[test]
    fn an_unsupported_sync_is_not_a_failure_but_lost_data_is() {
        let failed = |errno| Err(io::Error::from_raw_os_error(errno));
        for errno in [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOTSUP, libc::ENOSYS] {
            assert!(
                supported_file_sync(failed(errno)).is_ok() && supported_directory_sync(failed(errno)).is_ok(),
                "{errno}"
            );
        }
        for errno in [libc::EBADF, libc::EROFS] {
            assert!(
                supported_file_sync(failed(errno)).is_err()
                    && supported_directory_sync(failed(errno)).is_ok(),
                "{errno}"
            );
        }
        for errno in [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::ESTALE, libc::ENOENT] {
            for error in [supported_file_sync(failed(errno)), supported_directory_sync(failed(errno))] {
                assert_eq!(error.unwrap_err().raw_os_error(), Some(errno));
            }
        }
    }
}
