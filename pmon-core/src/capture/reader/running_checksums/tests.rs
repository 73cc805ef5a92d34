use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_parts_in_order_have_the_checksum_of_their_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        mut parts in prop::collection::vec((0..5000_usize, 0..5000_usize), 1..20),
    ) {
        parts.sort_unstable();
        let mut sums = RunningChecksums::default();
        for (at, len) in parts {
            let at = at.min(bytes.len());
            let part = &bytes[at..(at + len).min(bytes.len())];
            prop_assert_eq!(sums.crc(at as u64, part), crc32c::crc32c(part));
        }
    }
}

#[test]
fn sixteen_mebibytes_can_be_shifted_by() {
    let bytes = vec![0x5A; 16 << 20];
    let mut sums = RunningChecksums::default();
    for at in [0, 1, 4096] {
        assert_eq!(sums.crc(at as u64, &bytes[at..]), crc32c::crc32c(&bytes[at..]));
    }
}

#[test]
fn overlapping_parts_are_summed_once() {
    let bytes = vec![7; 1 << 20];
    let mut sums = RunningChecksums::default();
    for at in (0..bytes.len()).step_by(64) {
        sums.crc(at as u64, &bytes[at..]);
    }
    let parts = bytes.len() as u64 / 64;
    assert!(sums.summed() <= bytes.len() as u64 + parts * 2 * STEP as u64, "{}", sums.summed());
}
