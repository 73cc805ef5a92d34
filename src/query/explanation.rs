//! The causes of processes: their ancestors, and what each of them did.

use std::collections::HashMap;

use pmon_analysis::life::{Life, ProcessId};
use pmon_core::MonoNs;

use super::{ProcessSelector, QueryOutcome, QueryTarget};

/// Maximum number of matching processes that are kept.
const MAX_MATCHES: usize = 1000;
/// Number of children that are kept of each process.
const FIRST_CHILDREN: usize = 5;

/// A process, the number of its boot, and the time up to which it was followed.
#[derive(Clone, Debug)]
pub(crate) struct FollowedLife {
    pub(crate) life: Life,
    pub(crate) boot: usize,
    pub(crate) now: MonoNs,
}

impl FollowedLife {
    /// Returns the key that sorts processes by their starts.
    fn order(&self) -> (usize, Option<MonoNs>, u32) {
        (self.boot, self.life.start, self.life.pid)
    }
}

/// The processes that a question names, the newest first.
#[derive(Debug)]
pub(crate) struct TargetMatches {
    target: Option<QueryTarget>,
    selector: ProcessSelector,
    newest: Vec<FollowedLife>,
    count: u64,
    examined: u64,
}

impl TargetMatches {
    /// Creates an empty list.
    pub(crate) fn new(target: Option<QueryTarget>, selector: ProcessSelector) -> Self {
        Self { target, selector, newest: Vec::new(), count: 0, examined: 0 }
    }

    /// Adds a process, if it matches.
    pub(crate) fn add(&mut self, life: FollowedLife) {
        self.examined += 1;
        let is_named = self.target.as_ref().is_none_or(|target| target.matches(&life.life));
        if !is_named || !self.selector.selects(&life.life, life.now) {
            return;
        }
        self.count += 1;
        self.newest.push(life);
        if self.newest.len() > 2 * MAX_MATCHES {
            self.sort();
        }
    }

    /// Notes how many processes were left out because too little is known of them.
    pub(crate) fn note(&self, outcome: &mut QueryOutcome) {
        self.selector.note(outcome);
    }

    /// Returns the number of processes that were added, whether or not they match.
    pub(crate) fn examined(&self) -> u64 {
        self.examined
    }

    /// Returns the newest matches, and the number of all matches.
    pub(crate) fn finish(mut self) -> (Vec<FollowedLife>, u64) {
        self.sort();
        (self.newest, self.count)
    }

    fn sort(&mut self) {
        self.newest.sort_by_key(|life| std::cmp::Reverse(life.order()));
        self.newest.truncate(MAX_MATCHES);
    }
}

/// What the ancestors of some processes did.
#[derive(Debug, Default)]
pub(crate) struct Causes(HashMap<ProcessId, Cause>);

/// What a process did.
#[derive(Debug, Default)]
pub(crate) struct Cause {
    /// The process, if it ran in the range of time.
    pub(crate) life: Option<FollowedLife>,
    /// The children that were forked first.
    pub(crate) children: Vec<FollowedLife>,
    /// Number of children in the range of time.
    pub(crate) child_count: u64,
}

impl Causes {
    /// Creates empty causes of these processes.
    pub(crate) fn of<'a>(lives: impl Iterator<Item = &'a Life>) -> Self {
        let ids = lives
            .flat_map(|life| std::iter::once(life.id).chain(life.ancestors().map(|ancestor| ancestor.id)));
        Self(ids.map(|id| (id, Cause::default())).collect())
    }

    /// Adds a process, if it is one of the ancestors, or a child of one.
    pub(crate) fn add(&mut self, life: FollowedLife) {
        if let Some(cause) = life.life.parent.as_ref().and_then(|parent| self.0.get_mut(&parent.id)) {
            cause.child_count += 1;
            let at = cause.children.partition_point(|child| child.order() <= life.order());
            if at < FIRST_CHILDREN {
                cause.children.insert(at, life.clone());
                cause.children.truncate(FIRST_CHILDREN);
            }
        }
        if let Some(cause) = self.0.get_mut(&life.life.id) {
            cause.life = Some(life);
        }
    }

    /// Returns what a process did.
    pub(crate) fn get(&self, id: ProcessId) -> Option<&Cause> {
        self.0.get(&id)
    }
}
