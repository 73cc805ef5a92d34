//! Differences of numbers as small unsigned codes.

/// Maps differences of either sign to small numbers: 0, -1, 1, -2, 2 to 0, 1, 2, 3, 4.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Reverses [`zigzag`].
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Returns the code of the wrapping difference `to - from`.
pub(super) fn delta32(to: u32, from: u32) -> u64 {
    zigzag(i64::from(to.wrapping_sub(from) as i32))
}

/// Reverses [`delta32`].
pub(super) fn undelta32(value: u64, from: u32) -> u32 {
    from.wrapping_add(unzigzag(value) as u32)
}

/// Returns the code of the wrapping difference `to - from`.
pub(super) fn delta64(to: u64, from: u64) -> u64 {
    zigzag(to.wrapping_sub(from) as i64)
}

/// Reverses [`delta64`].
pub(super) fn undelta64(value: u64, from: u64) -> u64 {
    from.wrapping_add(unzigzag(value) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn differences_are_reversible(from: u64, to: u64) {
            prop_assert_eq!(undelta64(delta64(to, from), from), to);
            let (from, to) = (from as u32, to as u32);
            prop_assert_eq!(undelta32(delta32(to, from), from), to);
        }
    }
}
