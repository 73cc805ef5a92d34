//! System calls that may refer to a file in the tracee's `/proc`.
//!
//! The files that a call accesses are brought up to date before the kernel executes the call. Some
//! calls are answered here: listings, attributes, the `self` links, and opening a file for writing.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, readlink, statat};
use rustix::io::Errno;

use crate::procfs::stat_structs::{FileAttributes, stat, statfs, statx};
use crate::procfs::tree::ProcfsTree;
use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::tracee::processes::Caller;
use crate::world::ProcessView;

/// Maximum bytes of a listing that are returned by one call.
const MAX_LISTING: usize = 1 << 16;

/// The arguments of a call that takes a path or a file descriptor.
struct PathCall {
    /// The descriptor that the path is relative to, or that the call is about; `None` is the
    /// working directory.
    base: Option<u32>,
    /// Address of the path; `None` if the call is about the descriptor itself.
    path: Option<u64>,
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
    components: Vec<String>,
    /// Whether the given path contains `..`: it may lead through directories that are not in
    /// `components`.
    has_dot_dot: bool,
}

/// Answers a call that may refer to a file in `/proc`; returns `None` for other calls.
pub(crate) fn answer(
    call: &mut InterceptedCall<'_>,
    view: &dyn ProcessView,
    tree: &mut ProcfsTree,
) -> Option<Reply> {
    let path_call = PathCall::parse(call)?;
    let reply = match path_call.resolve(tree, call) {
        Some(path) => execute(call, view, tree, path_call.operation, &path),
        None => Ok(Reply::Continue),
    };
    Some(reply.unwrap_or_else(Reply::from))
}

