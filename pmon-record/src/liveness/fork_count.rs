//! The kernel's count of forks, from `/proc/stat`.
//!
//! The kernel generates the file for each reading, which takes 10 us on a small machine and
//! milliseconds on one with thousands of interrupts. Slow readings are therefore rarer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Instant;

use pmon_core::capture::{ForkCount, ForkReading};
use rustix::fs::{PROC_SUPER_MAGIC, fstatfs};

use crate::clock::Clock;

/// Readings that are not urgent may take one part in this number of the time.
const TIME_DIVISOR: u32 = 1000;

/// Reads the kernel's count of forks.
pub(crate) struct ForkCounter {
    file: Option<File>,
    text: Vec<u8>,
    clock: Clock,
    /// Time of the next reading that is not urgent.
    next: Instant,
}

impl ForkCounter {
    /// Opens the counter; also returns the reason if it cannot be read.
    pub(crate) fn open(clock: Clock) -> (Self, Option<ForkReading>) {
        let opened = open();
        let why = opened.as_ref().err().cloned();
        let this = Self { file: opened.ok(), text: Vec::new(), clock, next: Instant::now() };
        (this, why.map(|why| ForkReading::Absent { why }))
    }

    /// Reads the counter; `None` if it is unavailable, or was read recently and this reading is not
    /// `urgent`.
    pub(crate) fn read(&mut self, urgent: bool) -> Option<ForkReading> {
        let now = Instant::now();
        let file = self.file.as_mut().filter(|_| urgent || self.next <= now)?;
        let read = count(file, &mut self.text, self.clock);
        self.next = now + TIME_DIVISOR * now.elapsed();
        Some(match read {
            Ok(count) => ForkReading::Counted(count),
            Err(why) => {
                self.file = None;
                ForkReading::Absent { why }
            }
        })
    }
}

fn count(file: &mut File, text: &mut Vec<u8>, clock: Clock) -> Result<ForkCount, String> {
    let failed = |error: io::Error| format!("cannot read /proc/stat: {error}");
    text.clear();
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let from = clock.mono();
    file.read_to_end(text).map_err(failed)?;
    let until = clock.mono();
    let (forks, running) = parse(text).ok_or("/proc/stat has no `processes` and `procs_running`")?;
    Ok(ForkCount { from, until, forks, running })
}

fn open() -> Result<File, String> {
    let failed = |error: io::Error| format!("cannot open /proc/stat: {error}");
    let file = File::open("/proc/stat").map_err(failed)?;
    let system = fstatfs(&file).map_err(|error| failed(error.into()))?;
    if system.f_type != PROC_SUPER_MAGIC {
        // For example lxcfs, which counts differently.
        return Err("/proc/stat is not the kernel's, but another filesystem's".into());
    }
    Ok(file)
}

fn parse(text: &[u8]) -> Option<(u64, u64)> {
    let number = |name: &[u8]| {
        let line = text.rsplit(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name))?;
        str::from_utf8(line).ok()?.trim().parse().ok()
    };
    Some((number(b"processes ")?, number(b"procs_running ")?))
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_numbers_are_found_in_any_order() {
        let text =
            b"cpu 1 2\nintr 5 0 0\nctxt 7\nbtime 1\nprocesses 19120\nprocs_running 10\nprocs_blocked 0\n";
        assert_eq!(parse(text), Some((19_120, 10)));
        assert_eq!(parse(b"procs_running 1\nprocesses 18446744073709551615"), Some((u64::MAX, 1)));
        assert_eq!(parse(b"processes 1\n"), None);
        assert_eq!(parse(b"processes x\nprocs_running 1\n"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_new_thread_is_counted_and_the_reader_is_running() {
        let (mut stat, absent) = ForkCounter::open(Clock::new());
        assert_eq!(absent, None);
        let mut read = || match stat.read(true) {
            Some(ForkReading::Counted(count)) => count,
            other => panic!("{other:?}"),
        };
        let before = read();
        (0..10).for_each(|_| drop(thread::spawn(|| ()).join()));
        let after = read();
        assert!(after.since(&before) >= Some(10), "{before:?}, {after:?}");
        assert!(before.from <= before.until && before.until <= after.from && after.running >= 1);
    }

    #[test]
    fn the_next_reading_waits_a_thousand_times_its_duration_unless_it_is_urgent() {
        let (mut stat, _) = ForkCounter::open(Clock::new());
        stat.next = Instant::now() + Duration::from_secs(3600);
        assert_eq!(stat.read(false), None);
        assert!(stat.read(true).is_some());
        assert!(stat.next > Instant::now() && stat.next < Instant::now() + Duration::from_secs(600));
    }
}
