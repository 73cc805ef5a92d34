//! Sums over groups of processes.

mod histogram;

use std::collections::HashMap;
use std::iter;
use std::sync::Arc;

pub use self::histogram::Histogram;
use crate::cgroup::CgroupIdentity;
use crate::life::{Ancestor, Life, LifeEnd, MAX_ANCESTORS, ProcessId, Program};

/// Maximum number of groups. Further processes are in one group of their own.
pub const MAX_GROUPS: usize = 1 << 16;
/// Maximum number of groups of a small table.
pub const MAX_GROUPS_SMALL: usize = 1 << 13;
/// Maximum bytes of all keys.
const MAX_KEY_BYTES: usize = 32 << 20;
/// Maximum number of buckets for durations, of 8 bytes each.
const MAX_BUCKETS: usize = 4 << 20;

/// The property by which processes are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupBy {
    /// Name of the first thread.
    Comm,
    /// Path of the executable.
    Exe,
    /// Command line of the last program.
    Args,
    /// Real user ID.
    User,
    /// Unit of systemd.
    Unit,
    /// Identifier of the container.
    Container,
    /// The process that forked it.
    Parent,
    /// Each of its ancestors: a process counts once in the group of each.
    Subtree,
}

impl GroupBy {
    /// Returns the name in every interface of pmon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Comm => "comm",
            Self::Exe => "exe",
            Self::Args => "args",
            Self::User => "user",
            Self::Unit => "unit",
            Self::Container => "container",
            Self::Parent => "parent",
            Self::Subtree => "subtree",
        }
    }
}

/// What the processes of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupKey {
    /// A text: for [`GroupBy::Args`], arguments that each end with a zero byte.
    Text(Arc<[u8]>),
    /// A user ID.
    User(u32),
    /// The number of the parent, or of an ancestor.
    Process(ProcessId),
    /// The property is unknown, or the processes have none.
    None,
    /// The processes of all groups beyond the limit.
    Other,
}

/// Sums over the processes of a group.
#[derive(Clone, Debug, Default)]
pub struct GroupSums {
    /// Number of processes.
    pub count: u64,
    /// Number of processes that started in the range of time.
    pub started: u64,
    /// Number of processes that were running at the end of the range of time.
    pub running: u64,
    /// Number of processes that returned another code than 0, or that a signal killed.
    pub failures: u64,
    /// Sum of the CPU times in ns; `None` if it is unknown of all.
    pub cpu_ns: Option<u64>,
    /// Durations of the processes that have ended, in ns.
    pub durations: Histogram,
    /// Maximum of the peak resident memories in bytes; `None` if it is unknown of all.
    pub max_rss_bytes: Option<u64>,
    /// The parent or the ancestor, as it was when it last forked one of the processes.
    pub ancestor: Option<Arc<Ancestor>>,
    /// Name of the container, of a group by [`GroupBy::Container`].
    pub container: Option<Box<[u8]>>,
}

/// Groups of processes, in bounded memory: at most 65,536 groups, 32 MiB of keys and 32 MiB of
/// durations.
#[derive(Debug)]
pub struct GroupTable {
    by: GroupBy,
    groups: Vec<(GroupKey, GroupSums)>,
    /// The indexes of the groups that have a text in common.
    texts: HashMap<Arc<[u8]>, usize>,
    /// The indexes of the other groups.
    others: HashMap<GroupKey, usize>,
    max_groups: usize,
    key_bytes: usize,
    max_key_bytes: usize,
    buckets: usize,
    max_buckets: usize,
}

impl GroupTable {
    /// Creates an empty table.
    pub fn new(by: GroupBy) -> Self {
        Self {
            by,
            groups: Vec::new(),
            texts: HashMap::new(),
            others: HashMap::new(),
            max_groups: MAX_GROUPS,
            key_bytes: 0,
            max_key_bytes: MAX_KEY_BYTES,
            buckets: 0,
            max_buckets: MAX_BUCKETS,
        }
    }

    /// Creates an empty table with an eighth of the limits: 8,192 groups, 4 MiB of keys and 4 MiB
    /// of durations.
    pub fn small(by: GroupBy) -> Self {
        Self {
            max_groups: MAX_GROUPS_SMALL,
            max_key_bytes: MAX_KEY_BYTES / 8,
            max_buckets: MAX_BUCKETS / 8,
            ..Self::new(by)
        }
    }

