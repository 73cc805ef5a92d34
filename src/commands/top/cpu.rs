//! The CPU time that running processes have used so far, from `/proc`.

use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};

/// The CPU time of a process at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuReading {
    /// CPU time of all threads in ns, in steps of a clock tick.
    pub(super) cpu_ns: u64,
    /// Start of the process in clock ticks, which distinguishes processes with the same ID.
    pub(super) start_ticks: u64,
}

/// The result of reading the CPU time of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CpuResult {
    /// The CPU time so far.
    Read(CpuReading),
    /// The process has ended, or is not visible for this user.
    Missing,
    /// There was no time to read it.
    LeftOut,
}

/// Reads the CPU times of processes.
#[derive(Debug)]
pub(super) struct CpuReader {
    tick_ns: u64,
    /// ID of the process at which the last reading ended for lack of time.
    next: u32,
    buffer: Vec<u8>,
}

impl CpuReader {
    /// Creates a reader for a machine with this frequency of the clock of CPU times.
    pub(super) fn new(ticks_per_second: u32) -> Self {
        let tick_ns = 1_000_000_000 / u64::from(ticks_per_second.max(1));
        Self { tick_ns, next: 0, buffer: Vec::new() }
    }

    /// Reads the CPU times of processes, for at most this time. The result has one item per
    /// process. The next call continues with the processes that were left out.
    pub(super) fn read(&mut self, pids: &[u32], budget: Duration) -> Vec<CpuResult> {
        let began = Instant::now();
        let mut readings = vec![CpuResult::LeftOut; pids.len()];
        let from = pids.iter().position(|&pid| pid >= self.next).unwrap_or(0);
        self.next = 0;
        for at in (from..pids.len()).chain(0..from) {
            if began.elapsed() > budget {
                self.next = pids[at];
                break;
            }
            readings[at] = self.read_one(pids[at]).map_or(CpuResult::Missing, CpuResult::Read);
        }
        readings
    }

    fn read_one(&mut self, pid: u32) -> Option<CpuReading> {
        self.buffer.clear();
        File::open(format!("/proc/{pid}/stat")).ok()?.read_to_end(&mut self.buffer).ok()?;
        parse(&self.buffer, self.tick_ns)
    }
}

/// Parses `/proc/PID/stat` (`proc_pid_stat(5)`).
fn parse(stat: &[u8], tick_ns: u64) -> Option<CpuReading> {
    // The name of a process may contain spaces and parentheses.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields: Vec<_> = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let (user, system, start_ticks) = (number(11)?, number(12)?, number(19)?);
    Some(CpuReading { cpu_ns: user.checked_add(system)?.checked_mul(tick_ns)?, start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_after_the_name_are_read() {
        let stat = b"42 (a) b) R 1 2 3 4 5 6 7 8 9 10 11 22 15 16 17 18 19 20 777 9000 21\n";
        assert_eq!(parse(stat, 10_000_000), Some(CpuReading { cpu_ns: 330_000_000, start_ticks: 777 }));
        assert_eq!(parse(b"42 (a) R 1 2", 10_000_000), None);
        assert_eq!(parse(b"", 10_000_000), None);
    }

    #[test]
    fn reading_continues_with_the_processes_that_were_left_out() {
        let own = std::process::id();
        let mut reader = CpuReader::new(100);
        let readings = reader.read(&[own, u32::MAX], Duration::MAX);
        assert!(matches!(readings[0], CpuResult::Read(own) if own.start_ticks > 0), "{readings:?}");
        assert_eq!(readings[1], CpuResult::Missing);
        assert_eq!(reader.read(&[own, own], Duration::ZERO), [CpuResult::LeftOut; 2]);
        assert_eq!(reader.next, own);
        let readings = reader.read(&[1, own], Duration::MAX);
        assert!(matches!(readings[1], CpuResult::Read(_)), "{readings:?}");
        assert_eq!(reader.next, 0);
    }
}
