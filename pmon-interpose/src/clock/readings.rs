//! The calls that read a clock: `clock_gettime`, `gettimeofday`, `time` and `sysinfo`.

use std::time::Duration;

use rustix::io::Errno;

use crate::clock::timespec;
use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::sys;
use crate::tracee::memory::TraceeMemory;
use crate::world::ClockTimes;

/// Size of `struct timezone`.
const TIMEZONE: usize = 8;

pub(super) fn is_reading(nr: libc::c_long) -> bool {
    #[cfg(target_arch = "x86_64")]
    if nr == libc::SYS_time {
        return true;
    }
    matches!(nr, libc::SYS_clock_gettime | libc::SYS_gettimeofday | libc::SYS_sysinfo)
}

/// Answers a call for which [`is_reading`] is true.
pub(super) fn answer(call: &InterceptedCall<'_>, times: ClockTimes) -> Reply {
    let [first, second, ..] = call.args();
    let memory = call.memory();
    let result = match call.nr() {
        libc::SYS_clock_gettime => match timespec::clock(times, first) {
            Some(time) => memory.write(second, &timespec::encode(time)).map(|()| 0),
            None => return Reply::Continue,
        },
        libc::SYS_gettimeofday => gettimeofday(memory, first, second, times.realtime).map(|()| 0),
        libc::SYS_sysinfo => memory.write(first, &sys::sysinfo(times.boottime)).map(|()| 0),
        _ => time(memory, first, times.realtime),
    };
    Reply::Return(result)
}

/// Executes `gettimeofday`. The kernel's time zone is UTC, as on nearly all machines.
fn gettimeofday(memory: TraceeMemory, value: u64, zone: u64, now: Duration) -> Result<(), Errno> {
    if value != 0 {
        let words = [now.as_secs(), now.subsec_micros().into()].map(u64::to_ne_bytes);
        memory.write(value, words.as_flattened())?;
    }
    if zone != 0 { memory.write(zone, &[0; TIMEZONE]) } else { Ok(()) }
}

/// Executes `time`.
fn time(memory: TraceeMemory, at: u64, now: Duration) -> Result<i64, Errno> {
    let seconds = now.as_secs();
    if at != 0 {
        memory.write(at, &seconds.to_ne_bytes())?;
    }
    Ok(seconds as i64)
}
