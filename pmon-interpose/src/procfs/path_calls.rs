//! System calls that may refer to a file in the tracee's `/proc`.
//!
//! Listings, attributes, targets of links, and opening a file for writing are answered here. For
//! all other calls, the accessed file is brought up to date before the kernel executes the call.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use crate::procfs::file_pool::PooledEntry;
use crate::procfs::proc_path::{PathArgument, ProcPath, descriptor_of, split_id};
#[cfg(target_arch = "x86_64")]
use crate::procfs::stat_structs::stat_i386;
use crate::procfs::stat_structs::{FileAttributes, stat, statfs, statx};
use crate::procfs::tree::{ProcfsTree, inode};
use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::tracee::abi::Abi;
use crate::tracee::processes::Caller;
use crate::world::{ProcEntry, ProcEntryKind, ProcessView, TaskInfo};

/// Maximum bytes of a listing that are returned by one call.
const MAX_LISTING: usize = 1 << 16;

/// Flags of `open` with which a file of a recorded process is opened here. With others, such as
/// `O_PATH`, the kernel opens it.
const POOLED_FLAGS: u64 = (libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_NOFOLLOW) as u64
    | OFlags::LARGEFILE.bits() as u64;

/// A call that refers to a file in the tracee's `/proc`.
pub(crate) struct ProcCall {
    operation: PathOperation,
    path: ProcPath,
}

/// The arguments of a call that takes a path or a file descriptor.
struct PathCall {
    argument: PathArgument,
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

impl PathCall {
    /// Returns `None` if the call takes neither a path nor a descriptor of a directory.
    fn parse(call: &InterceptedCall<'_>) -> Option<Self> {
        let [a, b, c, d, e, _] = call.args();
        let base = (a as i32 != libc::AT_FDCWD).then_some(a as u32);
        let with = |base, path, allows_empty, operation| {
            Some(Self { argument: PathArgument { base, path, allows_empty }, operation })
        };
        let at = |operation| with(base, Some(b), false, operation);
        let at_or_fd =
            |flags: u64, operation| with(base, Some(b), flags & libc::AT_EMPTY_PATH as u64 != 0, operation);
        let path = |operation| with(None, Some(a), false, operation);
        let fd = |operation| with(Some(a as u32), None, true, operation);
        let stat = stat_of(call.abi);
        let nofollow = |flags: u64| flags & libc::AT_SYMLINK_NOFOLLOW as u64 != 0;
        match call.nr() {
            libc::SYS_openat => at(PathOperation::Open { flags: c }),
            // The flags are in memory: with `O_PATH`, the kernel opens the file.
            libc::SYS_openat2 => at(PathOperation::Open { flags: libc::O_PATH as u64 }),
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
}

impl ProcCall {
    /// Returns `None` if the call refers to no file in `/proc`.
    pub(crate) fn parse(call: &mut InterceptedCall<'_>, tree: &ProcfsTree) -> Option<Self> {
        let path_call = PathCall::parse(call)?;
        let path = ProcPath::resolve(&path_call.argument, tree, call)?;
        Some(Self { operation: path_call.operation, path })
    }

    /// Answers the call, or prepares the accessed files for the kernel.
    pub(crate) fn answer(
        &self,
        call: &mut InterceptedCall<'_>,
        view: &dyn ProcessView,
        tree: &mut ProcfsTree,
    ) -> Reply {
        self.execute(call, view, tree).unwrap_or_else(Reply::from)
    }

    fn execute(
        &self,
        call: &mut InterceptedCall<'_>,
        view: &dyn ProcessView,
        tree: &mut ProcfsTree,
    ) -> Result<Reply, Errno> {
        let ProcPath { path, visited, opened, pooled } = &self.path;
        if let Some(entry) = pooled {
            return self.answer_pooled(call, view, tree, entry);
        }
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

    /// Answers a call on a descriptor of a file in the pool.
    fn answer_pooled(
        &self,
        call: &InterceptedCall<'_>,
        view: &dyn ProcessView,
        tree: &ProcfsTree,
        PooledEntry { id, path, owner, .. }: &PooledEntry,
    ) -> Result<Reply, Errno> {
        match self.operation {
            PathOperation::Stat { buffer, encode, .. } => {
                let (ino, mode, time) = (inode(*id, path), libc::S_IFREG | 0o444, now(view));
                let attributes = FileAttributes { ino, device: tree.device, mode, owner: *owner, time };
                call.memory().write(buffer, &encode(&attributes))?;
            }
            PathOperation::StatFs { buffer } => call.memory().write(buffer, &statfs())?,
            _ => return Ok(Reply::Continue),
        }
        Ok(Reply::Return(Ok(0)))
    }

    /// Answers a call on a file of a recorded task; returns `None` if the kernel has to execute it.
    fn answer_recorded(
        &self,
        call: &InterceptedCall<'_>,
        view: &dyn ProcessView,
        tree: &mut ProcfsTree,
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
                let mut listing = tree.list(id, below, view);
                if call.abi != Abi::Native {
                    listing.shorten_inodes();
                }
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
                return return_fd(call, &sink, flags).map(Some);
            }
            PathOperation::Open { flags } if flags & !POOLED_FLAGS == 0 => {
                let flags_of_file = OFlags::from_bits_retain(flags as u32);
                let file = tree.open_file(call.task(), (id, below, info), flags_of_file, view);
                return file.map(|file| return_fd(call, &file, flags)).transpose();
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
            PathOperation::ReadLink { buffer, len } if !tree.is_remounted => match view.entry(id, below) {
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
        call: &mut InterceptedCall<'_>,
        view: &dyn ProcessView,
        tree: &ProcfsTree,
    ) -> Result<Reply, Errno> {
        let memory = call.memory();
        let value = match (&*self.path.path, self.operation) {
            ("uptime" | "stat", PathOperation::Open { .. }) => {
                tree.refresh_times(view)?;
                return Ok(Reply::Continue);
            }
            (link, PathOperation::ReadLink { buffer, len }) if let Some(fd) = descriptor_of(link) => {
                let Stat { st_dev, st_ino, .. } = call.stat(fd)?;
                match tree.pool.entry(st_ino).filter(|_| st_dev == tree.device) {
                    Some(PooledEntry { id, path, .. }) => {
                        write_target(call, (buffer, len), format!("/proc/{id}/{path}").as_bytes())?
                    }
                    None => return Ok(Reply::Continue),
                }
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

/// Returns the function that encodes the struct of `stat`.
fn stat_of(abi: Abi) -> fn(&FileAttributes) -> Vec<u8> {
    match abi {
        #[cfg(target_arch = "x86_64")]
        Abi::I386 => stat_i386,
        _ => stat,
    }
}

/// Lets a call that opens a file return a descriptor of `file`.
fn return_fd(call: &InterceptedCall<'_>, file: &OwnedFd, flags: u64) -> Result<Reply, Errno> {
    match call.return_fd(file, None, flags & libc::O_CLOEXEC as u64 != 0) {
        // A signal has interrupted the call, and the task restarts it.
        Ok(()) | Err(Errno::NOENT) => Ok(Reply::Deferred),
        Err(error) => Err(error),
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
