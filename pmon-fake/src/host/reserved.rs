//! The numbers that the fake kernel's file descriptors have.

use std::ops::Range;

use rustix::process::{Resource, getrlimit};

/// The first number that `select` cannot take.
const SELECTED: u32 = 1024;
/// How many are reserved, where there are enough.
const MANY: u32 = 64;
/// Those for a program that lowers its limit before it opens a socket. Shells read their scripts by 255.
const LOW: Range<u32> = 224..248;

/// See the module: the last ones that `select` can take, and the limit allows, and some lower ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reserved {
    pub(super) high: Range<u32>,
    /// Perhaps none.
    pub(super) low: Range<u32>,
}

impl Reserved {
    /// By this process's limit on file descriptors.
    pub(super) fn by_limit() -> Self {
        Self::below(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn below(limit: u64) -> Self {
        let end = limit.min(SELECTED.into()) as u32;
        let high = end - MANY.min(end / 2)..end;
        let low = if high.start > LOW.end { LOW } else { 0..0 };
        Self { high, low }
    }

    pub(super) fn contains(&self, fd: u32) -> bool {
        self.high.contains(&fd) || self.low.contains(&fd)
    }

    /// The lowest of them.
    pub(super) fn start(&self) -> u32 {
        if self.low.is_empty() { self.high.start } else { self.low.start }
    }

    /// Those from a number on, the best first.
    pub(super) fn from(&self, fd: u32) -> impl Iterator<Item = u32> + use<> {
        self.high.clone().chain(self.low.clone()).filter(move |&number| number >= fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_high_where_that_is_allowed_and_some_are_low() {
        for (limit, high, low) in [
            (u64::MAX, 960..1024, 224..248),
            (1024, 960..1024, 224..248),
            (512, 448..512, 224..248),
            (256, 192..256, 0..0),
            (40, 20..40, 0..0),
        ] {
            assert_eq!(Reserved::below(limit), Reserved { high, low }, "{limit}");
        }
        let reserved = Reserved::below(1024);
        assert_eq!(
            [223, 224, 247, 248, 959, 960, 1023, 1024].map(|fd| reserved.contains(fd)),
            [false, true, true, false, false, true, true, false]
        );
        assert_eq!(reserved.from(1022).collect::<Vec<_>>(), [1022, 1023]);
        assert_eq!(reserved.from(0).nth(64), Some(224));
        assert_eq!((reserved.start(), Reserved::below(40).start()), (224, 20));
    }
}
