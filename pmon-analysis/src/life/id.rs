//! The identity of a process.

use std::fmt;

use pmon_core::MonoNs;
use pmon_core::capture::Meta;

/// A number that identifies a process among those of all machines and boots: a positive 64-bit
/// integer that is the same in every output, segment and export.
///
/// It is a hash of the machine, the boot, the process ID, and the start of the process. The start
/// is the time of the fork event if the recording has it, and otherwise the start time that the
/// kernel reports in clock ticks. If the first record of a process is an event, and the scan at the
/// start of the recording did not find it, its start is the time of that event. A process that was
/// forked while one recording ran, and found by the scan of a later recording that does not
/// continue it, therefore has a number in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u64);

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The start of a process, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessStart {
    /// Time of the fork event.
    Forked(MonoNs),
    /// Start time that the kernel reports, in clock ticks since boot.
    Ticks(u64),
    /// Time of the first event of a process whose fork is missing.
    Seen(MonoNs),
}

/// The machine and the boot in which a recording was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdentityScope {
    hash: u64,
}

/// Offset and prime of the 64-bit hash function FNV-1a.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0000_0100_0000_01b3);

impl IdentityScope {
    /// Returns the scope of a capture. Without a machine ID, the name of the host counts.
    pub(super) fn new(meta: &Meta) -> Self {
        let machine = if meta.machine_id.is_empty() { &meta.host } else { &meta.machine_id };
        let hash = fnv(FNV.0, machine.as_bytes());
        Self { hash: fnv(fnv(hash, b"\0"), meta.boot_id.as_bytes()) }
    }

    /// Returns the identity of a process.
    pub(super) fn id(self, pid: u32, start: ProcessStart) -> ProcessId {
        let (kind, value) = match start {
            ProcessStart::Forked(time) => (b'f', time.0),
            ProcessStart::Ticks(ticks) => (b't', ticks),
            ProcessStart::Seen(time) => (b's', time.0),
        };
        let hash = fnv(fnv(self.hash, &pid.to_le_bytes()), &[kind]);
        // The hash function leaves patterns in the upper bits; the multiplication spreads them.
        let hash = fnv(hash, &value.to_le_bytes());
        let hash = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ProcessId((hash ^ hash >> 29) & i64::MAX as u64)
    }
}

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(FNV.1))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn scope(machine: &str, boot: &str) -> IdentityScope {
        IdentityScope::new(&Meta { machine_id: machine.into(), boot_id: boot.into(), ..Meta::default() })
    }

    #[test]
    fn each_part_of_the_identity_changes_the_number() {
        let start = ProcessStart::Forked(MonoNs(77));
        let id = scope("m", "b").id(5, start);
        for other in [
            scope("n", "b").id(5, start),
            scope("m", "c").id(5, start),
            scope("mb", "").id(5, start),
            scope("m", "b").id(6, start),
            scope("m", "b").id(5, ProcessStart::Ticks(77)),
            scope("m", "b").id(5, ProcessStart::Seen(MonoNs(77))),
            scope("m", "b").id(5, ProcessStart::Forked(MonoNs(78))),
        ] {
            assert_ne!(id, other);
        }
        assert_eq!(id, scope("m", "b").id(5, start));
        // The number is part of stored data sets, so it must not change.
        assert_eq!(id, ProcessId(4_060_597_114_003_066_114));
    }

    #[test]
    fn the_numbers_of_a_million_processes_differ_and_are_positive() {
        let scope = scope("m", "b");
        let ids =
            (0..1_000_000).map(|n: u32| scope.id(n % 500, ProcessStart::Forked(MonoNs(u64::from(n) * 1000))));
        let ids: HashSet<_> = ids.map(|id| id.0).collect();
        assert_eq!(ids.len(), 1_000_000);
        assert!(ids.iter().all(|&id| i64::try_from(id).is_ok()));
    }

    #[test]
    fn without_a_machine_id_the_host_counts() {
        let of = |host: &str| IdentityScope::new(&Meta { host: host.into(), ..Meta::default() });
        let start = ProcessStart::Ticks(1);
        assert_ne!(of("a").id(1, start), of("b").id(1, start));
    }
}
