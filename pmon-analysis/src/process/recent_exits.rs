//! The processes whose first thread exited last.

use std::collections::VecDeque;

use pmon_core::Tgid;
use pmon_core::capture::Details;

/// Number of exits that are kept.
const CAPACITY: usize = 1 << 12;

/// The processes whose first thread exited last, to recognise details of a scan that arrive after
/// the end of their process: the scan read them before it.
#[derive(Clone, Debug, Default)]
pub(super) struct RecentExits {
    /// The oldest first.
    exits: VecDeque<RecentExit>,
}

#[derive(Clone, Copy, Debug)]
struct RecentExit {
    pid: Tgid,
    /// Time of the exit, in ns since boot.
    boot_ns: u64,
    /// Whether the exit ended the process. Otherwise the process may have had other threads.
    has_ended: bool,
}

impl RecentExits {
    /// Adds an exit at a time in ns since boot. `has_ended` states whether it is known to have
    /// ended the process.
    pub(super) fn add(&mut self, pid: Tgid, boot_ns: u64, has_ended: bool) {
        if self.exits.len() == CAPACITY {
            self.exits.pop_front();
        }
        self.exits.push_back(RecentExit { pid, boot_ns, has_ended });
    }

    /// Returns whether the process that a scan has found has ended since. `details` are those of
    /// the scan.
    pub(super) fn contains(&self, pid: Tgid, details: &Details, ticks_per_second: u64) -> bool {
        let Some(exit) = self.exits.iter().rev().find(|exit| exit.pid == pid) else { return false };
        let start_ns = |ticks| (u128::from(ticks) * 1_000_000_000).checked_div(ticks_per_second.into());
        let is_same =
            details.start_ticks.and_then(start_ns).is_some_and(|start| start <= exit.boot_ns.into());
        is_same && (exit.has_ended || details.threads == Some(1))
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::capture::{DetailsSubject, MissReason};

    use super::*;

    fn found(start_ticks: u64, threads: u32) -> Details {
        let subject = DetailsSubject::Snapshot { tgid: Tgid(5) };
        Details {
            start_ticks: Some(start_ticks),
            threads: Some(threads),
            ..Details::missed(subject, MissReason::Gone)
        }
    }

    #[test]
    fn a_process_with_the_same_id_that_started_later_has_not_ended() {
        let mut exits = RecentExits::default();
        exits.add(Tgid(5), 1_000_000_000, true);
        exits.add(Tgid(6), 1_010_000_000, true);
        assert!(exits.contains(Tgid(5), &found(100, 3), 100));
        assert!(!exits.contains(Tgid(5), &found(101, 3), 100));
        assert!(!exits.contains(Tgid(7), &found(1, 1), 100));
        (0..CAPACITY as u32).for_each(|n| exits.add(Tgid(1000 + n), 2_000_000_000, true));
        assert!(!exits.contains(Tgid(5), &found(100, 1), 100));
    }

    #[test]
    fn a_process_with_other_threads_may_outlive_its_first_one() {
        let mut exits = RecentExits::default();
        exits.add(Tgid(5), 1_000_000_000, false);
        assert!(exits.contains(Tgid(5), &found(100, 1), 100));
        assert!(!exits.contains(Tgid(5), &found(100, 2), 100));
    }
}
