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
