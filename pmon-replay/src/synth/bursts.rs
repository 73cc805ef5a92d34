//! Which events are lost: bursts, spread over all.

use oorandom::Rand64;

/// A burst has about so many events.
const BURST: u64 = 200;
/// A million: what shares are counted in.
pub(super) const MILLION: u32 = 1_000_000;

/// Says of one event after the other whether it is lost; of all, exactly the share that was asked for.
#[derive(Debug)]
pub(super) struct Bursts {
    random: Rand64,
    events: u64,
    lost: u64,
    /// How many bursts there are; each is somewhere in a stretch of its own.
    bursts: u64,
    /// The stretch of the burst at hand,
    at: u64,
    /// what is lost up to its end,
    sum: u64,
    /// and the burst.
    from: u64,
    until: u64,
    /// How many events there were.
    seen: u64,
}

impl Bursts {
    /// Of `events`, so many of a million.
    pub(super) fn new(events: u64, ppm: u32, seed: u64) -> Self {
        let lost = (u128::from(events) * u128::from(ppm) / u128::from(MILLION)) as u64;
        let random = Rand64::new(u128::from(seed));
        let mut this = Self {
            random,
            events,
            lost,
            bursts: lost.div_ceil(BURST),
            at: 0,
            sum: 0,
            from: u64::MAX,
            until: u64::MAX,
            seen: 0,
        };
        this.place();
        this
    }

    /// Whether the next event is lost.
    #[inline]
    pub(super) fn takes(&mut self) -> bool {
        while self.seen >= self.until {
            self.at += 1;
            self.place();
        }
        self.seen += 1;
        self.seen > self.from
    }

    /// A place in its stretch for the burst at hand.
    fn place(&mut self) {
        if self.at >= self.bursts {
            (self.from, self.until) = (u64::MAX, u64::MAX);
            return;
        }
        let end = self.at + 1;
        let (first, behind) = (self.part(self.events, self.at), self.part(self.events, end));
        // Where one burst is longer, the next is shorter. A stretch takes a burst of any length that this gives, as half of all
        // events are lost at the most.
        let (even, spread) = (self.part(self.lost, end), self.lost / self.bursts / 2);
        let sum = if end == self.bursts { self.lost } else { even - self.random.rand_range(0..spread + 1) };
        let len = (sum - self.sum).min(behind - first);
        self.sum += len;
        self.from = first + self.random.rand_range(0..behind - first - len + 1);
        self.until = self.from + len;
    }

    /// The end of the first `n` of as many equal parts of `whole` as there are bursts.
    fn part(&self, whole: u64, n: u64) -> u64 {
        (u128::from(whole) * u128::from(n) / u128::from(self.bursts)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_lost_in_bursts_and_no_event_more() {
        for (events, ppm) in
            [(0, 500_000), (1, 500_000), (3, 400_000), (1000, 0), (1_000, 1_000), (77_777, 12_345)]
                .into_iter()
                .chain((0..40).map(|n| (1 + n * 977, 500_000 - 9_999 * n as u32)))
        {
            for seed in 0..5 {
                let mut bursts = Bursts::new(events, ppm, seed);
                let lost: Vec<_> = (0..events).map(|_| bursts.takes()).collect();
                let count = lost.iter().filter(|&&lost| lost).count() as u64;
                assert_eq!(
                    count,
                    events * u64::from(ppm) / 1_000_000,
                    "{events} events, {ppm} ppm, seed {seed}"
                );
                let begins = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as u64;
                assert!(begins <= count.div_ceil(BURST));
            }
        }
    }

    #[test]
    fn bursts_are_spread_and_differ() {
        let mut bursts = Bursts::new(100_000, 100_000, 3);
        let lost: Vec<_> = (0..100_000).map(|_| bursts.takes()).collect();
        let lengths: std::collections::BTreeSet<_> =
            lost.split(|&lost| !lost).map(<[bool]>::len).filter(|&len| len > 0).collect();
        assert!(lengths.len() > 20, "{lengths:?}");
        for tenth in lost.chunks(10_000) {
            let count = tenth.iter().filter(|&&lost| lost).count();
            assert!((500..1500).contains(&count), "{count}");
        }
    }
}
