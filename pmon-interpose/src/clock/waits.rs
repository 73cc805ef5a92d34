//! Sleeps and time-outs.
//!
//! A wait for a time that is given as a time of a clock (an _absolute_ one) must end when the same
//! time has passed on this system. Sleeps of this kind are executed here. For a futex, the deadline
//! in the tracee's memory is replaced while the kernel reads it.

use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::clock::ClockEmulation;
use crate::clock::timespec::{self, Timespec};
use crate::clock::virtual_clock::VirtualClock;
use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::sys::Notification;
use crate::tracee::memory::TraceeMemory;
use crate::tracee::processes::stat_fields;
use crate::world::ClockTimes;

/// The longest time that a wait is executed for, so that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Time for which [`Waits::await_start`] observes a task; longer observations are left to
/// [`Waits::restore_deadlines`].
const START: Duration = Duration::from_micros(300);
/// Time after which a process with several threads no longer counts as receiving events. On a busy
/// system, a thread that receives events may get no processor time during a wait of another one.
const QUIET: Duration = Duration::from_secs(1);
/// Interval of [`Waits::restore_deadlines`].
const RESTORE_INTERVAL: Duration = Duration::from_millis(1);

/// A wait of a task that ends at a time.
#[derive(Clone, Copy)]
pub(super) struct TimedWait {
    pub(super) task: u32,
    /// The end on this system's clock.
    pub(super) real_end: Instant,
    /// The end on the tracee's `CLOCK_MONOTONIC`.
    pub(super) virtual_end: Duration,
    /// `CLOCK_MONOTONIC` at the last event before the wait.
    pub(super) event: Duration,
    /// Whether the process has other threads.
    pub(super) has_other_threads: bool,
}

/// The last event that the tracee has received.
#[derive(Default)]
pub(super) struct LastEvent {
    time: ClockTimes,
    /// When it was received, on this system's clock; `None` before the first event.
    received: Option<Instant>,
}

impl LastEvent {
    /// Notes the clocks as of the last event.
    pub(super) fn note(&mut self, event: ClockTimes) {
        let before = std::mem::replace(&mut self.time, event);
        // The first note is about the time before the first event.
        if before != event && before != ClockTimes::default() {
            self.received = Some(Instant::now());
        }
    }

    /// Advances the clock after a wait has ended, unless events decide which time it is: the tracee
    /// has received one meanwhile, or another thread may be about to receive one.
    pub(super) fn advance(&self, clock: &mut VirtualClock, wait: &TimedWait) {
        let is_quiet = self.received.is_none_or(|received| received.elapsed() >= QUIET);
        if wait.event == self.time.monotonic && (is_quiet || !wait.has_other_threads) {
            clock.set(wait.virtual_end);
        }
    }
}

/// A sleep that is executed here: its call is not replied to until it ends.
struct HeldSleep {
    notification: Notification,
    wait: TimedWait,
}

/// A deadline in the tracee's memory that was replaced for the kernel.
struct ReplacedDeadline {
    task: u32,
    address: u64,
    original: Timespec,
    replacement: Timespec,
}

/// The waits of the tracee's tasks.
#[derive(Default)]
pub(super) struct Waits {
    held: Vec<HeldSleep>,
    /// Waits that the kernel executes; at most one a task.
    noted: Vec<TimedWait>,
    replaced: Vec<ReplacedDeadline>,
}

impl Waits {
    /// Ends the waits of a task that makes another call; returns those that the kernel executed.
    pub(super) fn end(&mut self, task: u32) -> impl Iterator<Item = TimedWait> {
        self.restore_if(|replaced| replaced.task == task);
        // A signal has interrupted a sleep whose task makes another call.
        self.held.retain(|sleep| sleep.notification.pid != task);
        self.noted.extract_if(.., move |wait| wait.task == task)
    }

    pub(super) fn note(&mut self, wait: TimedWait) {
        self.noted.push(wait);
    }

