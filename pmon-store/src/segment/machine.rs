//! The machine whose segments a store counts and removes.

use std::collections::HashSet;
use std::fs;

use pmon_core::capture::Meta;

use super::list::{SegmentFile, StoreListing};
use super::name::{is_recorder_file, is_store_file, restricted};
use super::summary::shortened;
use crate::disk::FileEntry;

/// The machine whose segments a store counts and removes. Those of other machines are foreign
/// files.
#[derive(Clone, Debug)]
pub struct StoreMachine {
    /// Host as it stands in names.
    host: String,
    machine_id: String,
}

impl StoreMachine {
    /// Returns this machine.
    pub fn local() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let machine_id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        Self::new(&host, machine_id.trim())
    }

    /// Returns the machine of a recorder.
    pub(crate) fn of(meta: &Meta) -> Self {
        Self::new(&meta.host, &meta.machine_id)
    }

    fn new(host: &str, machine_id: &str) -> Self {
        Self { host: restricted(host), machine_id: shortened(machine_id) }
    }

    /// Whether this machine recorded a segment. The host's name can change.
    pub(super) fn recorded(&self, segment: &SegmentFile) -> bool {
        let id = &segment.summary.machine_id;
        segment.name.host() == self.host || !id.is_empty() && *id == self.machine_id
    }

    /// Whether a file that is no readable segment belongs to this machine's store.
    pub(crate) fn owns(&self, name: &str) -> bool {
        let is_ours = || name.strip_prefix(&*self.host).is_some_and(|rest| rest.starts_with('-'));
        is_store_file(name) && (is_recorder_file(name) || is_ours())
    }
}

impl StoreListing {
    /// Returns the bytes of the files of `machine` that are never removed.
    pub(crate) fn fixed_bytes(&self, machine: &StoreMachine) -> u64 {
        let files = self.unreadable.iter().chain(&self.others);
        files.filter(|entry| machine.owns(&entry.name)).map(FileEntry::usage).sum()
    }

    /// Splits a listing into the files of `machine`, and the names of foreign ones.
    pub(crate) fn of_machine(self, machine: &StoreMachine) -> (Self, HashSet<String>) {
        let mut foreign = HashSet::new();
        let mut ours = Self::default();
        for segment in self.segments {
            match machine.recorded(&segment) {
                true => ours.segments.push(segment),
                false => drop(foreign.insert(segment.entry.name)),
            }
        }
        for file in self.damaged {
            match machine.owns(&file.entry.name) {
                true => ours.damaged.push(file),
                false => drop(foreign.insert(file.entry.name)),
            }
        }
        for (from, to) in [(self.unreadable, &mut ours.unreadable), (self.others, &mut ours.others)] {
            for entry in from {
                match machine.owns(&entry.name) {
                    true => to.push(entry),
                    false => drop(foreign.insert(entry.name)),
                }
            }
        }
        (ours, foreign)
    }
}