impl PathCall {
    /// Returns `None` if the call takes neither a path nor a descriptor of a directory.
    fn parse(call: &InterceptedCall<'_>) -> Option<Self> {
        let [a, b, c, d, e, _] = call.args();
        let at = |operation| {
            let base = (a as i32 != libc::AT_FDCWD).then_some(a as u32);
            Some(Self { base, path: Some(b), operation })
        };
        let path = |operation| Some(Self { base: None, path: Some(a), operation });
        let fd = |operation| Some(Self { base: Some(a as u32), path: None, operation });
        let nofollow = |flags: u64| flags & libc::AT_SYMLINK_NOFOLLOW as u64 != 0;
        match call.nr() {
            libc::SYS_openat => at(PathOperation::Open { flags: c }),
            libc::SYS_openat2 => at(PathOperation::Open { flags: 0 }),
            libc::SYS_newfstatat => {
                at(PathOperation::Stat { buffer: c, nofollow: nofollow(d), encode: stat })
            }
            libc::SYS_statx => at(PathOperation::Stat { buffer: e, nofollow: nofollow(c), encode: statx }),
            libc::SYS_faccessat | libc::SYS_faccessat2 => at(PathOperation::Other),
            libc::SYS_readlinkat => at(PathOperation::ReadLink { buffer: c, len: d }),
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
        let mut components = Vec::new();
        if !path.starts_with('/') {
            let cwd = || format!("/proc/{task}/cwd");
            let stat = match self.base {
                Some(fd) => call.stat(fd),
                None => statat(CWD, cwd(), AtFlags::empty()),
            };
            if stat.ok()?.st_dev != tree.device && !path.contains("proc") {
                return None;
            }
            let base = match self.base {
                Some(fd) => call.tasks.path(task, fd).ok()?,
                None => readlink(cwd(), Vec::new()).ok()?.into_bytes(),
            };
            components.extend(split(&String::from_utf8(base).ok()?));
        } else if !path.contains("proc") {
            return None;
        }
        for component in split(&path) {
            match &*component {
                ".." => drop(components.pop()),
                _ => components.push(component),
            }
        }
        let is_proc = components.first().is_some_and(|first| first == "proc");
        let has_dot_dot = split(&path).any(|component| component == "..");
        is_proc.then(|| ProcPath { components: components.split_off(1), has_dot_dot })
    }
}

fn execute(
    call: &InterceptedCall<'_>,
    view: &dyn ProcessView,
    tree: &mut ProcfsTree,
    operation: PathOperation,
    path: &ProcPath,
) -> Result<Reply, Errno> {
    let components = &*path.components;
    let memory = call.memory();
    let id = components.first().and_then(|first| first.parse::<u32>().ok());
    match (components.first().map(|first| &**first), operation) {
        (Some("uptime" | "stat"), PathOperation::Open { .. }) => tree.refresh_times(view)?,
        (Some(link @ ("self" | "thread-self")), PathOperation::ReadLink { buffer, len })
            if components.len() == 1 =>
        {
            let Caller { tgid, tid, .. } = Caller::of(call.task())?;
            let target = if link == "self" { tgid.to_string() } else { format!("{tgid}/task/{tid}") };
            if len as i32 <= 0 {
                return Err(Errno::INVAL);
            }
            let len = target.len().min(len as u32 as usize);
            memory.write(buffer, &target.as_bytes()[..len])?;
            return Ok(Reply::Return(Ok(len as i64)));
        }
        _ => {}
    }
    if let Some(id) = id {
        let below = components[1..].join("/");
        let needs_all = path.has_dot_dot || matches!(operation, PathOperation::List { .. });
        tree.refresh(id, (!needs_all).then_some(&*below), view)?;
    }
    let foreign_id = || id.filter(|&id| !tree.is_own(id));
    match operation {
        PathOperation::List { buffer, len } => {
            let listing = match (foreign_id(), components) {
                (None, []) => tree.listing(view)?,
                (Some(id), [_, task]) if task == "task" => tree.threads(id, view),
                _ => return Ok(Reply::Continue),
            };
            let directory = call.duplicate_fd(call.args()[0] as u32)?;
            let listed = listing.read(&directory, (len as u32 as usize).min(MAX_LISTING))?;
            memory.write(buffer, &listed)?;
            Ok(Reply::Return(Ok(listed.len() as i64)))
        }
        PathOperation::StatFs { buffer } if components.len() <= 1 => {
            memory.write(buffer, &statfs())?;
            Ok(Reply::Return(Ok(0)))
        }
        // Writing to a file of a recorded process has no effect.
        PathOperation::Open { flags }
            if components.len() >= 2
                && flags & libc::O_ACCMODE as u64 != libc::O_RDONLY as u64
                && foreign_id().is_some_and(|id| view.task(id).is_some())
                && tree.stat(&components.join("/")).is_ok() =>
        {
            let sink = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            call.return_fd(&sink, None, flags & libc::O_CLOEXEC as u64 != 0)?;
            Ok(Reply::Deferred)
        }
        PathOperation::Stat { buffer, nofollow, encode } => {
            let Some(attributes) = attributes(tree, view, foreign_id(), components, nofollow)? else {
                return Ok(Reply::Continue);
            };
            memory.write(buffer, &encode(&attributes))?;
            Ok(Reply::Return(Ok(0)))
        }
        _ => Ok(Reply::Continue),
    }
}

/// Returns the attributes of a file as procfs would report them: with the process's owner and a
/// size of 0, unlike the file in the tmpfs. Returns `None` if the kernel reports the right ones.
fn attributes(
    tree: &ProcfsTree,
    view: &dyn ProcessView,
    foreign_id: Option<u32>,
    components: &[String],
    nofollow: bool,
) -> Result<Option<FileAttributes>, Errno> {
    let owner = match foreign_id.and_then(|id| view.task(id)) {
        Some(info) => info.owner,
        None if components.is_empty() => (0, 0),
        None => return Ok(None),
    };
    let path = components.join("/");
    let found = tree.stat(if path.is_empty() { "." } else { &path })?;
    let is_followed = !nofollow && found.st_mode & libc::S_IFMT == libc::S_IFLNK;
    // A path through a link such as `cwd` leads to an ordinary file.
    if is_followed || found.st_dev != tree.device {
        return Ok(None);
    }
    let mode = match found.st_mode & libc::S_IFMT {
        libc::S_IFDIR => libc::S_IFDIR | 0o555,
        libc::S_IFLNK => libc::S_IFLNK | 0o777,
        _ => libc::S_IFREG | 0o444,
    };
    let uptime = view.uptime().unwrap_or_default().as_secs();
    let time = view.boot_time().unwrap_or(0).saturating_add(uptime);
    Ok(Some(FileAttributes { ino: found.st_ino, device: found.st_dev, mode, owner, time }))
}

fn split(path: &str) -> impl Iterator<Item = String> {
    path.split('/').filter(|component| !component.is_empty() && *component != ".").map(str::to_owned)
}
