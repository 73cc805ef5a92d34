//! Cgroups of version 2, from `/proc/<pid>/cgroup` and the mounted hierarchy.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, fstat, fstatfs, open, openat, statat};
use rustix::io::Errno;
use thiserror::Error;

/// Maximum depth of a cgroup that a scope can name: `LEVELS` in `bpf/scope.h`, less one for the
/// root.
const MAX_DEPTH: usize = 255;
/// File system type of version 2 (`linux/magic.h`).
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
/// File system type of version 1.
const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;

/// Why a path does not name a cgroup that a scope can select.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// Neither the path nor the path below the hierarchy's mount point exists.
    #[error("no such cgroup; the directories below {} are the cgroups", mount.display())]
    Missing {
        /// Mount point of the hierarchy.
        mount: PathBuf,
    },
    /// No hierarchy of version 2 is mounted.
    #[error("no such cgroup: no hierarchy of version 2 is mounted (cgroup2 in /proc/self/mountinfo)")]
    NoHierarchy,
    /// The path names a cgroup of version 1, which has an id of its own.
    #[error(
        "this cgroup is of version 1, and processes are recorded by their cgroup of version 2; name one of those"
    )]
    Version1,
    /// The path names a file.
    #[error("this is not a directory; name the directory of the cgroup")]
    NotADirectory,
    /// The path names a directory of another file system.
    #[error("this is not a cgroup: it is on another file system than cgroup2")]
    OtherFileSystem,
    /// The cgroup is deeper than the BPF program can follow.
    #[error("this cgroup is {depth} levels deep; at most {MAX_DEPTH} are supported")]
    TooDeep {
        /// Number of ancestors of the cgroup.
        depth: usize,
    },
    /// The path cannot be read.
    #[error("cannot read it: {source}")]
    Unreadable {
        /// The kernel's error.
        source: io::Error,
    },
}

/// Returns the id of the cgroup that `path` names: a directory in any mount of the version 2
/// hierarchy, or a path as in `/proc/<pid>/cgroup`.
///
/// The id is that of the current cgroup. A cgroup created later under the same path has another id.
pub(crate) fn find(path: &Path) -> Result<u64, CgroupError> {
    let bytes = path.as_os_str().as_bytes();
    let line = bytes.strip_prefix(b"0::").map(|path| Path::new(OsStr::from_bytes(path)));
    if bytes.is_empty() {
        return Err(CgroupError::NotADirectory);
    }
    let at_path = if line.is_some() { Err(CgroupError::OtherFileSystem) } else { id_at(path) };
    // Another file of this name may exist, and a cgroup of this name below the mount point.
    let at_path = match at_path {
        Err(error @ (CgroupError::NotADirectory | CgroupError::OtherFileSystem)) => Some(error),
        Err(CgroupError::Unreadable { source }) if source.kind() == io::ErrorKind::NotFound => None,
        found => return found,
    };
    let path = line.unwrap_or(path);
    let Some(mount) = mount() else { return Err(at_path.unwrap_or(CgroupError::NoHierarchy)) };
    match id_at(&mount.join(path.strip_prefix("/").unwrap_or(path))) {
        Err(CgroupError::Unreadable { source }) if source.kind() == io::ErrorKind::NotFound => {
            Err(at_path.filter(|_| line.is_none()).unwrap_or(CgroupError::Missing { mount }))
        }
        found => found,
    }
}

/// Returns the id of the cgroup with this directory.
fn id_at(path: &Path) -> Result<u64, CgroupError> {
    let unreadable = |error: Errno| match error {
        Errno::NOTDIR => CgroupError::NotADirectory,
        error => CgroupError::Unreadable { source: error.into() },
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = open(path, flags, Mode::empty()).map_err(unreadable)?;
    match fstatfs(&directory).map_err(unreadable)?.f_type as u64 & 0xffff_ffff {
        CGROUP2_SUPER_MAGIC => {}
        CGROUP_SUPER_MAGIC => return Err(CgroupError::Version1),
        _ => return Err(CgroupError::OtherFileSystem),
    }
    let stat = fstat(&directory).map_err(unreadable)?;
    let (mut depth, mut inner) = (0, stat.st_ino);
    loop {
        directory = openat(&directory, "..", flags, Mode::empty()).map_err(unreadable)?;
        let outer = fstat(&directory).map_err(unreadable)?;
        if outer.st_dev != stat.st_dev || outer.st_ino == inner {
            break;
        }
        (depth, inner) = (depth + 1, outer.st_ino);
    }
    if depth > MAX_DEPTH { Err(CgroupError::TooDeep { depth }) } else { Ok(stat.st_ino) }
}

/// Returns the line of `/proc/<pid>/cgroup` for the hierarchy of version 2.
///
/// Lines of version 1 are dropped, because the BPF program reads version 2 only: a process then has
/// the same cgroup with every transport. If the line is missing, the hierarchy was never mounted
/// (`cgroups(7)`), and all processes are in its root.
pub(crate) fn version2_line(lines: &[u8]) -> Vec<u8> {
    let line = lines.split(|&byte| byte == b'\n').find(|line| line.starts_with(b"0::"));
    line.unwrap_or(b"0::/").to_vec()
}

/// The mounted hierarchy of version 2.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    mount: OwnedFd,
    device: u64,
}

