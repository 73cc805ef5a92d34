//! A directory: the names now, and those that can be on the disk after a power loss.

use std::collections::BTreeMap;

use oorandom::Rand32;

/// Number of a file.
pub(super) type Inode = u64;

/// A change of a directory that the disk may not have yet.
#[derive(Clone, Debug)]
enum NameChange {
    Create(String, Inode),
    Rename(String, String),
    Remove(String),
}

/// The names in a directory. The disk gets changes in their order, as a journal of metadata does.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedDirectory {
    /// The names now.
    pub(super) names: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
    unsynced: Vec<NameChange>,
    /// Number of changes before these.
    synced: u64,
}

impl SimulatedDirectory {
    pub(super) fn create(&mut self, name: &str, inode: Inode) {
        self.change(NameChange::Create(name.into(), inode));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        self.change(NameChange::Rename(from.into(), to.into()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(NameChange::Remove(name.into()));
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.unsynced.push(change);
    }

    /// Returns the number of changes so far: those that a sync which begins now makes durable.
    pub(super) fn changes(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    /// Ends a sync that began after this number of changes.
    pub(super) fn end_sync(&mut self, changes: u64) {
        let number = changes.saturating_sub(self.synced).min(self.unsynced.len() as u64);
        self.synced += number;
        for change in self.unsynced.drain(..number as usize) {
            apply(&mut self.durable, &change);
        }
    }

    /// Whether a name, or what is on the disk, refers to the file.
    pub(super) fn refers_to(&self, inode: Inode) -> bool {
        let created =
            self.unsynced.iter().any(|change| matches!(change, NameChange::Create(_, i) if *i == inode));
        created || self.names.values().chain(self.durable.values()).any(|&other| other == inode)
    }

    /// Returns the directory after a power loss: the disk has the first few of the last changes.
    pub(super) fn after_power_loss(&self, random: &mut Rand32) -> Self {
        let mut names = self.durable.clone();
        let survivors = random.rand_range(0..self.unsynced.len() as u32 + 1) as usize;
        for change in &self.unsynced[..survivors] {
            apply(&mut names, change);
        }
        Self { durable: names.clone(), names, ..Self::default() }
    }
}

fn apply(names: &mut BTreeMap<String, Inode>, change: &NameChange) {
    match change {
        NameChange::Create(name, inode) => drop(names.insert(name.clone(), *inode)),
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameChange::Remove(name) => drop(names.remove(name)),
    }
}
