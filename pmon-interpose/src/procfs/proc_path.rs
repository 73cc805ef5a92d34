//! The path below `/proc` to which the arguments of a call refer.

use rustix::fs::{AtFlags, CWD, Stat, readlink, statat};

use crate::procfs::file_pool::PooledEntry;
use crate::procfs::tree::ProcfsTree;
use crate::seccomp::listener::InterceptedCall;

/// The arguments of a call that name a file.
pub(super) struct PathArgument {
    /// The descriptor that the path is relative to, or that the call is about; `None` is the
    /// working directory.
    pub(super) base: Option<u32>,
    /// Address of the path; `None` if the call is about the descriptor itself.
    pub(super) path: Option<u64>,
    /// Whether an empty path means the descriptor itself.
    pub(super) allows_empty: bool,
}

/// A path below `/proc`.
pub(super) struct ProcPath {
    /// The path relative to `/proc`, without `.` and `..`.
    pub(super) path: String,
    /// The directories that `..` leaves, which the kernel visits on the way.
    pub(super) visited: Vec<String>,
    /// The status of the file, if the call is about a descriptor.
    pub(super) opened: Option<Stat>,
    /// What the file shows, if the call is about a descriptor of a file in the pool.
    pub(super) pooled: Option<PooledEntry>,
}

impl ProcPath {
    /// Returns the path below `/proc` that a call refers to; `None` if it refers to another file.
    pub(super) fn resolve(
        argument: &PathArgument,
        tree: &ProcfsTree,
        call: &mut InterceptedCall<'_>,
    ) -> Option<Self> {
        let task = call.task();
        // The kernel refuses a path that cannot be read.
        let path = argument.path.map(|at| call.memory().path(at)).transpose().ok()?;
        let path = String::from_utf8(path.unwrap_or_default()).ok()?;
        let (mut resolved, mut opened) = (String::new(), None);
        if !path.starts_with('/') {
            if path.is_empty() && !argument.allows_empty {
                return None;
            }
            let cwd = || format!("/proc/{task}/cwd");
            let stat = match argument.base {
                Some(fd) => call.stat(fd),
                None => statat(CWD, cwd(), AtFlags::empty()),
            };
            let stat = stat.ok()?;
            if stat.st_dev != tree.device && !path.contains("proc") {
                return None;
            }
            if path.is_empty()
                && let Some(entry) = tree.pool.entry(stat.st_ino).filter(|_| stat.st_dev == tree.device)
            {
                let path = format!("{}/{}", entry.id, entry.path);
                let pooled = Some(entry.clone());
                return Some(Self { path, visited: Vec::new(), opened: Some(stat), pooled });
            }
            let base = match argument.base {
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
        Some(Self { path, visited, opened, pooled: None })
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
pub(super) fn split_id(path: &str) -> Option<(u32, &str)> {
    let (first, below) = path.split_once('/').unwrap_or((path, ""));
    let is_id = first.starts_with(|first: char| matches!(first, '1'..='9')) && !first.contains('+');
    Some((first.parse().ok().filter(|_| is_id)?, below))
}

/// Returns the descriptor whose link in `/proc/self/fd` has this path below `/proc`.
pub(super) fn descriptor_of(path: &str) -> Option<u32> {
    let below = path.strip_prefix("thread-").unwrap_or(path);
    below.strip_prefix("self/fd/")?.parse().ok()
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
