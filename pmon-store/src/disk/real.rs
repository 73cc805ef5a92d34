//! Files in real filesystems.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::{Disk, StoredFile};

/// A file in a real filesystem.
pub(crate) struct RealDisk(pub(crate) File);

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

    fn size_limit(&self) -> Option<u64> {
        getrlimit(Resource::Fsize).current
    }
}

impl StoredFile for File {
    fn skip_hole(&mut self) -> io::Result<u64> {
        /// Bytes of a trailer, which a reader must see as a whole.
        const TRAILER: u64 = 24;
        let at = self.stream_position()?;
        let end = match rustix::fs::seek(&*self, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            // There are no data after this position.
            Err(Errno::NXIO) => self.metadata()?.len().max(at),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(errno) => return Err(errno.into()),
        };
        let to = end.saturating_sub(TRAILER).max(at);
        self.seek(SeekFrom::Start(to))?;
        Ok(to - at)
    }
}

/// Returns the result of a file sync. A filesystem that does not support the call is not a failure.
///
/// `EIO`, `ENOSPC` and `EDQUOT` mean that data was lost; so does `EROFS`, which ext4 returns after
/// it has aborted its journal.
pub(crate) fn supported_file_sync(result: io::Result<()>) -> io::Result<()> {
    ignore(result, &[libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP])
}

/// Returns the result of a directory sync, which network and shared filesystems (9p, vboxsf, CIFS,
/// many FUSE) refuse with several errors.
pub(crate) fn supported_directory_sync(result: io::Result<()>) -> io::Result<()> {
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
pub(crate) fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
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
