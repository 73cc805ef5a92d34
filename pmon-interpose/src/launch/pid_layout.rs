//! Chooses the ids of the tracee's processes, as far as possible from those of recorded processes.

use std::fs;

/// Maximum of `kernel.pid_max` (`PID_MAX_LIMIT`).
const PID_MAX_LIMIT: u32 = 4 << 20;
/// Number of candidates, evenly distributed over all ids.
const CANDIDATES: u32 = 64;
/// Number of ids that the tracee may need.
const TRACEE_IDS: u32 = 200;

/// Returns the `kernel.pid_max` that the tracee sees: that of this system, or the maximum if a
/// recorded process has a higher id. Programs size tables and columns by it.
pub(crate) fn pid_max(taken: &[u32]) -> u32 {
    let own = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|own| own.trim().parse().ok());
    own.filter(|&own| taken.iter().all(|&id| id < own)).unwrap_or(PID_MAX_LIMIT)
}

/// Returns candidates for the last id before the tracee's ids, in order of preference.
///
/// The kernel assigns ids in ascending order. The best candidate is the one farthest above the ids
/// in `taken`: new recorded processes reach the tracee's ids last.
pub(crate) fn last_pid_candidates(taken: &[u32], pid_max: u32) -> Vec<u32> {
    let mut candidates: Vec<u32> = (1..CANDIDATES).map(|nth| pid_max / CANDIDATES * nth).collect();
    candidates.sort_by_key(|&candidate| {
        let own = candidate..candidate.saturating_add(TRACEE_IDS);
        let is_taken = taken.iter().any(|id| own.contains(id));
        let below = taken.iter().filter(|&&id| id < candidate).max();
        let distance = below.map_or(candidate, |id| candidate - id);
        std::cmp::Reverse((!is_taken, distance, candidate))
    });
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_candidate_is_farthest_above_the_taken_ids() {
        for (taken, pid_max, best) in [
            (&[][..], PID_MAX_LIMIT, 4_128_768),
            (&[1, 2, 900], PID_MAX_LIMIT, 4_128_768),
            (&[4_128_000], PID_MAX_LIMIT, 4_063_232),
            (&[1, 300, 9_000], 32_768, 32_256),
            (&[1, 300, 9_000, 32_300], 32_768, 31_744),
            (&[1, 300, 25_000], 32_768, 24_576),
        ] {
            assert_eq!(last_pid_candidates(taken, pid_max)[0], best, "{taken:?}");
        }
    }

    #[test]
    fn all_candidates_are_returned_once() {
        let mut all = last_pid_candidates(&[4_190_000, 31_000], PID_MAX_LIMIT);
        assert_eq!(all.len(), CANDIDATES as usize - 1);
        all.dedup();
        assert_eq!(all.len(), CANDIDATES as usize - 1);
    }

    #[test]
    fn pid_max_exceeds_all_recorded_ids() {
        assert_eq!(pid_max(&[1, PID_MAX_LIMIT - 1]), PID_MAX_LIMIT);
        assert!(pid_max(&[1]) >= 300);
    }
}
