//! The tracee's clocks, if they are those of the world: `LaunchOptions::clock`.
//!
//! * `virtual_clock.rs` decides which time it is.
//! * `vdso.rs` makes the tracee read its clocks by system calls.
//! * `readings.rs` answers these calls.
//! * `waits.rs` and `timers.rs` convert the ends of waits to this system's clocks, and detect waits
//!   that have ended.
//!
//! Sleeps and time-outs take as long as they would on this system. When one has ended, and the
//! tracee has received no event meanwhile, the clocks show its end. While one thread receives
//! events, the waits of others do not advance the clocks: how many events are received during a
//! wait depends on the speed of this system.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::clock::timers::Timers;
use crate::clock::virtual_clock::VirtualClock;
use crate::clock::waits::{LastEvent, TimedWait, Waits};
use crate::error::InterposeError;
use crate::seccomp::listener::{InterceptedCall, Reply, SeccompListener};
use crate::tracee::processes::stat_fields;
use crate::world::{ClockTimes, ProcEntry, ProcEntryKind, ProcessView, TaskInfo};

mod readings;
mod timers;
mod timespec;
mod vdso;
mod virtual_clock;
mod waits;

/// The longest sleep of a runtime's background thread: that of the monitor thread of Go.
///
/// Such threads sleep again and again while the program works. If a process has several threads,
/// the ends of such sleeps do not advance the clocks, because their number depends on the speed of
/// this system.
const BACKGROUND_SLEEP: Duration = Duration::from_millis(10);
/// The longest wait of a runtime's thread for another thread: that for the interpreter of Python.
const BACKGROUND_FUTEX: Duration = Duration::from_millis(5);

/// The clocks of the tracee.
#[derive(Default)]
pub(crate) struct ClockEmulation {
    clock: VirtualClock,
    waits: Waits,
    timers: Timers,
    last: LastEvent,
}

impl ClockEmulation {
    /// Notes that a task makes a call: its earlier waits have ended.
    pub(crate) fn begin_call(&mut self, task: u32, event: ClockTimes) {
        self.last.note(event);
        let now = Instant::now();
        for wait in self.waits.end(task).filter(|wait| wait.real_end <= now) {
            self.last.advance(&mut self.clock, &wait);
        }
        self.timers.expire(&mut self.clock, &self.last, event);
    }

    /// Answers a call that reads a clock, or that sleeps; returns `None` for other calls. `event`
    /// are the clocks as of the event that the tracee received last.
    pub(crate) fn answer(
        &mut self,
        call: &InterceptedCall<'_>,
        event: ClockTimes,
    ) -> Result<Option<Reply>, InterposeError> {
        let nr = call.nr();
        if is_early_call(nr) {
            patch_vdso(call)?;
            // `sched_getaffinity` may refer to a recorded process.
            return Ok((nr != libc::SYS_sched_getaffinity).then_some(Reply::Continue));
        }
        if readings::is_reading(nr) {
            return Ok(Some(readings::answer(call, self.clock.read(event))));
        }
        Ok(match nr {
            libc::SYS_nanosleep => {
                self.note_wait(call, event);
                Some(Reply::Continue)
            }
            libc::SYS_clock_nanosleep => Some(self.sleep(call, event)),
            libc::SYS_futex => Some(self.wait_on_futex(call, event)),
            libc::SYS_timerfd_settime => Some(self.set_timer(call, event)),
            _ => None,
        })
    }

    /// Notes a call that the kernel executes and that may end by a time-out.
    pub(crate) fn note_wait(&mut self, call: &InterceptedCall<'_>, event: ClockTimes) {
        if let Some(timeout) = waits::relative_timeout(call) {
            let wait = self.timed_wait(call, event, timeout);
            self.waits.note(wait);
        }
    }

    /// Does the work that has to wait until the last reply was sent.
    pub(crate) fn finish_call(&mut self) {
        self.waits.await_start();
    }

