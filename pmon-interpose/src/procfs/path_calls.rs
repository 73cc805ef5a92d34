//! System calls that may refer to a file in the tracee's `/proc`.
//!
//! Listings, attributes, targets of links, and opening a file for writing are answered here. For
//! all other calls, the accessed file is brought up to date before the kernel executes the call.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, readlink, statat};
use rustix::io::Errno;

use crate::procfs::stat_structs::{FileAttributes, stat, statfs, statx};
use crate::procfs::tree::{ProcfsTree, inode};
use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::tracee::processes::Caller;
use crate::world::{ProcEntry, ProcEntryKind, ProcessView, TaskInfo};

/// Maximum bytes of a listing that are returned by one call.
const MAX_LISTING: usize = 1 << 16;

/// A call that refers to a file in the tracee's `/proc`.
pub(crate) struct ProcCall {
    operation: PathOperation,
    path: ProcPath,
}

/// The arguments of a call that takes a path or a file descriptor.
struct PathCall {
    /// The descriptor that the path is relative to, or that the call is about; `None` is the
    /// working directory.
    base: Option<u32>,
    /// Address of the path; `None` if the call is about the descriptor itself.
    path: Option<u64>,
    /// Whether an empty path means the descriptor itself.
    allows_empty: bool,
    operation: PathOperation,
}

/// The operation of a call, with the addresses and lengths of its output.
#[derive(Clone, Copy)]
enum PathOperation {
    /// `open`, `creat` and their variants.
    Open { flags: u64 },
    /// `getdents64`.
    List { buffer: u64, len: u64 },
    /// `stat` or `statx`; `encode` returns the struct of the call.
    Stat { buffer: u64, nofollow: bool, encode: fn(&FileAttributes) -> Vec<u8> },
    /// `statfs` and `fstatfs`.
    StatFs { buffer: u64 },
    /// `readlink` and `readlinkat`.
    ReadLink { buffer: u64, len: u64 },
    /// A call that is never answered here, such as `chdir`.
    Other,
}

/// A path below `/proc`.
struct ProcPath {
    /// The path relative to `/proc`, without `.` and `..`.
    path: String,
    /// The directories that `..` leaves, which the kernel visits on the way.
    visited: Vec<String>,
    /// The status of the file, if the call is about a descriptor.
    opened: Option<Stat>,
}