    /// Removes the sleeps that have ended; returns the id of each call.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<(u64, TimedWait)> {
        let expired = self.held.extract_if(.., |sleep| sleep.wait.real_end <= now);
        expired.map(|sleep| (sleep.notification.id, sleep.wait)).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let restore = (!self.replaced.is_empty()).then(|| Instant::now() + RESTORE_INTERVAL);
        self.held.iter().map(|sleep| sleep.wait.real_end).chain(restore).min()
    }

    /// Waits until the kernel has read the deadline that was replaced last, and restores it.
    pub(super) fn await_start(&mut self) {
        let until = Instant::now() + START;
        while !self.replaced.is_empty() && Instant::now() < until {
            self.restore_deadlines();
            thread::yield_now();
        }
    }

    /// Restores the deadlines of tasks that sleep: the kernel has read them.
    pub(super) fn restore_deadlines(&mut self) {
        self.restore_if(|replaced| stat_fields(replaced.task).is_none_or(|stat| stat.starts_with('S')));
    }

    fn restore_if(&mut self, is_read: impl Fn(&ReplacedDeadline) -> bool) {
        for replaced in self.replaced.extract_if(.., |replaced| is_read(replaced)) {
            let memory = TraceeMemory::of(replaced.task);
            if memory.bytes(replaced.address) == Ok(replaced.replacement) {
                // It fails only if the task has ended.
                let _ = memory.write(replaced.address, &replaced.original);
            }
        }
    }

    /// Reads a deadline, even if it is replaced at the moment: threads may share it.
    fn deadline(&self, memory: TraceeMemory, address: u64) -> Option<(Timespec, Duration)> {
        let bytes = memory.bytes(address).ok()?;
        let is_this = |of: &&ReplacedDeadline| of.address == address && of.replacement == bytes;
        let bytes = self.replaced.iter().find(is_this).map_or(bytes, |replaced| replaced.original);
        Some((bytes, timespec::decode(&bytes)?))
    }
}

impl ClockEmulation {
    /// Executes `clock_nanosleep`.
    pub(super) fn sleep(&mut self, call: &InterceptedCall<'_>, event: ClockTimes) -> Reply {
        let [clock, flags, request, ..] = call.args();
        let Some(now) = timespec::clock(self.clock.now(event), clock) else { return Reply::Continue };
        if flags & libc::TIMER_ABSTIME as u64 == 0 {
            self.note_wait(call, event);
            return Reply::Continue;
        }
        let is_clock_to_sleep_by = matches!(clock as i32, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC)
            || matches!(clock as i32, libc::CLOCK_BOOTTIME | libc::CLOCK_TAI);
        match timespec::read(call.memory(), request) {
            Some(until) if is_clock_to_sleep_by && until <= now => Reply::Return(Ok(0)),
            Some(until) if is_clock_to_sleep_by => {
                let wait = self.timed_wait(call, event, until - now);
                self.waits.held.push(HeldSleep { notification: call.notification, wait });
                Reply::Deferred
            }
            // The kernel refuses the call.
            _ => Reply::Continue,
        }
    }