    /// Ends the sleeps whose time is over.
    pub(crate) fn expire(&mut self, listener: &SeccompListener, event: ClockTimes) -> Result<(), Errno> {
        self.last.note(event);
        self.waits.restore_deadlines();
        for (id, wait) in self.waits.take_expired(Instant::now()) {
            match listener.complete(id, Ok(0)) {
                Ok(()) => self.last.advance(&mut self.clock, &wait),
                // A signal has interrupted the sleep.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns when [`Self::expire`] has to be called.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waits.next_deadline()
    }

    /// Returns the processes with the uptime that the clocks show.
    pub(crate) fn view<'a>(&mut self, view: &'a dyn ProcessView) -> ClockedView<'a> {
        let event = view.clocks().unwrap_or_default();
        ClockedView { view, ahead: self.clock.now(event).monotonic.saturating_sub(event.monotonic) }
    }

    /// Returns a wait that begins now, in this call.
    fn timed_wait(&mut self, call: &InterceptedCall<'_>, event: ClockTimes, time: Duration) -> TimedWait {
        let (now, task) = (self.clock.now(event).monotonic, call.task());
        let background = match call.nr() {
            libc::SYS_nanosleep => BACKGROUND_SLEEP,
            libc::SYS_futex => BACKGROUND_FUTEX,
            _ => Duration::ZERO,
        };
        let has_other_threads = has_other_threads(task);
        let advances = time > background || !has_other_threads;
        let virtual_end = if advances { now.saturating_add(time) } else { now };
        TimedWait {
            task,
            real_end: waits::after(time),
            virtual_end,
            event: event.monotonic,
            has_other_threads,
        }
    }
}

/// Returns whether every program makes this call before it uses the vDSO: the C libraries and the
/// runtime of Go do.
fn is_early_call(nr: libc::c_long) -> bool {
    #[cfg(target_arch = "x86_64")]
    if nr == libc::SYS_arch_prctl {
        return true;
    }
    matches!(nr, libc::SYS_brk | libc::SYS_set_tid_address | libc::SYS_sched_getaffinity)
}

/// Makes the task that makes a call read its clocks by system calls.
fn patch_vdso(call: &InterceptedCall<'_>) -> Result<(), InterposeError> {
    match vdso::patch(call.task(), || call.is_pending()) {
        Err(errno) if call.is_pending() => Err(match errno {
            // No memory of the program is accessible.
            Errno::ACCESS | Errno::PERM => InterposeError::Memory(errno),
            errno => InterposeError::Clock(errno),
        }),
        _ => Ok(()),
    }
}

fn has_other_threads(task: u32) -> bool {
    /// Index of the number of threads in the fields after the name.
    const NUM_THREADS: usize = 17;
    let stat = stat_fields(task).unwrap_or_default();
    stat.split(' ').nth(NUM_THREADS).is_some_and(|count| count != "1")
}

/// The processes of a world, at the time that the tracee's clocks show.
pub(crate) struct ClockedView<'a> {
    view: &'a dyn ProcessView,
    /// Time since the last event.
    ahead: Duration,
}

impl ProcessView for ClockedView<'_> {
    fn pids(&self) -> Vec<u32> {
        self.view.pids()
    }

    fn task(&self, id: u32) -> Option<TaskInfo> {
        self.view.task(id)
    }

    fn entries(&self, id: u32) -> Vec<(String, ProcEntry)> {
        self.view.entries(id)
    }

    fn entry(&self, id: u32, path: &str) -> Option<ProcEntry> {
        self.view.entry(id, path)
    }

    fn list(&self, id: u32, directory: &str) -> Vec<(String, ProcEntryKind)> {
        self.view.list(id, directory)
    }

    fn uptime(&self) -> Option<Duration> {
        self.view.uptime().map(|uptime| uptime.saturating_add(self.ahead))
    }

    fn boot_time(&self) -> Option<u64> {
        self.view.boot_time()
    }

    fn clocks(&self) -> Option<ClockTimes> {
        self.view.clocks().map(|event| event.plus(self.ahead))
    }
}
