//! The scope of a recording: which events are recorded.

use std::fmt;
use std::path::PathBuf;

use pmon_core::wire::EventKind;
use thiserror::Error;

use crate::details::cgroups::{self, CgroupError};
use crate::details::procfs::parents::{Identity, identity};

/// Maximum number of users in a [`Scope`].
pub const MAX_UIDS: usize = 16;

/// The events to record. An event must match all fields; an empty field and `None` match every
/// event. The recorder's own acknowledgements and heartbeats are always recorded.
///
/// Excluded events are not lost: the capture has their number for each CPU, so losses stay exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The kinds of events.
    pub kinds: Vec<EventKind>,
    /// The real user ids of the processes that cause the events, at most [`MAX_UIDS`].
    pub uids: Vec<u32>,
    /// The cgroup (version 2) of the processes that cause the events, or an ancestor of it: the
    /// path of its directory, or a path as in `/proc/<pid>/cgroup`.
    pub cgroup: Option<PathBuf>,
    /// The tree of processes that the events concern.
    pub tree: Option<TreeScope>,
}

/// A process and its descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeScope {
    /// The process with this id, and its descendants when the recording begins or later.
    Process(u32),
    /// The children of the recorder and their descendants.
    Children,
}

impl Scope {
    /// Whether the scope matches every event.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the kinds as a mask of `proc_event.what`.
    pub(crate) fn mask(&self) -> u32 {
        let bits = self.kinds.iter().map(|kind| kind.what().unwrap_or(0)).fold(0, |mask, bit| mask | bit);
        if self.kinds.is_empty() { u32::MAX } else { bits }
    }

    /// Checks that the processes, users and cgroup exist, and returns the id of the cgroup.
    pub(crate) fn resolve(&self) -> Result<Option<u64>, ScopeError> {
        if self.uids.len() > MAX_UIDS {
            return Err(ScopeError::ManyUsers);
        }
        if self.uids.contains(&u32::MAX) {
            return Err(ScopeError::NoUser { uid: u32::MAX });
        }
        if let Some(TreeScope::Process(pid)) = self.tree {
            match identity(pid) {
                Identity::Process => {}
                Identity::ThreadOf(process) => return Err(ScopeError::Thread { tid: pid, process }),
                Identity::Zombie => return Err(ScopeError::Ended { pid }),
                Identity::NoProcess => return Err(ScopeError::NoProcess { pid }),
            }
        }
        let Some(path) = &self.cgroup else { return Ok(None) };
        let id = cgroups::find(path);
        Ok(Some(id.map_err(|source| ScopeError::Cgroup { path: path.clone(), source })?))
    }
}

/// Why a scope is invalid: it names something that does not exist or is of the wrong kind.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// No process has this id.
    #[error("there is no process {pid} for --tree; `ps -e` lists all processes")]
    NoProcess {
        /// The process id.
        pid: u32,
    },
    /// The process has ended, and its parent has not waited for it.
    #[error("process {pid} for --tree has ended: it is a zombie and cannot fork")]
    Ended {
        /// The process id.
        pid: u32,
    },
    /// The id is that of a thread.
    #[error("{tid} for --tree is a thread of process {process}; use --tree {process}")]
    Thread {
        /// The thread id.
        tid: u32,
        /// The process of the thread.
        process: u32,
    },
    /// No process can have this user id: system calls use it for "no change".
    #[error("no process can have the user id {uid} of --uid")]
    NoUser {
        /// The user id.
        uid: u32,
    },
    /// More user ids than [`MAX_UIDS`].
    #[error("--uid takes at most {MAX_UIDS} users")]
    ManyUsers,
    /// The path does not name a cgroup of version 2.
    #[error("--cgroup {}: {source}", path.display())]
    Cgroup {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: CgroupError,
    },
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.kinds.is_empty() {
            parts.push(self.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", "));
        }
        if !self.uids.is_empty() {
            let uids: Vec<_> = self.uids.iter().map(u32::to_string).collect();
            parts.push(format!("of uid {}", uids.join(", ")));
        }
        if let Some(cgroup) = &self.cgroup {
            parts.push(format!("of cgroup {}", cgroup.display()));
        }
        match self.tree {
            Some(TreeScope::Process(pid)) => parts.push(format!("of process {pid} and its descendants")),
            Some(TreeScope::Children) => parts.push("of the recorded command and its descendants".into()),
            None => {}
        }
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_a_mask_of_kinds_and_a_description() {
        assert!(Scope::default().is_all());
        assert_eq!(Scope::default().mask(), u32::MAX);
        let scope = Scope {
            kinds: vec![EventKind::Exec, EventKind::Exit],
            uids: vec![0, 7],
            tree: Some(TreeScope::Process(4711)),
            ..Scope::default()
        };
        assert_eq!(scope.mask(), 0x8000_0002);
        assert_eq!(scope.to_string(), "exec, exit; of uid 0, 7; of process 4711 and its descendants");
    }

    fn refusal(scope: Scope) -> String {
        scope.resolve().unwrap_err().to_string()
    }

    #[test]
    fn a_scope_with_a_missing_process_or_an_invalid_user_is_refused() {
        let tree = |pid| Scope { tree: Some(TreeScope::Process(pid)), ..Scope::default() };
        assert_eq!(tree(std::process::id()).resolve().unwrap(), None);
        assert!(refusal(tree(u32::MAX)).contains("there is no process 4294967295"));
        let uids = |uids: &[u32]| Scope { uids: uids.to_vec(), ..Scope::default() };
        assert_eq!(uids(&[0, 7]).resolve().unwrap(), None);
        assert!(refusal(uids(&[0, u32::MAX])).contains("user id 4294967295"));
        assert!(refusal(uids(&[1; MAX_UIDS + 1])).contains("16 users"));
        assert_eq!(Scope::default().resolve().unwrap(), None);
    }

    #[test]
    fn the_id_of_a_thread_is_refused_and_the_error_has_its_process() {
        let (tid, named) = std::thread::spawn(|| {
            let tid = rustix::thread::gettid().as_raw_pid() as u32;
            (tid, refusal(Scope { tree: Some(TreeScope::Process(tid)), ..Scope::default() }))
        })
        .join()
        .unwrap();
        let me = std::process::id();
        assert_eq!(named, format!("{tid} for --tree is a thread of process {me}; use --tree {me}"));
    }

    #[test]
    fn a_missing_cgroup_is_refused() {
        let text = refusal(Scope { cgroup: Some("/no/such/cgroup".into()), ..Scope::default() });
        assert!(text.starts_with("--cgroup /no/such/cgroup: "), "{text}");
    }
}