    /// Prepares an operation on a futex that may end by a time-out; the kernel executes it.
    pub(super) fn wait_on_futex(&mut self, call: &InterceptedCall<'_>, event: ClockTimes) -> Reply {
        let [word, operation, expected, address, ..] = call.args();
        let (memory, operation) = (call.memory(), operation as i32);
        let command = operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
        if command == libc::FUTEX_WAIT {
            self.note_wait(call, event);
            return Reply::Continue;
        }
        let Some((original, until)) = self.waits.deadline(memory, address) else { return Reply::Continue };
        let waits_for_value = matches!(command, libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAIT_REQUEUE_PI);
        // The kernel would not wait, and so the task would not be seen to sleep.
        if waits_for_value && memory.u32(word).is_ok_and(|value| value != expected as u32) {
            return Errno::AGAIN.into();
        }
        let by_realtime = operation & libc::FUTEX_CLOCK_REALTIME != 0 || command == libc::FUTEX_LOCK_PI;
        let times = self.clock.now(event);
        let (now, real) = match by_realtime {
            true => (times.realtime, ClockId::Realtime),
            false => (times.monotonic, ClockId::Monotonic),
        };
        let left = until.saturating_sub(now).min(LONGEST);
        if left.is_zero() && waits_for_value {
            return Errno::TIMEDOUT.into();
        }
        // Before the clock is read, so that the kernel does not end the wait before its noted end.
        let wait = self.timed_wait(call, event, left);
        let real_now = Duration::try_from(clock_gettime(real)).unwrap_or_default();
        let replacement = timespec::encode(real_now.saturating_add(left));
        self.waits.note(wait);
        if memory.write(address, &replacement).is_ok() {
            let task = call.task();
            self.waits.replaced.push(ReplacedDeadline { task, address, original, replacement });
        }
        Reply::Continue
    }
}

/// Returns the time at which a wait of this length ends.
pub(super) fn after(time: Duration) -> Instant {
    Instant::now() + time.min(LONGEST)
}

/// Returns the relative time-out of a call; `None` if it has none or is of no length.
pub(super) fn relative_timeout(call: &InterceptedCall<'_>) -> Option<Duration> {
    let [first, _, third, fourth, fifth, _] = call.args();
    let memory = call.memory();
    let milliseconds = |time: u64| u64::try_from(time as i32).ok().map(Duration::from_millis);
    let timeout = match call.nr() {
        libc::SYS_nanosleep => timespec::read(memory, first),
        libc::SYS_clock_nanosleep | libc::SYS_ppoll => timespec::read(memory, third),
        libc::SYS_futex | libc::SYS_epoll_pwait2 => timespec::read(memory, fourth),
        libc::SYS_pselect6 => timespec::read(memory, fifth),
        libc::SYS_epoll_pwait => milliseconds(fourth),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => milliseconds(fourth),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => milliseconds(third),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => {
            let words: [u8; 16] = memory.bytes(fifth).ok()?;
            let [seconds, microseconds] = [0, 8].map(|at| pmon_core::wire::u64_at(&words, at));
            let is_valid = seconds <= i64::MAX as u64 && microseconds < 1_000_000;
            is_valid.then(|| Duration::new(seconds, microseconds as u32 * 1_000))
        }
        _ => None,
    };
    timeout.filter(|timeout| !timeout.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> ClockTimes {
        ClockTimes { monotonic: Duration::from_secs(seconds), ..ClockTimes::default() }
    }

    /// Returns the time that the clock shows after a wait of 10 s, which began at the event at 5 s;
    /// `events` are noted before its end.
    fn after_wait(has_other_threads: bool, events: &[u64]) -> u64 {
        let (mut clock, mut last) = (VirtualClock::default(), LastEvent::default());
        events.iter().for_each(|&seconds| last.note(at(seconds)));
        let now = clock.now(last.time).monotonic;
        let event = Duration::from_secs(5);
        let virtual_end = event + Duration::from_secs(10);
        let wait = TimedWait { task: 1, real_end: Instant::now(), virtual_end, event, has_other_threads };
        last.advance(&mut clock, &wait);
        assert!(clock.now(last.time).monotonic >= now);
        clock.now(last.time).monotonic.as_secs()
    }

    #[test]
    fn a_wait_advances_the_clock_unless_an_event_was_received() {
        assert_eq!(after_wait(false, &[5]), 15);
        assert_eq!(after_wait(false, &[4, 5]), 15);
        assert_eq!(after_wait(false, &[5, 6]), 6);
    }

    #[test]
    fn a_wait_of_a_thread_advances_the_clock_only_if_no_event_was_received_recently() {
        assert_eq!(after_wait(true, &[5]), 15, "no event was received yet");
        assert_eq!(after_wait(true, &[4, 5]), 5);
        assert_eq!(after_wait(true, &[5, 6]), 6);
    }
}