impl Hierarchy {
    /// Opens the hierarchy that is mounted here.
    pub(crate) fn open_at(mount: &Path) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mount = open(mount, flags, Mode::empty()).ok()?;
        let device = fstat(&mount).ok()?.st_dev;
        Some(Self { mount, device })
    }

    /// Returns the id of the cgroup in these lines of `/proc/<pid>/cgroup`, which is the inode
    /// number of its directory. `None` if it no longer exists or is outside of this cgroup
    /// namespace.
    pub(crate) fn id(&self, lines: &[u8]) -> Option<u64> {
        let path = lines.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"))?;
        // Paths outside of this cgroup namespace begin with `..`.
        if path.split(|&byte| byte == b'/').any(|name| name == b"..") {
            return None;
        }
        let stat = statat(&self.mount, path, AtFlags::EMPTY_PATH).ok()?;
        (stat.st_dev == self.device).then_some(stat.st_ino)
    }
}

/// Returns the mount point of the hierarchy of version 2 (`cgroups(7)`).
pub(crate) fn mount() -> Option<PathBuf> {
    cgroup2_mount(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// Returns the mount point of the hierarchy in lines
/// `ID PARENT DEVICE ROOT POINT OPTIONS [...] - TYPE ...` (`proc_pid_mountinfo(5)`).
fn cgroup2_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        // A mount of only a part of the hierarchy has different paths.
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && after.starts_with("cgroup2 ")).then(|| point.replace("\\040", " ").into())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_mount_is_found_among_others() {
        let mounts = "24 1 0:5 / /proc rw - proc proc rw\n\
                      30 24 0:26 / /sys/fs/cg\\040roup rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(mounts), Some("/sys/fs/cg roup".into()));
        assert_eq!(cgroup2_mount("24 1 0:5 / /proc rw - proc proc rw\n"), None);
        assert_eq!(cgroup2_mount("30 24 0:26 /a/part /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), None);
    }

    #[test]
    fn the_id_of_a_cgroup_is_the_inode_of_its_visible_directory() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("a.slice/b c");
        fs::create_dir_all(&below).unwrap();
        let hierarchy = Hierarchy::open_at(root.path()).unwrap();
        let ino = |path: &Path| Some(fs::metadata(path).unwrap().ino());
        assert_eq!(hierarchy.id(b"2:cpu:/x\n0::/a.slice/b c"), ino(&below));
        assert_eq!(hierarchy.id(b"0::/"), ino(root.path()));
        assert_eq!(hierarchy.id(b"0::/../a.slice"), None, "it is outside of this cgroup namespace");
        assert_eq!(hierarchy.id(b"0::/a.slice (deleted)"), None);
        assert_eq!(hierarchy.id(b"2:cpu:/a.slice"), None);
        let elsewhere = Hierarchy { device: hierarchy.device + 1, ..hierarchy };
        assert_eq!(elsewhere.id(b"0::/"), None, "another file system is mounted there");
    }

    #[test]
    fn the_line_of_version_2_is_found_among_others() {
        assert_eq!(version2_line(b"10:cpu:/a\n1:name=systemd:/b\n0::/c d\n"), b"0::/c d");
        assert_eq!(version2_line(b"0::/\n"), b"0::/");
        assert_eq!(version2_line(b"2:cpu:/a\n1:name=systemd:/b\n"), b"0::/", "version 2 was never mounted");
    }
}
