//! The file descriptor numbers reserved for the fake kernel's sockets.
//!
//! The seccomp filter recognizes these sockets by their numbers, so that calls on other files are
//! not intercepted.

use std::ops::Range;

use rustix::process::{Resource, getrlimit};

/// The first number that `select` does not support.
const FD_SETSIZE: u32 = 1024;
/// Size of the preferred range, if the limit on open files allows it.
const PREFERRED_LEN: u32 = 64;
/// Range for a program that lowers its limit to 256. Shells read their scripts from descriptor 255.
const BELOW_256: Range<u32> = 224..248;
/// Range for a program that lowers its limit to 64.
const BELOW_64: Range<u32> = 56..64;
/// Range for a program that raises its limit and has that many files open.
const BELOW_4096: Range<u32> = 4032..4096;

/// The reserved numbers: the highest that both `select` and the limit allow, and some other ranges.
/// No two ranges are adjacent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReservedFds {
    /// In order of preference.
    pub(crate) ranges: Vec<Range<u32>>,
}

impl ReservedFds {
    /// Chooses the numbers by this process's limits on open files.
    pub(crate) fn by_limit() -> Self {
        let limit = getrlimit(Resource::Nofile);
        Self::by_limits(limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
    }

    /// Chooses the numbers by a soft and a hard limit.
    fn by_limits(soft: u64, hard: u64) -> Self {
        let end = soft.min(FD_SETSIZE.into()) as u32;
        let high = end - PREFERRED_LEN.min(end / 2)..end;
        let lower = [BELOW_256, BELOW_64].into_iter().filter(|range| high.start > range.end);
        let higher = (hard >= BELOW_4096.end.into()).then_some(BELOW_4096);
        Self { ranges: [high.clone()].into_iter().chain(lower).chain(higher).collect() }
    }

    /// Returns the preferred range.
    pub(crate) fn preferred(&self) -> Range<u32> {
        self.ranges[0].clone()
    }

    pub(crate) fn contains(&self, fd: u32) -> bool {
        self.ranges.iter().any(|range| range.contains(&fd))
    }

    /// Returns the lowest number.
    pub(crate) fn lowest(&self) -> u32 {
        self.ranges.iter().map(|range| range.start).min().unwrap_or(0)
    }

    /// Returns the numbers that are at least `fd`, in order of preference.
    pub(crate) fn at_least(&self, fd: u32) -> impl Iterator<Item = u32> + use<> {
        self.ranges.clone().into_iter().flatten().filter(move |&number| number >= fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_determine_the_ranges() {
        let ranges = |limit| ReservedFds::by_limits(limit, limit).ranges;
        assert_eq!(ranges(u64::MAX), [960..1024, 224..248, 56..64, 4032..4096]);
        assert_eq!(ranges(1024), [960..1024, 224..248, 56..64]);
        assert_eq!(ranges(512), [448..512, 224..248, 56..64]);
        assert_eq!(ranges(256), [192..256, 56..64]);
        assert_eq!((ReservedFds::by_limits(40, 40).preferred(), ranges(40).len()), (20..40, 1));
        assert_eq!(ReservedFds::by_limits(40, 4096).ranges, [20..40, 4032..4096]);

        let reserved = ReservedFds::by_limits(1024, 1024);
        assert_eq!(
            [55, 56, 63, 64, 223, 224, 247, 248, 959, 960, 1023, 1024].map(|fd| reserved.contains(fd)),
            [false, true, true, false, false, true, true, false, false, true, true, false]
        );
        assert_eq!(reserved.at_least(1022).collect::<Vec<_>>(), [1022, 1023]);
        assert_eq!(reserved.at_least(0).nth(64), Some(224));
        assert_eq!((reserved.lowest(), ReservedFds::by_limits(40, 40).lowest()), (56, 20));
    }
}
