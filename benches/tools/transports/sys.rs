//! System calls without a safe wrapper: `clock_getcpuclockid(3)`, and `clock_gettime(2)` of its
//! clock.

use std::io;
use std::time::Duration;

use rustix::process::Pid;

/// Returns the CPU time, user and system, of all threads of a process, including those that have
/// exited. A child that has exited has a CPU time until it has been waited for.
pub(crate) fn cpu_time(process: Pid) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: it writes to `clock`, which outlives the call.
    let error = unsafe { libc::clock_getcpuclockid(process.as_raw_pid(), &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to `time`, which outlives the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
