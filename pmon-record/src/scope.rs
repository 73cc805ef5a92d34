//! What is to be recorded, where that is not everything.

use std::fmt;
use std::path::PathBuf;

use pmon_core::wire::Kind;
use thiserror::Error;

use crate::cgroups::{self, CgroupError};
use crate::procfs::kinship::{Identity, identity};

/// Users that a [`Scope`] can name.
pub const MAX_UIDS: usize = 16;

/// What is to be recorded. All of it must hold; what is empty or `None` always holds. Acknowledgements of subscriptions, and the
/// recorder's own signs of life, are recorded in any case.
///
/// The others are not lost: how many of them each CPU emitted is in the capture, so that the account of losses stays exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Events of these kinds.
    pub kinds: Vec<Kind>,
    /// What is caused by processes with one of these real user ids: [`MAX_UIDS`] at the most.
    pub uids: Vec<u32>,
    /// What is caused by processes of this cgroup of version 2 and those below it: the path of its directory, or as
    /// `/proc/<pid>/cgroup` has it.
    pub cgroup: Option<PathBuf>,
    /// What happens to these processes.
    pub tree: Option<Tree>,
}

/// A process and its descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// This one, and whatever descends from it when the recording begins or later.
    Process(u32),
    /// What the recorder's process starts.
    Children,
}

impl Scope {
    /// Whether it is everything.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// The kinds as bits of `proc_event.what`.
    pub(crate) fn mask(&self) -> u32 {
        let bits = self.kinds.iter().map(|kind| kind.what().unwrap_or(0)).fold(0, |mask, bit| mask | bit);
        if self.kinds.is_empty() { u32::MAX } else { bits }
    }

    /// Checks that what it names is there, and gives the id of its cgroup.
    pub(crate) fn resolve(&self) -> Result<Option<u64>, ScopeError> {
        if self.uids.len() > MAX_UIDS {
            return Err(ScopeError::ManyUsers);
        }
        if self.uids.contains(&u32::MAX) {
            return Err(ScopeError::NoUser { uid: u32::MAX });
        }
        if let Some(Tree::Process(pid)) = self.tree {
            match identity(pid) {
                Identity::Process => {}
                Identity::ThreadOf(process) => return Err(ScopeError::Thread { tid: pid, process }),
                Identity::Zombie => return Err(ScopeError::Ended { pid }),
                Identity::Nothing => return Err(ScopeError::NoProcess { pid }),
            }
        }
        let Some(path) = &self.cgroup else { return Ok(None) };
        let id = cgroups::find(path);
        Ok(Some(id.map_err(|source| ScopeError::Cgroup { path: path.clone(), source })?))
    }

    /// Whether reading selects by all of it, from a capture of everything.
    pub(crate) fn can_be_read_out(&self) -> bool {
        self.uids.is_empty() && self.cgroup.is_none()
    }
}

/// What a [`Scope`] names is not what it has to be. Nothing would be recorded, or something else.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// No process has that id.
    #[error("there is no process {pid} for --tree; `ps -e` lists the processes that there are")]
    NoProcess {
        /// The process id.
        pid: u32,
    },
    /// The process has ended, and only its parent has to wait for it.
    #[error("process {pid} for --tree has ended: it is a zombie, and starts nothing any more")]
    Ended {
        /// The process id.
        pid: u32,
    },
    /// The id is a thread's.
    #[error("{tid} for --tree is a thread of process {process}; use --tree {process}")]
    Thread {
        /// The thread id.
        tid: u32,
        /// The process of the thread.
        process: u32,
    },
    /// No process can have that user id: system calls use it for "no change".
    #[error("no process has the user id {uid} of --uid; it stands for no user")]
    NoUser {
        /// The user id.
        uid: u32,
    },
    /// More user ids than [`MAX_UIDS`].
    #[error("--uid takes {MAX_UIDS} users at the most")]
    ManyUsers,
    /// That is no cgroup of version 2.
    #[error("--cgroup {}: {source}", path.display())]
    Cgroup {
        /// What was named.
        path: PathBuf,
        /// Why it is none.
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
            Some(Tree::Process(pid)) => parts.push(format!("of process {pid} and its descendants")),
            Some(Tree::Children) => parts.push("of the recorded command and its descendants".into()),
            None => {}
        }
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_says_what_it_is() {
        assert!(Scope::default().is_all());
        assert_eq!(Scope::default().mask(), u32::MAX);
        let scope = Scope {
            kinds: vec![Kind::Exec, Kind::Exit],
            uids: vec![0, 7],
            tree: Some(Tree::Process(4711)),
            ..Scope::default()
        };
        assert_eq!(scope.mask(), 0x8000_0002);
        assert_eq!(scope.to_string(), "exec, exit; of uid 0, 7; of process 4711 and its descendants");
    }

    fn refusal(scope: Scope) -> String {
        scope.resolve().unwrap_err().to_string()
    }

    #[test]
    fn what_a_scope_names_has_to_be_there() {
        let tree = |pid| Scope { tree: Some(Tree::Process(pid)), ..Scope::default() };
        assert_eq!(tree(std::process::id()).resolve().unwrap(), None);
        assert!(refusal(tree(u32::MAX)).contains("there is no process 4294967295"));
        let uids = |uids: &[u32]| Scope { uids: uids.to_vec(), ..Scope::default() };
        assert_eq!(uids(&[0, 7]).resolve().unwrap(), None);
        assert!(refusal(uids(&[0, u32::MAX])).contains("user id 4294967295"));
        assert!(refusal(uids(&[1; MAX_UIDS + 1])).contains("16 users"));
        assert_eq!(Scope::default().resolve().unwrap(), None);
    }

    #[test]
    fn the_id_of_a_thread_is_refused_and_its_process_named() {
        let (tid, named) = std::thread::spawn(|| {
            let tid = rustix::thread::gettid().as_raw_pid() as u32;
            (tid, refusal(Scope { tree: Some(Tree::Process(tid)), ..Scope::default() }))
        })
        .join()
        .unwrap();
        let me = std::process::id();
        assert_eq!(named, format!("{tid} for --tree is a thread of process {me}; use --tree {me}"));
    }

    #[test]
    fn a_cgroup_that_is_not_there_is_an_error() {
        let text = refusal(Scope { cgroup: Some("/no/such/cgroup".into()), ..Scope::default() });
        assert!(text.starts_with("--cgroup /no/such/cgroup: "), "{text}");
    }
}
