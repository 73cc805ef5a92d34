//! Measures the peak memory of a process.

use std::fs;
use std::io;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// Exit status, peak memory and run time of a process.
#[derive(Clone, Copy, Debug)]
pub struct PeakMemory {
    /// Exit status.
    pub status: ExitStatus,
    /// Peak memory in bytes.
    pub bytes: u64,
    /// Time from the start of the measurement to the exit of the process.
    pub time: Duration,
}

/// Waits for a process and samples its peak memory (`VmHWM`). Kills the process after `limit`.
///
/// # Errors
/// If the process cannot be waited for or killed.
pub fn measure(child: &mut Child, limit: Duration) -> io::Result<PeakMemory> {
    let (began, mut bytes) = (Instant::now(), 0);
    let status = format!("/proc/{}/status", child.id());
    loop {
        if let Some(kib) = fs::read_to_string(&status).ok().and_then(|status| high_water(&status)) {
            bytes = bytes.max(kib << 10);
        }
        if let Some(status) = child.try_wait()? {
            return Ok(PeakMemory { status, bytes, time: began.elapsed() });
        }
        if began.elapsed() > limit {
            child.kill()?;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns `VmHWM` in KiB.
fn high_water(status: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()
}
