//! The numbers that the fake kernel's file descriptors have.

use std::ops::Range;

use rustix::process::{Resource, getrlimit};

/// The first number that `select` cannot take.
const SELECTED: u32 = 1024;
/// How many are reserved, where there are enough.
const MANY: u32 = 64;
/// Those for a program that lowers its limit before it opens a socket, once and again. Shells read their scripts by 255.
const LOW: Range<u32> = 224..248;
const LOWEST: Range<u32> = 56..64;
/// Those for a program that raises it, and has as many files.
const BEYOND: Range<u32> = 4032..4096;

/// See the module: the last ones that `select` can take, and the limit allows, and some others. No two ranges touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// The best first.
    pub(crate) ranges: Vec<Range<u32>>,
}

impl Reserved {
    /// By this process's limits on file descriptors.
    pub(crate) fn by_limit() -> Self {
        let limit = getrlimit(Resource::Nofile);
        Self::below(limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
    }

    /// Below a limit, which a program may raise to another one.
    fn below(limit: u64, most: u64) -> Self {
        let end = limit.min(SELECTED.into()) as u32;
        let high = end - MANY.min(end / 2)..end;
        let lower = [LOW, LOWEST].into_iter().filter(|range| high.start > range.end);
        let higher = (most >= BEYOND.end.into()).then_some(BEYOND);
        Self { ranges: [high.clone()].into_iter().chain(lower).chain(higher).collect() }
    }

    /// The best of them.
    pub(crate) fn best(&self) -> Range<u32> {
        self.ranges[0].clone()
    }

    pub(crate) fn contains(&self, fd: u32) -> bool {
        self.ranges.iter().any(|range| range.contains(&fd))
    }

    /// The lowest of them.
    pub(crate) fn start(&self) -> u32 {
        self.ranges.iter().map(|range| range.start).min().unwrap_or(0)
    }

    /// Those from a number on, the best first.
    pub(crate) fn from(&self, fd: u32) -> impl Iterator<Item = u32> + use<> {
        self.ranges.clone().into_iter().flatten().filter(move |&number| number >= fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_high_where_that_is_allowed_and_some_are_low() {
        let found = |limit| Reserved::below(limit, limit).ranges;
        assert_eq!(found(u64::MAX), [960..1024, 224..248, 56..64, 4032..4096]);
        assert_eq!(found(1024), [960..1024, 224..248, 56..64]);
        assert_eq!(found(512), [448..512, 224..248, 56..64]);
        assert_eq!(found(256), [192..256, 56..64]);
        assert_eq!((Reserved::below(40, 40).best(), found(40).len()), (20..40, 1));
        assert_eq!(Reserved::below(40, 4096).ranges, [20..40, 4032..4096]);

        let reserved = Reserved::below(1024, 1024);
        assert_eq!(
            [55, 56, 63, 64, 223, 224, 247, 248, 959, 960, 1023, 1024].map(|fd| reserved.contains(fd)),
            [false, true, true, false, false, true, true, false, false, true, true, false]
        );
        assert_eq!(reserved.from(1022).collect::<Vec<_>>(), [1022, 1023]);
        assert_eq!(reserved.from(0).nth(64), Some(224));
        assert_eq!((reserved.start(), Reserved::below(40, 40).start()), (56, 20));
    }
}