    /// Adds a process. `has_started` states whether it started in the range of time.
    pub fn add(&mut self, life: &Life, has_started: bool) {
        let program = life.program.get();
        let identity = || program.cgroup.as_deref().map(CgroupIdentity::of).unwrap_or_default();
        let text = match self.by {
            GroupBy::Comm => life.comm(),
            GroupBy::Exe => program.exe.as_deref(),
            GroupBy::Args => program.args.as_deref(),
            GroupBy::Unit => identity().unit,
            GroupBy::Container => {
                self.add_text(identity().container_id.as_deref(), life, has_started);
                return self.name_container(identity().container_id.as_deref(), program);
            }
            GroupBy::User => {
                let key = life.uid.map_or(GroupKey::None, |(real, _)| GroupKey::User(real));
                return self.add_to(key, life, has_started, None);
            }
            GroupBy::Parent => {
                let parent = life.parent.clone().map(Ancestor::into_resolved);
                let key = parent.as_ref().map_or(GroupKey::None, |parent| GroupKey::Process(parent.id));
                return self.add_to(key, life, has_started, parent.as_ref());
            }
            GroupBy::Subtree => {
                // A process can fork before the scan finds it with its own parent.
                let resolved = |of: &Option<Arc<Ancestor>>| of.clone().map(Ancestor::into_resolved);
                let ancestors = iter::successors(resolved(&life.parent), |at| resolved(&at.parent));
                for ancestor in ancestors.take(usize::from(MAX_ANCESTORS)) {
                    self.add_to(GroupKey::Process(ancestor.id), life, has_started, Some(&ancestor));
                }
                return;
            }
        };
        self.add_text(text, life, has_started);
    }

    /// Returns the groups in any order.
    pub fn into_groups(self) -> Vec<(GroupKey, GroupSums)> {
        self.groups
    }

    /// Adds a process to the group that has a text in common.
    fn add_text(&mut self, text: Option<&[u8]>, life: &Life, has_started: bool) {
        match text.map(|text| (text, self.texts.get(text))) {
            Some((_, Some(&group))) => self.add_to_group(group, life, has_started, None),
            Some((text, None)) => self.add_to(GroupKey::Text(text.into()), life, has_started, None),
            None => self.add_to(GroupKey::None, life, has_started, None),
        }
    }

    /// Notes the name of the container with this identifier, if it is known.
    fn name_container(&mut self, id: Option<&[u8]>, program: &Program) {
        let group = id.and_then(|id| self.texts.get(id)).and_then(|&group| self.groups.get_mut(group));
        if let (Some((_, sums)), Some(name)) = (group, program.container_names().container)
            && sums.container.is_none()
            && self.key_bytes + name.len() <= self.max_key_bytes
        {
            self.key_bytes += name.len();
            sums.container = Some(name.into());
        }
    }

    fn add_to(&mut self, key: GroupKey, life: &Life, has_started: bool, ancestor: Option<&Arc<Ancestor>>) {
        let (group, ancestor) = match self.others.get(&key) {
            Some(&group) => (group, ancestor),
            None if self.has_room(&key) => (self.insert(key), ancestor),
            None => {
                let other = self.others.get(&GroupKey::Other).copied();
                (other.unwrap_or_else(|| self.insert(GroupKey::Other)), None)
            }
        };
        self.add_to_group(group, life, has_started, ancestor);
    }

    /// Returns whether a group with this key may be added.
    fn has_room(&self, key: &GroupKey) -> bool {
        self.groups.len() < self.max_groups && self.key_bytes + key_bytes(key) <= self.max_key_bytes
    }

    fn insert(&mut self, key: GroupKey) -> usize {
        let group = self.groups.len();
        self.key_bytes += key_bytes(&key);
        match &key {
            GroupKey::Text(text) => self.texts.insert(Arc::clone(text), group),
            key => self.others.insert(key.clone(), group),
        };
        self.groups.push((key, GroupSums::default()));
        group
    }

    fn add_to_group(
        &mut self,
        group: usize,
        life: &Life,
        has_started: bool,
        ancestor: Option<&Arc<Ancestor>>,
    ) {
        let sums = &mut self.groups[group].1;
        let has_room = self.buckets < self.max_buckets;
        self.buckets += usize::from(sums.add(life, has_started, has_room));
        if let Some(ancestor) = ancestor
            && !sums.ancestor.as_ref().is_some_and(|known| Arc::ptr_eq(known, ancestor))
        {
            sums.ancestor = Some(Arc::clone(ancestor));
        }
    }
}

fn key_bytes(key: &GroupKey) -> usize {
    match key {
        GroupKey::Text(text) => text.len(),
        _ => 0,
    }
}

impl GroupSums {
    /// Adds a process. Returns whether its duration took a new bucket.
    fn add(&mut self, life: &Life, has_started: bool, has_room: bool) -> bool {
        self.count += 1;
        self.started += u64::from(has_started);
        self.running += u64::from(life.end == LifeEnd::Running);
        self.failures += u64::from(life.has_failed());
        if let Some(usage) = &life.usage {
            self.cpu_ns = Some(self.cpu_ns.unwrap_or(0).saturating_add(usage.cpu_ns));
            self.max_rss_bytes = self.max_rss_bytes.max(usage.max_rss_bytes);
        }
        life.duration_ns().is_some_and(|duration| self.durations.add(duration, has_room))
    }
}

#[cfg(test)]
mod tests;
