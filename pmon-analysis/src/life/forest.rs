//! Processes as trees, in which many similar siblings are one item.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pmon_core::MonoNs;

use super::{Ancestor, Life, LifeEnd, ProcessId, Program};

/// A process that is added to a [`LifeForest`].
#[derive(Clone, Debug)]
pub struct ForestRow {
    /// The process.
    pub life: Life,
    /// Number of the boot in the recording.
    pub boot: usize,
    /// Time in ns from the start to the end, or for which the process is known to have run.
    pub lasted_ns: Option<u64>,
    /// Whether the process matches what was searched for.
    pub is_selected: bool,
    /// Whether the process is worth showing. If not, it is shown only above a descendant that is.
    pub is_kept: bool,
}

/// Builds trees from the rows of processes.
///
/// Siblings of the same name are folded into one item if they are more than a number, and their
/// descendants below it. A sibling is folded as soon as it and its descendants have ended. The
/// number of running processes and of branches bounds the memory, not the number of processes. A
/// running process that has children is never folded. A tree has at most 256 levels: deeper
/// branches are trees of their own.
#[derive(Debug)]
pub struct LifeForest {
    fold: usize,
    nodes: HashMap<ProcessId, OpenNode>,
    roots: Branches,
    hidden: u64,
}

/// Maximum number of levels of a tree. What is below is a tree of its own.
const MAX_LEVELS: u16 = 256;

/// A process whose row or descendants are not complete.
#[derive(Debug, Default)]
struct OpenNode {
    row: Option<Box<ForestRow>>,
    ancestor: Option<(Arc<Ancestor>, usize)>,
    parent: Option<ProcessId>,
    /// Number of levels below.
    levels: u16,
    /// Number of children that are complete.
    closed: u32,
    children: Branches,
}

impl OpenNode {
    fn is_complete(&self) -> bool {
        let row = self.row.as_deref().filter(|row| row.life.end != LifeEnd::Running);
        row.is_some_and(|row| self.closed >= row.life.children)
    }
}

/// A process in a tree, or several that are folded.
#[derive(Debug)]
pub enum Branch {
    /// A process.
    Node(Box<ForestNode>),
    /// Siblings of the same name.
    Folded(Box<FoldedLives>),
}

/// A process in a tree.
#[derive(Debug)]
pub struct ForestNode {
    /// The row; `None` if only descendants of the process were added.
    pub row: Option<Box<ForestRow>>,
    /// The process as the parent of another one, and the number of its boot, if there is no row.
    pub ancestor: Option<(Arc<Ancestor>, usize)>,
    children: Branches,
}

/// Siblings of the same name, with their descendants.
#[derive(Debug, Default)]
pub struct FoldedLives {
    /// Name of the first threads.
    pub name: Option<Vec<u8>>,
    /// Number of processes.
    pub count: u64,
    /// Number of processes that were killed or returned another exit code than 0.
    pub failed: u64,
    /// Number of processes that were still running.
    pub running: u64,
    /// Sum of the durations in ns.
    pub lasted_ns: u64,
    /// Sum of the known CPU times in ns; `None` if none is known.
    pub cpu_ns: Option<u64>,
    /// Start of the first one, and the number of its boot.
    pub first: (usize, Option<MonoNs>),
    /// The row of the one that lasted longest.
    pub longest: Option<Box<ForestRow>>,
    children: Branches,
}

/// Siblings of the same name. The key also states whether they were searched for.
type SiblingKey = (bool, Option<Vec<u8>>);

/// Siblings by name.
#[derive(Debug, Default)]
struct Branches(BTreeMap<SiblingKey, Siblings>);

#[derive(Debug, Default)]
struct Siblings {
    nodes: Vec<ForestNode>,
    folded: Option<Box<FoldedLives>>,
}

impl LifeForest {
    /// Creates an empty forest. More than `fold` siblings of the same name are folded.
    pub fn new(fold: usize) -> Self {
        Self { fold, nodes: HashMap::new(), roots: Branches::default(), hidden: 0 }
    }

    /// Adds a process.
    pub fn add(&mut self, row: ForestRow) {
        let (id, boot, parent) = (row.life.id, row.boot, row.life.parent.clone());
        let node = self.nodes.entry(id).or_default();
        node.parent = parent.as_ref().map(|parent| parent.id);
        node.row = Some(Box::new(row));
        let is_complete = node.is_complete();
        self.add_ancestors(parent, boot);
        if is_complete {
            self.close(id);
        }
    }

