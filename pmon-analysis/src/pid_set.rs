//! A set of process ids whose memory is bounded, whatever ids a capture names.

use pmon_core::Tgid;

/// One more than the largest process id that a Linux kernel gives out (`PID_MAX_LIMIT`).
const IDS: u32 = 1 << 22;

/// A set of process ids, one bit each: at most 512 KiB.
#[derive(Clone, Debug, Default)]
pub(crate) struct PidSet {
    bits: Vec<u64>,
}

impl PidSet {
    /// Whether a process id is in the set.
    pub(crate) fn contains(&self, pid: Tgid) -> bool {
        let word = self.bits.get(pid.0 as usize / 64);
        word.is_some_and(|word| word >> (pid.0 % 64) & 1 != 0)
    }

    /// Adds a process id; `false` if the set has it already, or if no kernel gives out such an id.
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

    /// Removes a process id.
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
    fn ids_enter_once_and_leave() {
        let mut set = PidSet::default();
        assert!(set.insert(Tgid(7)) && set.insert(Tgid(IDS - 1)));
        assert!(!set.insert(Tgid(7)));
        assert!(set.contains(Tgid(7)) && !set.contains(Tgid(8)));
        set.remove(Tgid(7));
        set.remove(Tgid(u32::MAX));
        assert!(!set.contains(Tgid(7)) && set.contains(Tgid(IDS - 1)));
    }

    #[test]
    fn ids_that_no_kernel_gives_out_take_no_memory() {
        let mut set = PidSet::default();
        assert!(!set.insert(Tgid(IDS)) && !set.insert(Tgid(u32::MAX)));
        assert_eq!(set.bits.capacity(), 0);
    }
}
