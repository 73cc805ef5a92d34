//! Selects the events that are lost: bursts, spread over the capture.

use oorandom::Rand64;

/// Mean number of events in a burst.
const BURST_EVENTS: u64 = 200;
/// One million: the denominator of shares.
pub(super) const MILLION: u32 = 1_000_000;

/// Decides for each event whether it is lost. The number of lost events is exactly the requested
/// share.
#[derive(Debug)]
pub(super) struct Bursts {
    random: Rand64,
    events: u64,
    lost: u64,
    /// Number of bursts. The events are divided into as many sections, and each section has one
    /// burst.
    bursts: u64,
    /// Index of the current section.
    section: u64,
    /// Number of lost events up to the end of the current section.
    sum: u64,
    /// First event of the current burst.
    from: u64,
    /// End of the current burst.
    until: u64,
    /// Number of events so far.
    seen: u64,
}

impl Bursts {
    /// Creates bursts that lose `ppm` of a million of the `events`.
    pub(super) fn new(events: u64, ppm: u32, seed: u64) -> Self {
        let lost = (u128::from(events) * u128::from(ppm) / u128::from(MILLION)) as u64;
        let random = Rand64::new(u128::from(seed));
        let mut this = Self {
            random,
            events,
            lost,
            bursts: lost.div_ceil(BURST_EVENTS),
            section: 0,
            sum: 0,
            from: u64::MAX,
            until: u64::MAX,
            seen: 0,
        };
        this.place_burst();
        this
    }

    /// Returns whether the next event is lost.
    #[inline]
    pub(super) fn is_next_lost(&mut self) -> bool {
        while self.seen >= self.until {
            self.section += 1;
            self.place_burst();
        }
        self.seen += 1;
        self.seen > self.from
    }

    /// Chooses the position and length of the burst in the current section.
    fn place_burst(&mut self) {
        if self.section >= self.bursts {
            (self.from, self.until) = (u64::MAX, u64::MAX);
            return;
        }
        let end = self.section + 1;
        let (first, next) = (self.part(self.events, self.section), self.part(self.events, end));
        // After a longer burst, the next one is shorter. Every burst fits into its section, because
        // at most half of the events are lost.
        let (even, spread) = (self.part(self.lost, end), self.lost / self.bursts / 2);
        let sum = if end == self.bursts { self.lost } else { even - self.random.rand_range(0..spread + 1) };
        let len = (sum - self.sum).min(next - first);
        self.sum += len;
        self.from = first + self.random.rand_range(0..next - first - len + 1);
        self.until = self.from + len;
    }

    /// Returns the end of part `n`, if `whole` is divided into as many equal parts as there are
    /// bursts.
    fn part(&self, whole: u64, n: u64) -> u64 {
        (u128::from(whole) * u128::from(n) / u128::from(self.bursts)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_requested_share_is_lost_in_bursts() {
        for (events, ppm) in
            [(0, 500_000), (1, 500_000), (3, 400_000), (1000, 0), (1_000, 1_000), (77_777, 12_345)]
                .into_iter()
                .chain((0..40).map(|n| (1 + n * 977, 500_000 - 9_999 * n as u32)))
        {
            for seed in 0..5 {
                let mut bursts = Bursts::new(events, ppm, seed);
                let lost: Vec<_> = (0..events).map(|_| bursts.is_next_lost()).collect();
                let count = lost.iter().filter(|&&lost| lost).count() as u64;
                assert_eq!(
                    count,
                    events * u64::from(ppm) / 1_000_000,
                    "{events} events, {ppm} ppm, seed {seed}"
                );
                let begins = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as u64;
                assert!(begins <= count.div_ceil(BURST_EVENTS));
            }
        }
    }

    #[test]
    fn bursts_are_spread_and_have_different_lengths() {
        let mut bursts = Bursts::new(100_000, 100_000, 3);
        let lost: Vec<_> = (0..100_000).map(|_| bursts.is_next_lost()).collect();
        let lengths: std::collections::BTreeSet<_> =
            lost.split(|&lost| !lost).map(<[bool]>::len).filter(|&len| len > 0).collect();
        assert!(lengths.len() > 20, "{lengths:?}");
        for tenth in lost.chunks(10_000) {
            let count = tenth.iter().filter(|&&lost| lost).count();
            assert!((500..1500).contains(&count), "{count}");
        }
    }
}
