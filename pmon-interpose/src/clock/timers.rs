//! Timers behind file descriptors (`timerfd_create(2)`).
//!
//! A timer that is set to a time of a clock is set here, to the same time from now. When a timer
//! has expired, the clocks show its time, as after a sleep.

use std::fs;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdTimerFlags, timerfd_settime};

use crate::clock::ClockEmulation;
use crate::clock::timespec::{self, Timespec};
use crate::clock::virtual_clock::VirtualClock;
use crate::clock::waits::{self, LastEvent, TimedWait};
use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::tracee::processes::tgid_of;
use crate::world::ClockTimes;

/// Size of `struct itimerspec`: an interval and a value.
const ITIMERSPEC: usize = 32;
const INTERVAL: usize = 0;
const VALUE: usize = 16;
/// The least time that arms a timer.
const SOONEST: Duration = Duration::from_nanos(1);
/// Maximum number of timers whose expiry advances the clocks.
const MAX_TIMERS: usize = 256;

/// The timers that the tracee has set.
#[derive(Default)]
pub(super) struct Timers(Vec<ArmedTimer>);

struct ArmedTimer {
    process: u32,
    fd: u32,
    /// The next expiry.
    wait: TimedWait,
    interval: Duration,
}

impl Timers {
    /// Advances the clock to the timers that have expired.
    pub(super) fn expire(&mut self, clock: &mut VirtualClock, last: &LastEvent, event: ClockTimes) {
        let now = Instant::now();
        self.0.retain_mut(|timer| {
            if timer.wait.real_end > now {
                return true;
            }
            last.advance(clock, &timer.wait);
            let virtual_end = clock.now(event).monotonic.saturating_add(timer.interval);
            let (real_end, event) = (waits::after(timer.interval), event.monotonic);
            timer.wait = TimedWait { real_end, virtual_end, event, ..timer.wait };
            !timer.interval.is_zero()
        });
    }

    fn remove(&mut self, process: u32, fd: u32) {
        self.0.retain(|timer| (timer.process, timer.fd) != (process, fd));
    }
}

impl ClockEmulation {
    /// Executes `timerfd_settime`.
    pub(super) fn set_timer(&mut self, call: &InterceptedCall<'_>, event: ClockTimes) -> Reply {
        let [fd, flags, new, old, ..] = call.args();
        let (fd, memory) = (fd as u32, call.memory());
        // The kernel refuses the call if an argument is invalid.
        let (Ok(spec), Ok(process)) = (memory.bytes::<ITIMERSPEC>(new), tgid_of(call.task())) else {
            return Reply::Continue;
        };
        let part =
            |at: usize| spec[at..].first_chunk::<{ size_of::<Timespec>() }>().and_then(timespec::decode);
        let (Some(interval), Some(value)) = (part(INTERVAL), part(VALUE)) else { return Reply::Continue };
        let known = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        let flags = TimerfdTimerFlags::from_bits_retain(flags as u32);
        let Some(clock) = clock_of_timer(call.task(), fd).filter(|_| known.contains(flags)) else {
            return Reply::Continue;
        };
        self.timers.remove(process, fd);
        let is_absolute = flags.contains(TimerfdTimerFlags::ABSTIME);
        let now = timespec::clock(self.clock.now(event), clock).filter(|_| is_absolute);
        if value.is_zero() {
            return Reply::Continue;
        }
        let left = value.saturating_sub(now.unwrap_or_default()).max(SOONEST);
        if self.timers.0.len() < MAX_TIMERS {
            let wait = self.timed_wait(call, event, left);
            self.timers.0.push(ArmedTimer { process, fd, wait, interval });
        }
        if now.is_none() {
            return Reply::Continue;
        }
        let set = || -> Result<i64, Errno> {
            let timer = call.duplicate_fd(fd)?;
            let spec = Itimerspec { it_interval: rustix_time(interval), it_value: rustix_time(left) };
            let before = timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
            if old != 0 {
                let parts = [before.it_interval, before.it_value];
                let parts = parts.map(|time| timespec::encode(Duration::try_from(time).unwrap_or_default()));
                memory.write(old, parts.as_flattened())?;
            }
            Ok(0)
        };
        Reply::Return(set())
    }
}

/// Returns the clock of a timer by its number; `None` if the descriptor is no timer.
fn clock_of_timer(task: u32, fd: u32) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/{task}/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("clockid:"))?.trim().parse().ok()
}

/// Converts a time; the longest ones are shortened to what the kernel accepts.
fn rustix_time(time: Duration) -> rustix::time::Timespec {
    let longest = rustix::time::Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
    rustix::time::Timespec::try_from(time).unwrap_or(longest)
}
