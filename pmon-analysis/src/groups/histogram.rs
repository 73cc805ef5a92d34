//! Percentiles in bounded memory.

/// Bits of a value that distinguish buckets, after the first one bit.
const BITS: u32 = 5;

/// Counts values in buckets whose width is 1/32 of their values, so that a percentile is exact to
/// 1.6 %. There are at most 1,920 buckets; only those with values take memory.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Buckets and their numbers of values, in the order of the buckets.
    buckets: Vec<(u16, u32)>,
    count: u64,
    max: Option<u64>,
}

impl Histogram {
    /// Adds a value. Takes a new bucket only if `has_room`; otherwise the nearest one counts the
    /// value. Returns whether a bucket was added.
    pub fn add(&mut self, value: u64, has_room: bool) -> bool {
        self.max = self.max.max(Some(value));
        let bucket = bucket(value);
        let found = self.buckets.binary_search_by_key(&bucket, |&(bucket, _)| bucket);
        let is_new = found.is_err() && has_room;
        let at = match found {
            Ok(at) => at,
            Err(at) if has_room => {
                self.buckets.insert(at, (bucket, 0));
                at
            }
            Err(_) if self.buckets.is_empty() => return false,
            Err(at) => at.min(self.buckets.len() - 1),
        };
        self.buckets[at].1 = self.buckets[at].1.saturating_add(1);
        self.count += 1;
        is_new
    }

    /// Returns the largest value, which is exact.
    pub fn max(&self) -> Option<u64> {
        self.max
    }

    /// Returns a value that `percent` of the values do not exceed; `None` without values.
    pub fn percentile(&self, percent: u32) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(percent)).div_ceil(100).max(1);
        let mut before = 0;
        for &(bucket, count) in &self.buckets {
            before += u128::from(count);
            if before >= rank {
                return Some(middle(bucket).min(self.max?));
            }
        }
        None
    }
}

fn bucket(value: u64) -> u16 {
    let shift = (63 - BITS).saturating_sub(value.leading_zeros());
    ((u64::from(shift) << BITS) + (value >> shift)) as u16
}

/// Returns the middle of the values in a bucket.
fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    // The first two powers have buckets of width 1.
    let shift = (bucket >> BITS).saturating_sub(1);
    let first = bucket - (shift << BITS);
    (first << shift) + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_1_6_percent_of_the_middle_of_its_bucket() {
        let mut last = None;
        let values =
            (0..64).flat_map(|bit| (0..200).map(move |n: u128| ((1 << bit) + (n << bit) / 200) as u64));
        for value in values.chain([u64::MAX, u64::MAX - 1]) {
            let (of, middle) = (bucket(value), middle(bucket(value)));
            assert!(middle.abs_diff(value) as f64 <= value as f64 / 64.0, "{value} {middle}");
            assert!(of < 1920 && last.is_none_or(|last| of >= last || value == u64::MAX - 1), "{value}");
            last = Some(of);
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(50), histogram.max()), (None, None));
        let mut values: Vec<u64> = (0..10_000u64).map(|n| n * n % 7_919 * 1_000 + n).collect();
        values.iter().for_each(|&value| _ = histogram.add(value, true));
        values.sort_unstable();
        for percent in [1, 50, 95, 99, 100] {
            let exact = values[values.len() * percent as usize / 100 - 1];
            let found = histogram.percentile(percent).unwrap();
            assert!(found.abs_diff(exact) as f64 <= exact as f64 / 50.0, "{percent}: {found} {exact}");
        }
        assert_eq!(histogram.max(), values.last().copied());
        let mut one = Histogram::default();
        one.add(1_000_003, true);
        assert!(one.percentile(50).unwrap() <= 1_000_003);
    }

    #[test]
    fn without_room_the_nearest_bucket_counts() {
        let mut histogram = Histogram::default();
        assert!(!histogram.add(5, false));
        assert!(histogram.add(10, true) && !histogram.add(10, true));
        assert!(histogram.add(20, true));
        (0..3).for_each(|_| assert!(!histogram.add(1 << 40, false)));
        assert_eq!((histogram.percentile(100), histogram.max()), (Some(20), Some(1 << 40)));
        assert_eq!([33, 34].map(|percent| histogram.percentile(percent)), [Some(10), Some(20)]);
    }
}
