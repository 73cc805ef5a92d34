//! What is to be recorded, where that is not everything.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pmon_core::wire::Kind;

use crate::cgroups;

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

    /// The id of its cgroup.
    pub(crate) fn cgroup_id(&self) -> io::Result<Option<u64>> {
        let Some(path) = &self.cgroup else { return Ok(None) };
        let below = || Some(cgroups::mount()?.join(path.strip_prefix("/").unwrap_or(path)));
        let is_one = |path: &Path| path.join("cgroup.procs").exists();
        let found = if is_one(path) { Some(path.clone()) } else { below().filter(|path| is_one(path)) };
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Some(fs::metadata(found)?.ino()))
    }
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

    #[test]
    fn a_cgroup_that_is_not_there_is_an_error() {
        let scope = Scope { cgroup: Some("/no/such/cgroup".into()), ..Scope::default() };
        assert_eq!(scope.cgroup_id().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(Scope::default().cgroup_id().unwrap(), None);
    }
}