    fn add_ancestors(&mut self, parent: Option<Arc<Ancestor>>, boot: usize) {
        let mut next = parent.map(Ancestor::into_resolved);
        while let Some(ancestor) = next {
            let node = self.nodes.entry(ancestor.id).or_default();
            next = ancestor.parent.clone().map(Ancestor::into_resolved);
            let parent = next.as_ref().map(|parent| parent.id);
            let is_known = node.row.is_some() || node.ancestor.is_some();
            // A scan may have found the parent since.
            if is_known && (node.parent.is_some() || parent.is_none()) {
                return;
            }
            node.parent = parent;
            node.ancestor = Some((ancestor, boot));
        }
    }

    /// Returns the trees in the order of their starts, and the number of hidden processes. With
    /// `selected`, the trees begin with the selected processes.
    pub fn finish(mut self, selected: bool) -> (Vec<Branch>, u64) {
        let mut ids = self.depths();
        ids.sort_unstable_by_key(|&(depth, id)| (std::cmp::Reverse(depth), id));
        for (_, id) in ids {
            self.close_one(id);
        }
        let roots = if selected { self.roots.selected(self.fold) } else { self.roots };
        (roots.into_branches(), self.hidden)
    }

    /// Closes a process, and its ancestors that are complete with it.
    fn close(&mut self, id: ProcessId) {
        let mut next = Some(id);
        while let Some(id) = next {
            let parent = self.close_one(id);
            next = parent.filter(|parent| self.nodes.get(parent).is_some_and(OpenNode::is_complete));
        }
    }

    /// Moves a process below its parent, which is returned.
    fn close_one(&mut self, id: ProcessId) -> Option<ProcessId> {
        let node = self.nodes.remove(&id)?;
        // Only what is below an ancestor without a row makes it worth showing.
        let is_kept = !node.children.0.is_empty() || node.row.as_ref().is_some_and(|row| row.is_kept);
        let parent = node.parent.filter(|parent| self.nodes.contains_key(parent));
        let open = parent.and_then(|parent| self.nodes.get_mut(&parent));
        let target = match open {
            Some(open) => {
                open.closed = open.closed.saturating_add(1);
                if node.levels + 1 < MAX_LEVELS {
                    open.levels = open.levels.max(node.levels + 1);
                    &mut open.children
                } else {
                    &mut self.roots
                }
            }
            None => &mut self.roots,
        };
        if is_kept {
            let node = ForestNode { row: node.row, ancestor: node.ancestor, children: node.children };
            target.push(node, self.fold);
        } else {
            self.hidden += u64::from(node.row.is_some());
        }
        parent
    }

    /// Returns the depth of each process that is not complete.
    fn depths(&self) -> Vec<(usize, ProcessId)> {
        let mut depths: HashMap<ProcessId, usize> = HashMap::with_capacity(self.nodes.len());
        let mut line = Vec::new();
        for &id in self.nodes.keys() {
            let mut next = Some(id);
            while let Some(id) = next.filter(|id| !depths.contains_key(id)) {
                // A forged recording may contain a circle, which ends here.
                depths.insert(id, 0);
                line.push(id);
                next = self.nodes.get(&id).and_then(|node| node.parent);
            }
            let above = next.map_or(0, |id| depths[&id]);
            for (below, id) in line.drain(..).rev().enumerate() {
                depths.insert(id, above + below + 1);
            }
        }
        depths
            .into_iter()
            .filter(|(id, _)| self.nodes.contains_key(id))
            .map(|(id, depth)| (depth, id))
            .collect()
    }
}

impl Branches {
    fn push(&mut self, node: ForestNode, fold: usize) {
        let key = (node.is_selected(), node.name().map(<[u8]>::to_vec));
        self.0.entry(key).or_default().push(node, fold);
    }

    fn merge(&mut self, other: Self, fold: usize) {
        for (key, siblings) in other.0 {
            let target = self.0.entry(key).or_default();
            siblings.nodes.into_iter().for_each(|node| target.push(node, fold));
            if let Some(folded) = siblings.folded {
                target.fold(fold).merge(*folded, fold);
            }
        }
    }

    /// Returns the topmost selected processes.
    fn selected(self, fold: usize) -> Self {
        let (mut found, mut rest) = (Self::default(), vec![self]);
        while let Some(branches) = rest.pop() {
            for (key, siblings) in branches.0 {
                if key.0 {
                    found.merge(Self(BTreeMap::from([(key, siblings)])), fold);
                } else {
                    rest.extend(siblings.nodes.into_iter().map(|node| node.children));
                    rest.extend(siblings.folded.map(|folded| folded.children));
                }
            }
        }
        found
    }

    fn into_branches(self) -> Vec<Branch> {
        let mut branches: Vec<_> = self.0.into_values().flat_map(Siblings::into_branches).collect();
        branches.sort_by_key(Branch::order);
        branches
    }
}

