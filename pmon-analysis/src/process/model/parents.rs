//! The links between parents and children.

use super::table::{Id, NONE, Process, Slot, Table};

/// Maximum number of ancestors that are visited to find a cycle.
const MAX_ANCESTORS: usize = 1024;

impl Table {
    /// Gives the children of a process to init.
    #[inline]
    pub(super) fn reparent_children(&mut self, slot: Slot) {
        if self.get(slot).first_child != NONE {
            self.give_children_to_init(slot);
        }
    }

    fn give_children_to_init(&mut self, slot: Slot) {
        let is_init = self.get(slot).pid == 1;
        while self.get(slot).first_child != NONE {
            let child = self.get(slot).first_child;
            self.unlink(child);
            self.get_mut(child).changed.parent = true;
            if !is_init {
                self.set_parent(child, 1);
                self.get_mut(child).is_parent_assumed = true;
            }
        }
    }

    /// Sets the parent of a process. Parent 0 means that the parent is unknown, and changes
    /// nothing.
    #[inline]
    pub(super) fn set_parent(&mut self, slot: Slot, ppid: u32) {
        if ppid == 0 || ppid == self.get(slot).pid {
            return;
        }
        if self.ppid(slot) == Some(ppid) {
            self.get_mut(slot).is_parent_assumed = false;
        } else {
            self.change_parent(slot, ppid);
        }
    }

    fn change_parent(&mut self, slot: Slot, ppid: u32) {
        let is_leaf = self.get(slot).first_child == NONE;
        let parent = match self.id(ppid) {
            Some(Id::Process(parent)) => parent,
            // A thread is no parent.
            Some(Id::Thread(_)) => return,
            None => {
                let Some(parent) = self.add(Process { is_known: false, ..Process::new(ppid) }) else {
                    return;
                };
                parent
            }
        };
        // A process never descends from itself, even in a forged capture.
        if !is_leaf && self.descends(parent, slot) {
            return;
        }
        self.unlink_parent(slot);
        self.link(slot, parent);
    }

    /// Sets the parent of a process that has none yet. `parent` is the slot in which `ppid` was
    /// found before the process was added. If that removed the parent, the process has its slot.
    pub(super) fn set_first_parent(&mut self, slot: Slot, parent: Slot, ppid: u32) {
        if parent != slot && self.get(slot).first_child == NONE {
            debug_assert_eq!(self.get(parent).pid, ppid);
            self.link(slot, parent);
        } else {
            self.set_parent(slot, ppid);
        }
    }

    /// Adds a process without parent to the children of another one.
    fn link(&mut self, slot: Slot, parent: Slot) {
        let next = std::mem::replace(&mut self.get_mut(parent).first_child, slot);
        if next != NONE {
            self.get_mut(next).siblings.0 = slot;
        }
        let process = self.get_mut(slot);
        (process.parent, process.siblings) = (parent, (NONE, next));
        process.is_parent_assumed = false;
    }

    /// Returns the parent of a process, known or not.
    pub(super) fn ppid(&self, slot: Slot) -> Option<u32> {
        let parent = self.get(slot).parent;
        (parent != NONE).then(|| self.get(parent).pid)
    }

    fn descends(&self, slot: Slot, from: Slot) -> bool {
        let parent = |&slot: &Slot| Some(self.get(slot).parent).filter(|&parent| parent != NONE);
        let mut ancestry = std::iter::successors(Some(slot), parent);
        ancestry.by_ref().take(MAX_ANCESTORS).any(|ancestor| ancestor == from) || ancestry.next().is_some()
    }

    pub(super) fn unlink_parent(&mut self, slot: Slot) {
        let parent = self.get(slot).parent;
        if parent != NONE {
            self.unlink(slot);
            self.release_unknown(parent);
        }
    }

    /// Removes a process from the children of its parent, whose slot stays.
    fn unlink(&mut self, slot: Slot) {
        let process = self.get_mut(slot);
        let (parent, (before, after)) = (process.parent, process.siblings);
        (process.parent, process.siblings) = (NONE, (NONE, NONE));
        match before {
            NONE => self.get_mut(parent).first_child = after,
            before => self.get_mut(before).siblings.1 = after,
        }
        if after != NONE {
            self.get_mut(after).siblings.0 = before;
        }
    }
}
