//! Which ids the program's processes have: not those of processes of the fake kernel, if that can be helped.

use std::fs;

/// `kernel.pid_max` at most, on any system.
const MOST: u32 = 4 << 20;
/// Places that are tried, evenly spread over the ids.
const PLACES: u32 = 64;
/// How many ids the program may need.
const NEEDED: u32 = 200;

/// `kernel.pid_max`, as the program sees it: this system's, unless a process has an id that it does not allow. Programs make tables of that
/// size, and columns of that width.
pub(crate) fn pid_max(taken: &[u32]) -> u32 {
    let own = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|own| own.trim().parse().ok());
    own.filter(|&own| taken.iter().all(|&id| id < own)).unwrap_or(MOST)
}

/// Behind which ids the program's processes may have theirs, the best first: that is the one to which the processes that are there come last, as
/// ids are given out in their order.
pub(crate) fn places(taken: &[u32], pid_max: u32) -> Vec<u32> {
    let mut places: Vec<u32> = (1..PLACES).map(|place| pid_max / PLACES * place).collect();
    places.sort_by_key(|&place| {
        let is_near = taken.iter().any(|id| (place..place.saturating_add(NEEDED)).contains(id));
        let behind = taken.iter().filter(|&&id| id < place).max().map_or(place, |id| place - id);
        std::cmp::Reverse((!is_near, behind, place))
    });
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_place_is_the_one_to_which_they_come_last() {
        for (taken, pid_max, best) in [
            (&[][..], MOST, 4_128_768),
            (&[1, 2, 900], MOST, 4_128_768),
            (&[4_128_000], MOST, 4_063_232),
            (&[1, 300, 9_000], 32_768, 32_256),
            (&[1, 300, 9_000, 32_300], 32_768, 31_744),
            (&[1, 300, 25_000], 32_768, 24_576),
        ] {
            assert_eq!(places(taken, pid_max)[0], best, "{taken:?}");
        }
    }

    #[test]
    fn no_place_is_left_out() {
        let mut all = places(&[4_190_000, 31_000], MOST);
        assert_eq!(all.len(), PLACES as usize - 1);
        all.dedup();
        assert_eq!(all.len(), PLACES as usize - 1);
    }

    #[test]
    fn no_process_has_an_id_that_is_not_allowed() {
        assert_eq!(pid_max(&[1, MOST - 1]), MOST);
        assert!(pid_max(&[1]) >= 300);
    }
}
