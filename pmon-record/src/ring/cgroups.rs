//! Paths of cgroups: the program puts each into the ring once, before the first exec in that cgroup (`bpf/record.h`).
//!
//! They are kept by the drain thread and go with each exec, so that a chunk that is dropped takes no path with it.

use std::collections::HashMap;

use super::entry::NOT_TOLD;

/// Bytes of paths in one of the two generations. Hostile processes can make cgroups with paths of 4 KiB without an end.
const MOST_BYTES: usize = 2 << 20;
/// What a path takes besides its bytes, about.
const OVERHEAD: usize = 96;

/// The state of a path that is not known, as it stands in an annex.
const UNKNOWN: [u8; 4] = [0, 0, NOT_TOLD.to_ne_bytes()[0], NOT_TOLD.to_ne_bytes()[1]];

/// Paths by the ids of their cgroups, each as it goes into an annex: length, state and names.
///
/// Where there are too many, the older half is forgotten, and the program has to be told so.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    new: HashMap<u64, Box<[u8]>>,
    old: HashMap<u64, Box<[u8]>>,
    /// Bytes of the new ones.
    bytes: usize,
    has_forgotten: bool,
}

impl Cgroups {
    /// Keeps a path.
    pub(super) fn insert(&mut self, id: u64, head: &[u8], names: &[u8]) {
        if self.bytes >= MOST_BYTES {
            self.old = std::mem::take(&mut self.new);
            (self.bytes, self.has_forgotten) = (0, true);
        }
        let path: Box<[u8]> = [head, names].concat().into();
        self.bytes += path.len() + OVERHEAD;
        if let Some(before) = self.new.insert(id, path) {
            self.bytes -= before.len() + OVERHEAD;
        }
    }

    /// The path of a cgroup.
    pub(super) fn find(&self, id: u64) -> &[u8] {
        self.new.get(&id).or_else(|| self.old.get(&id)).map_or(&UNKNOWN, |path| path)
    }

    /// Whether paths have been forgotten since this was asked last.
    pub(super) fn take_forgotten(&mut self) -> bool {
        std::mem::take(&mut self.has_forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_by_its_id_and_an_unknown_one_says_so() {
        let mut cgroups = Cgroups::default();
        assert_eq!(cgroups.find(1), UNKNOWN);
        cgroups.insert(1, b"head", b"a\0");
        assert_eq!(cgroups.find(1), b"heada\0");
        cgroups.insert(1, b"head", b"b\0");
        assert_eq!(cgroups.find(1), b"headb\0");
    }

    #[test]
    fn memory_is_bounded_and_what_came_last_is_kept() {
        let mut cgroups = Cgroups::default();
        let names = [b'x'; 4000];
        for id in 0..10_000 {
            cgroups.insert(id, b"head", &names);
            assert_eq!(cgroups.find(id).len(), 4004);
            assert_eq!(cgroups.find(id.saturating_sub(400)).len(), 4004);
        }
        assert!(cgroups.take_forgotten() && !cgroups.take_forgotten());
        let bytes: usize = cgroups.new.values().chain(cgroups.old.values()).map(|path| path.len()).sum();
        assert!(bytes <= 2 * MOST_BYTES + 8192, "{bytes}");
        // Told once more and once more, a path takes its room once.
        let mut cgroups = Cgroups::default();
        for _ in 0..10_000 {
            cgroups.insert(1, b"head", &names);
        }
        assert!(!cgroups.take_forgotten());
    }
}
