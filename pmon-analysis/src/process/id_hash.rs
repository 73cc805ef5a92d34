//! The hash of process ids and times.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes process ids and times with a secret multiplier, so that a forged capture cannot choose
/// those that collide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdHash {
    factor: u64,
}

impl IdHash {
    /// Draws a multiplier.
    pub(crate) fn new() -> Self {
        Self { factor: RandomState::new().hash_one(0) | 1 }
    }
}

impl Default for IdHash {
    fn default() -> Self {
        Self::new()
    }
}

impl BuildHasher for IdHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { factor: self.factor, hash: 0 }
    }
}

/// The state of [`IdHash`].
#[derive(Debug)]
pub(crate) struct IdHasher {
    factor: u64,
    hash: u64,
}

impl Hasher for IdHasher {
    #[inline]
    fn write_u32(&mut self, id: u32) {
        self.write_u64(id.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        // The upper half of the product depends on all bits of the number.
        let number = number ^ self.hash ^ self.factor.rotate_left(32);
        let product = u128::from(self.factor) * u128::from(number);
        self.hash = (product >> 64) as u64 ^ product as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::Hash;

    use super::*;

    /// Checks that hashes differ in their low 12 bits, which choose the slot in a table, about as
    /// often as those of a random function: 4096 of these have 2589 different values.
    fn check<T: Hash>(keys: impl Fn(u32) -> T) {
        for factor in [0x9e37_79b9_7f4a_7c15, 12439104173989934703, 4268214325549398899] {
            let hash = IdHash { factor };
            let slots: HashSet<_> = (0..4096).map(|n| hash.hash_one(keys(n)) & 4095).collect();
            assert!(slots.len() > 2200, "{} of 4096", slots.len());
        }
    }

    #[test]
    fn ids_and_times_are_spread_over_a_table() {
        check(|n| n);
        check(|n| u64::from(n) << 52);
        check(|n| u64::from(n) * 1_000_000_000);
        check(|n| (n >> 6, n & 63));
        check(|n| (7, n));
        check(|n| [(n >> 8) as u8, n as u8]);
        assert_ne!(IdHash::new().factor, IdHash::default().factor);
    }
}