impl Siblings {
    fn push(&mut self, node: ForestNode, fold: usize) {
        match &mut self.folded {
            Some(folded) if node.can_fold() => folded.add(node, fold),
            _ => {
                self.nodes.push(node);
                // Few nodes need not be counted.
                if self.nodes.len() <= fold {
                    return;
                }
                if self.nodes.iter().filter(|node| node.can_fold()).count() > fold {
                    self.fold(fold);
                }
            }
        }
    }

    /// Folds all siblings that can be folded.
    fn fold(&mut self, fold: usize) -> &mut FoldedLives {
        let folded = self.folded.get_or_insert_default();
        for node in self.nodes.extract_if(.., |node| node.can_fold()) {
            folded.add(node, fold);
        }
        folded
    }

    fn into_branches(self) -> impl Iterator<Item = Branch> {
        self.nodes.into_iter().map(|node| Branch::Node(Box::new(node))).chain(self.folded.map(Branch::Folded))
    }
}

impl ForestNode {
    /// Returns the process ID.
    pub fn pid(&self) -> u32 {
        match (&self.row, &self.ancestor) {
            (Some(row), _) => row.life.pid,
            (None, Some((ancestor, _))) => ancestor.pid,
            (None, None) => 0,
        }
    }

    /// Returns the name of the first thread.
    pub fn name(&self) -> Option<&[u8]> {
        match (&self.row, &self.ancestor) {
            (Some(row), _) => row.life.comm(),
            (None, ancestor) => ancestor.as_ref()?.0.comm(),
        }
    }

    /// Returns the program.
    pub fn program(&self) -> Option<&Program> {
        match (&self.row, &self.ancestor) {
            (Some(row), _) => Some(row.life.program.get()),
            (None, ancestor) => Some(ancestor.as_ref()?.0.program.get()),
        }
    }

    /// Returns the start, and the number of its boot.
    pub fn start(&self) -> (usize, Option<MonoNs>) {
        match (&self.row, &self.ancestor) {
            (Some(row), _) => (row.boot, row.life.start),
            (None, Some((ancestor, boot))) => (*boot, ancestor.start),
            (None, None) => (0, None),
        }
    }

    /// Returns the branches below the process, in the order of their starts.
    pub fn into_children(self) -> Vec<Branch> {
        self.children.into_branches()
    }

    fn is_selected(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.is_selected)
    }

    fn can_fold(&self) -> bool {
        let is_running = self.row.as_ref().is_some_and(|row| row.life.end == LifeEnd::Running);
        self.row.is_some() && (!is_running || self.children.0.is_empty())
    }
}

impl FoldedLives {
    /// Returns the branches below all processes, in the order of their starts.
    pub fn into_children(self) -> Vec<Branch> {
        self.children.into_branches()
    }

    fn add(&mut self, node: ForestNode, fold: usize) {
        let start = node.start();
        let Some(row) = node.row else { return };
        let is_longer = |known: &ForestRow| known.lasted_ns < row.lasted_ns;
        self.first = if self.count == 0 { start } else { self.first.min(start) };
        self.count += 1;
        self.failed += u64::from(row.life.has_failed());
        self.running += u64::from(row.life.end == LifeEnd::Running);
        self.lasted_ns = self.lasted_ns.saturating_add(row.lasted_ns.unwrap_or_default());
        self.add_cpu(row.life.usage.as_ref().map(|usage| usage.cpu_ns));
        self.name = row.life.comm().map(<[u8]>::to_vec);
        if self.longest.as_deref().is_none_or(is_longer) {
            self.longest = Some(row);
        }
        self.children.merge(node.children, fold);
    }

    fn add_cpu(&mut self, cpu_ns: Option<u64>) {
        if let Some(cpu_ns) = cpu_ns {
            self.cpu_ns = Some(self.cpu_ns.unwrap_or(0).saturating_add(cpu_ns));
        }
    }

    fn merge(&mut self, other: Self, fold: usize) {
        self.first = if self.count == 0 { other.first } else { self.first.min(other.first) };
        self.count += other.count;
        self.failed += other.failed;
        self.running += other.running;
        self.lasted_ns = self.lasted_ns.saturating_add(other.lasted_ns);
        self.add_cpu(other.cpu_ns);
        self.name = other.name;
        let both = [other.longest, self.longest.take()];
        self.longest = both.into_iter().flatten().max_by_key(|row| row.lasted_ns);
        self.children.merge(other.children, fold);
    }
}

impl Branch {
    /// Returns the key that sorts branches by their starts.
    fn order(&self) -> (usize, Option<MonoNs>, u32) {
        match self {
            Self::Node(node) => (node.start().0, node.start().1, node.pid()),
            Self::Folded(folded) => (folded.first.0, folded.first.1, 0),
        }
    }
}

#[cfg(test)]
mod tests;
