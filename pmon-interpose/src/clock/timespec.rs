//! `struct timespec` in the tracee's memory.

use std::time::Duration;

use pmon_core::wire::u64_at;
use rustix::io::Errno;

use crate::tracee::memory::TraceeMemory;
use crate::world::ClockTimes;

const NANOSECONDS: u64 = 1_000_000_000;

/// The bytes of a `struct timespec`.
pub(super) type Timespec = [u8; 16];

pub(super) fn encode(time: Duration) -> Timespec {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&time.as_secs().to_ne_bytes());
    bytes[8..].copy_from_slice(&u64::from(time.subsec_nanos()).to_ne_bytes());
    bytes
}

/// Returns `None` if the kernel refuses the value.
pub(super) fn decode(bytes: &Timespec) -> Option<Duration> {
    let (seconds, nanoseconds) = (u64_at(bytes, 0), u64_at(bytes, 8));
    let is_valid = seconds <= i64::MAX as u64 && nanoseconds < NANOSECONDS;
    is_valid.then(|| Duration::new(seconds, nanoseconds as u32))
}

/// Reads a `struct timespec`. Returns `None` if there is none or the kernel refuses it.
pub(super) fn read(memory: TraceeMemory, address: u64) -> Option<Duration> {
    let bytes: Result<Timespec, Errno> = memory.bytes(address);
    decode(&bytes.ok()?)
}

/// Returns one of the clocks by its number; `None` for the clocks of processes and devices.
pub(super) fn clock(times: ClockTimes, number: u64) -> Option<Duration> {
    // The difference of CLOCK_TAI is not recorded; on most machines it is 0. The kernel's clocks
    // do not differ here in precision.
    Some(match number as i32 {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_REALTIME_ALARM | libc::CLOCK_TAI => {
            times.realtime
        }
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE => times.monotonic,
        libc::CLOCK_BOOTTIME | libc::CLOCK_BOOTTIME_ALARM => times.boottime,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_times_are_decoded_as_they_were_encoded() {
        for time in [Duration::ZERO, Duration::new(1, 999_999_999), Duration::new(i64::MAX as u64, 1)] {
            assert_eq!(decode(&encode(time)), Some(time));
        }
    }

    #[test]
    fn times_that_the_kernel_refuses_are_not_decoded() {
        let bytes = |seconds: i64, nanoseconds: i64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&seconds.to_ne_bytes());
            bytes[8..].copy_from_slice(&nanoseconds.to_ne_bytes());
            bytes
        };
        for (seconds, nanoseconds) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MIN, i64::MAX)] {
            assert_eq!(decode(&bytes(seconds, nanoseconds)), None, "{seconds} {nanoseconds}");
        }
    }
}