impl PathCall {
    /// Returns `None` if the call takes neither a path nor a descriptor of a directory.
    fn parse(call: &InterceptedCall<'_>) -> Option<Self> {
        let [a, b, c, d, e, _] = call.args();
        let base = (a as i32 != libc::AT_FDCWD).then_some(a as u32);
        let at = |operation| Some(Self { base, path: Some(b), allows_empty: false, operation });
        let at_or_fd = |flags: u64, operation| {
            let allows_empty = flags & libc::AT_EMPTY_PATH as u64 != 0;
            Some(Self { base, path: Some(b), allows_empty, operation })
        };
        let path = |operation| Some(Self { base: None, path: Some(a), allows_empty: false, operation });
        let fd = |operation| Some(Self { base: Some(a as u32), path: None, allows_empty: true, operation });
        let nofollow = |flags: u64| flags & libc::AT_SYMLINK_NOFOLLOW as u64 != 0;
        match call.nr() {
            libc::SYS_openat => at(PathOperation::Open { flags: c }),
            libc::SYS_openat2 => at(PathOperation::Open { flags: 0 }),
            libc::SYS_newfstatat => {
                at_or_fd(d, PathOperation::Stat { buffer: c, nofollow: nofollow(d), encode: stat })
            }
            libc::SYS_statx => {
                at_or_fd(c, PathOperation::Stat { buffer: e, nofollow: nofollow(c), encode: statx })
            }
            libc::SYS_faccessat => at(PathOperation::Other),
            libc::SYS_faccessat2 => at_or_fd(d, PathOperation::Other),
            libc::SYS_readlinkat => {
                at_or_fd(libc::AT_EMPTY_PATH as u64, PathOperation::ReadLink { buffer: c, len: d })
            }
            libc::SYS_fstat => fd(PathOperation::Stat { buffer: b, nofollow: false, encode: stat }),
            libc::SYS_fstatfs => fd(PathOperation::StatFs { buffer: b }),
            libc::SYS_getdents64 => fd(PathOperation::List { buffer: b, len: c }),
            libc::SYS_chdir => path(PathOperation::Other),
            libc::SYS_statfs => path(PathOperation::StatFs { buffer: b }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_creat => path(PathOperation::Open { flags: libc::O_WRONLY as u64 }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => path(PathOperation::Open { flags: b }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat => path(PathOperation::Stat { buffer: b, nofollow: false, encode: stat }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lstat => path(PathOperation::Stat { buffer: b, nofollow: true, encode: stat }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_access => path(PathOperation::Other),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_readlink => path(PathOperation::ReadLink { buffer: b, len: c }),
            _ => None,
        }
    }

    /// Returns the path below `/proc` that the call refers to; `None` if it refers to another file.
    fn resolve(&self, tree: &ProcfsTree, call: &mut InterceptedCall<'_>) -> Option<ProcPath> {
        let task = call.task();
        // The kernel refuses a path that cannot be read.
        let path = self.path.map(|at| call.memory().path(at)).transpose().ok()?;
        let path = String::from_utf8(path.unwrap_or_default()).ok()?;
        let (mut resolved, mut opened) = (String::new(), None);
        if !path.starts_with('/') {
            if path.is_empty() && !self.allows_empty {
                return None;
            }
            let cwd = || format!("/proc/{task}/cwd");
            let stat = match self.base {
                Some(fd) => call.stat(fd),
                None => statat(CWD, cwd(), AtFlags::empty()),
            };
            let stat = stat.ok()?;
            if stat.st_dev != tree.device && !path.contains("proc") {
                return None;
            }
            let base = match self.base {
                Some(fd) => call.tasks.path(task, fd).ok()?,
                None => readlink(cwd(), Vec::new()).ok()?.into_bytes(),
            };
            resolved = String::from_utf8(base).ok()?;
            // The root directory is the only one whose path ends with a slash.
            resolved.truncate(resolved.trim_end_matches('/').len());
            opened = path.is_empty().then_some(stat);
        } else if !path.contains("proc") {
            return None;
        }
        let mut visited = Vec::new();
        for component in path.split('/').filter(|component| !component.is_empty() && *component != ".") {
            if component != ".." {
                resolved.push('/');
                resolved.push_str(component);
                continue;
            }
            visited.extend(below_proc(&resolved).map(str::to_owned));
            resolved.truncate(resolved.rfind('/').unwrap_or(0));
        }
        let path = below_proc(&resolved)?.to_owned();
        Some(ProcPath { path, visited, opened })
    }
}

/// Returns the part of an absolute path that is below `/proc`.
fn below_proc(path: &str) -> Option<&str> {
    match path.strip_prefix("/proc")? {
        "" => Some(""),
        below => below.strip_prefix('/'),
    }
}

/// Splits a path below `/proc` into the id of a task and the path in the task's directory.
fn split_id(path: &str) -> Option<(u32, &str)> {
    let (first, below) = path.split_once('/').unwrap_or((path, ""));
    let is_id = first.starts_with(|first: char| matches!(first, '1'..='9')) && !first.contains('+');
    Some((first.parse().ok().filter(|_| is_id)?, below))
}

impl ProcCall {
    /// Returns `None` if the call refers to no file in `/proc`.
    pub(crate) fn parse(call: &mut InterceptedCall<'_>, tree: &ProcfsTree) -> Option<Self> {
        let path_call = PathCall::parse(call)?;
        let path = path_call.resolve(tree, call)?;
        Some(Self { operation: path_call.operation, path })
    }

    /// Answers the call, or prepares the accessed files for the kernel.
    pub(crate) fn answer(
        &self,
        call: &InterceptedCall<'_>,
        view: &dyn ProcessView,
        tree: &mut ProcfsTree,
    ) -> Reply {
        self.execute(call, view, tree).unwrap_or_else(Reply::from)
    }

    fn execute(
        &self,
        call: &InterceptedCall<'_>,
        view: &dyn ProcessView,
        tree: &mut ProcfsTree,
    ) -> Result<Reply, Errno> {
        let ProcPath { path, visited, opened } = &self.path;
        for (id, below) in visited.iter().filter_map(|path| split_id(path)) {
            if tree.is_own(id) {
                tree.link_own(id)?;
            } else {
                tree.refresh(id, below, view)?;
                // After a link, `..` leads to a directory elsewhere.
                if view.entry(id, below).is_none_or(|entry| entry.kind() != ProcEntryKind::Directory) {
                    return Ok(Reply::Continue);
                }
            }
        }
        let Some((id, below)) = split_id(path) else { return self.answer_global(call, view, tree) };
        // The directories of own processes are links: an opened file of our tmpfs is not theirs.
        let is_recorded_file = opened
            .is_some_and(|stat| stat.st_dev == tree.device && stat.st_mode & libc::S_IFMT != libc::S_IFLNK);
        if !is_recorded_file && tree.is_own(id) {
            tree.link_own(id)?;
            return Ok(Reply::Continue);
        }
        if let Some(info) = view.task(id)
            && let Some(reply) = self.answer_recorded(call, view, tree, (id, below, &info))?
        {
            return Ok(reply);
        }
        tree.refresh(id, below, view)?;
        Ok(Reply::Continue)
    }

    /// Answers a call on a file of a recorded task; returns `None` if the kernel has to execute it.
    fn answer_recorded(
        &self,
        call: &InterceptedCall<'_>,
        view: &dyn ProcessView,
        tree: &ProcfsTree,
        (id, below, info): (u32, &str, &TaskInfo),
    ) -> Result<Option<Reply>, Errno> {
        let memory = call.memory();
        let opened = self.path.opened.filter(|stat| stat.st_dev == tree.device);
        let kind = || match opened.map(|stat| stat.st_mode & libc::S_IFMT) {
            Some(libc::S_IFDIR) => Some(ProcEntryKind::Directory),
            Some(libc::S_IFLNK) => Some(ProcEntryKind::Link),
            Some(_) => Some(ProcEntryKind::File),
            None => view.entry(id, below).map(|entry| entry.kind()),
        };
        let value = match self.operation {
            PathOperation::List { buffer, len }
                if view.entry(id, below).is_some_and(|entry| entry == ProcEntry::Directory) =>
            {
                let listing = tree.list(id, below, view);
                let directory = call.duplicate_fd(call.args()[0] as u32)?;
                let listed = listing.read(&directory, (len as u32 as usize).min(MAX_LISTING))?;
                memory.write(buffer, &listed)?;
                listed.len() as i64
            }
            PathOperation::StatFs { buffer }
                if kind().is_some_and(|kind| opened.is_some() || kind != ProcEntryKind::Link) =>
            {
                memory.write(buffer, &statfs())?;
                0
            }
            // Writing to a file of a recorded process has no effect.
            PathOperation::Open { flags }
                if flags & libc::O_ACCMODE as u64 != libc::O_RDONLY as u64
                    && kind() == Some(ProcEntryKind::File) =>
            {
                let sink = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
                call.return_fd(&sink, None, flags & libc::O_CLOEXEC as u64 != 0)?;
                return Ok(Some(Reply::Deferred));
            }
            PathOperation::Stat { buffer, nofollow, encode } => {
                let mode = match kind() {
                    Some(ProcEntryKind::Directory) => libc::S_IFDIR | 0o555,
                    Some(ProcEntryKind::File) => libc::S_IFREG | 0o444,
                    Some(ProcEntryKind::Link) if nofollow || opened.is_some() => libc::S_IFLNK | 0o777,
                    // A path through a link such as `cwd` leads to an ordinary file.
                    Some(ProcEntryKind::Link) | None => return Ok(None),
                };
                let (owner, device) = (info.owner, tree.device);
                let attributes =
                    FileAttributes { ino: inode(id, below), device, mode, owner, time: now(view) };
                memory.write(buffer, &encode(&attributes))?;
                0
            }
            PathOperation::ReadLink { buffer, len } => match view.entry(id, below) {
                Some(ProcEntry::Link(target)) => write_target(call, (buffer, len), &target)?,
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(Reply::Return(Ok(value))))
    }

    /// Answers a call on `/proc` itself, or on a file that does not belong to a task.
    fn answer_global(
        &self,
        call: &InterceptedCall<'_>,
        view: &dyn ProcessView,
        tree: &ProcfsTree,
    ) -> Result<Reply, Errno> {
        let memory = call.memory();
        let value = match (&*self.path.path, self.operation) {
            ("uptime" | "stat", PathOperation::Open { .. }) => {
                tree.refresh_times(view)?;
                return Ok(Reply::Continue);
            }
            (link @ ("self" | "thread-self"), PathOperation::ReadLink { buffer, len }) => {
                let Caller { tgid, tid, .. } = Caller::of(call.task())?;
                let target = if link == "self" { tgid.to_string() } else { format!("{tgid}/task/{tid}") };
                write_target(call, (buffer, len), target.as_bytes())?
            }
            ("", PathOperation::List { buffer, len }) => {
                let listing = tree.listing(view)?;
                let directory = call.duplicate_fd(call.args()[0] as u32)?;
                let listed = listing.read(&directory, (len as u32 as usize).min(MAX_LISTING))?;
                memory.write(buffer, &listed)?;
                listed.len() as i64
            }
            ("", PathOperation::StatFs { buffer }) => {
                memory.write(buffer, &statfs())?;
                0
            }
            ("", PathOperation::Stat { buffer, encode, .. }) => {
                let Stat { st_ino: ino, st_dev: device, .. } = tree.stat_root()?;
                let (mode, owner) = (libc::S_IFDIR | 0o555, (0, 0));
                let attributes = FileAttributes { ino, device, mode, owner, time: now(view) };
                memory.write(buffer, &encode(&attributes))?;
                0
            }
            _ => return Ok(Reply::Continue),
        };
        Ok(Reply::Return(Ok(value)))
    }
}

/// Returns the current time on the recorded machine, in seconds since 1970. The kernel's procfs
/// creates inodes on access, with the current time.
fn now(view: &dyn ProcessView) -> u64 {
    let uptime = view.uptime().unwrap_or_default().as_secs();
    view.boot_time().unwrap_or(0).saturating_add(uptime)
}

/// Writes the target of a symbolic link to a buffer (address, length), truncated as by `readlink`.
/// Returns the number of bytes.
fn write_target(call: &InterceptedCall<'_>, (buffer, len): (u64, u64), target: &[u8]) -> Result<i64, Errno> {
    if len as i32 <= 0 {
        return Err(Errno::INVAL);
    }
    let len = target.len().min(len as u32 as usize);
    call.memory().write(buffer, &target[..len])?;
    Ok(len as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_numbers_are_ids() {
        assert_eq!(split_id("7"), Some((7, "")));
        assert_eq!(split_id("4194303/task/8/comm"), Some((4_194_303, "task/8/comm")));
        for path in ["", "0", "07", "+7", "7a", "-7", "4294967296", "self", "sys/7"] {
            assert_eq!(split_id(path), None, "{path}");
        }
    }

    #[test]
    fn paths_below_proc_are_recognized() {
        assert_eq!(below_proc("/proc"), Some(""));
        assert_eq!(below_proc("/proc/7/comm"), Some("7/comm"));
        for path in ["", "/", "/process", "/usr/proc", "proc/7"] {
            assert_eq!(below_proc(path), None, "{path}");
        }
    }
}
