//! The time-out of `recvmmsg`.

use std::time::{Duration, Instant};

use pmon_core::wire::u64_at;
use rustix::io::Errno;

use crate::tracee::memory::TraceeMemory;
use crate::tracee::scattered_copy::ScatteredCopy;

/// A time-out, which the call replaces by the remaining time.
pub(crate) struct ReceiveTimeout {
    /// Address of the `struct timespec`.
    at: u64,
    began: Instant,
    time: Duration,
}

impl ReceiveTimeout {
    /// Reads the `struct timespec` at an address; `None` if the address is 0.
    pub(super) fn read(memory: TraceeMemory, at: u64) -> Result<Option<Self>, Errno> {
        if at == 0 {
            return Ok(None);
        }
        let time = timespec(&memory.bytes(at)?)?;
        Ok(Some(Self { at, began: Instant::now(), time }))
    }

    /// Returns the time until the time-out expires.
    pub(crate) fn remaining(&self) -> Duration {
        self.time.saturating_sub(self.began.elapsed())
    }

    /// Writes the remaining time.
    pub(crate) fn write(&self, memory: TraceeMemory, remaining: Duration) -> Result<(), Errno> {
        let mut copy = ScatteredCopy::default();
        copy.push(self.at, &remaining.as_secs().to_ne_bytes());
        copy.push(self.at.wrapping_add(8), &u64::from(remaining.subsec_nanos()).to_ne_bytes());
        copy.finish(memory)
    }
}

/// Parses `struct timespec`.
fn timespec(bytes: &[u8; 16]) -> Result<Duration, Errno> {
    let seconds = u64_at(bytes, 0);
    match u32::try_from(u64_at(bytes, 8)) {
        Ok(nanos @ ..1_000_000_000) if seconds <= i64::MAX as u64 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Errno::INVAL),
    }
}
