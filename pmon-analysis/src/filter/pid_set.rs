//! A set of process IDs with bounded memory, whatever IDs a capture names.

use pmon_core::Tgid;

/// Number of possible process IDs: one more than the largest ID that a Linux kernel assigns
/// (`PID_MAX_LIMIT`).
const IDS: u32 = 1 << 22;

/// A set of process IDs as a bitmap of at most 512 KiB.
#[derive(Clone, Debug, Default)]
pub(crate) struct PidSet {
    bits: Vec<u64>,
}

impl PidSet {
    /// Returns whether the set contains a process ID.
    pub(crate) fn contains(&self, pid: Tgid) -> bool {
        let word = self.bits.get(pid.0 as usize / 64);
        word.is_some_and(|word| word >> (pid.0 % 64) & 1 != 0)
    }

    /// Adds a process ID. Returns `false` if the set already contains the ID, or if no kernel
    /// assigns such an ID.
    pub(crate) fn insert(&mut self, pid: Tgid) -> bool {
        if pid.0 >= IDS {
            return false;
        }
        let at = pid.0 as usize / 64;
        if at >= self.bits.len() {
            self.bits.resize(at + 1, 0);
        }
        let bit = 1 << (pid.0 % 64);
        let is_new = self.bits[at] & bit == 0;
        self.bits[at] |= bit;
        is_new
    }

    /// Removes a process ID.
    pub(crate) fn remove(&mut self, pid: Tgid) {
        if let Some(word) = self.bits.get_mut(pid.0 as usize / 64) {
            *word &= !(1 << (pid.0 % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_added_once_and_removed() {
        let mut set = PidSet::default();
        assert!(set.insert(Tgid(7)) && set.insert(Tgid(IDS - 1)));
        assert!(!set.insert(Tgid(7)));
        assert!(set.contains(Tgid(7)) && !set.contains(Tgid(8)));
        set.remove(Tgid(7));
        set.remove(Tgid(u32::MAX));
        assert!(!set.contains(Tgid(7)) && set.contains(Tgid(IDS - 1)));
    }

    #[test]
    fn impossible_ids_take_no_memory() {
        let mut set = PidSet::default();
        assert!(!set.insert(Tgid(IDS)) && !set.insert(Tgid(u32::MAX)));
        assert_eq!(set.bits.capacity(), 0);
    }
}
