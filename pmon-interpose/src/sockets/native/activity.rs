//! What the tracee's threads do: whether they wait for an event, sleep otherwise, or run.
//!
//! No intercepted call shows that the tracee waits on a native socket. `/proc/TID/syscall` names
//! the call in which a thread sleeps.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use libc::c_long;
use rustix::event::PollFlags;

use crate::seccomp::fd_numbers::ReservedFds;
use crate::sys::is_ready;
use crate::tracee::processes::{TraceeProcesses, stat_fields, threads_of};

/// Calls that receive from their first argument.
const RECEIVING_CALLS: &[c_long] = &[
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_preadv2,
];

/// Calls that wait for files or signals.
const WAITING_CALLS: &[&[c_long]] = &[
    &[libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2],
    &[libc::SYS_rt_sigsuspend, libc::SYS_rt_sigtimedwait],
    #[cfg(target_arch = "x86_64")]
    &[libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_pause],
];

/// Calls of 32-bit programs that receive from their first argument: `read`, `readv`, `recvmmsg`,
/// `recvfrom`, `recvmsg`, `preadv2`, `recvmmsg_time64`.
const I386_RECEIVING_CALLS: &[c_long] = &[3, 145, 337, 371, 372, 378, 417];

/// Calls of 32-bit programs that wait for files or signals: `pause`, `sigsuspend`, `select`,
/// `_newselect`, `poll`, `rt_sigtimedwait`, `rt_sigsuspend`, `epoll_wait`, `pselect6`, `ppoll`,
/// `epoll_pwait`, with the variants for 64-bit times.
const I386_WAITING_CALLS: &[c_long] =
    &[29, 72, 82, 142, 168, 177, 179, 256, 308, 309, 319, 413, 414, 421, 441];

/// Calls that wait until a file or a socket accepts data.
const WRITING_CALLS: &[c_long] = &[
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwritev2,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_splice,
    libc::SYS_sendfile,
];

/// `write`, `writev` and `sendmsg` of 32-bit programs.
const I386_WRITING_CALLS: &[c_long] = &[4, 146, 370];

const I386_SOCKETCALL: c_long = 102;
/// The operations of `socketcall` that receive: `recv`, `recvfrom`, `recvmsg`, `recvmmsg`. The
/// descriptor is in memory.
const RECEIVING_OPERATIONS: &[u64] = &[10, 12, 17, 19];

/// Index of the stack pointer after the number of the call, in `/proc/TID/syscall`.
const STACK_POINTER: usize = 6;

/// What the tracee does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// A thread sleeps in a call that receives from a reserved file descriptor.
    Receiving,
    /// All threads sleep, at least one of them in a call that waits for files or signals.
    Waiting,
    /// All threads sleep, but none in such a call.
    Asleep,
    /// A thread runs.
    Running,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ThreadActivity {
    Receiving,
    Waiting,
    /// The thread waits until a file accepts data, for example a full pipe.
    Writing,
    Asleep,
    Running,
    /// The thread has ended.
    Ended,
}

/// What the tracee's threads do, taken together.
#[derive(Clone, Copy, Default)]
struct ThreadActivities {
    is_receiving: bool,
    is_waiting: bool,
    is_writing: bool,
    /// A thread sleeps in a call that neither receives nor waits for files or signals.
    is_asleep: bool,
    is_running: bool,
}

impl ThreadActivities {
    fn activity(self) -> Activity {
        match (self.is_running, self.is_receiving, self.is_waiting) {
            (true, ..) => Activity::Running,
            (false, true, _) => Activity::Receiving,
            (false, false, true) => Activity::Waiting,
            (false, false, false) => Activity::Asleep,
        }
    }
}

/// Observes the tracee's threads.
pub(crate) struct ActivityObserver {
    tracee: TraceeProcesses,
    reserved: ReservedFds,
    /// The seccomp listener.
    listener: Arc<OwnedFd>,
    /// `/proc/TID/syscall` of the thread that was last seen to receive.
    receiver: Option<File>,
}

impl ActivityObserver {
    pub(crate) fn new(tracee: TraceeProcesses, reserved: ReservedFds, listener: Arc<OwnedFd>) -> Self {
        Self { tracee, reserved, listener, receiver: None }
    }

    /// Returns whether an intercepted call waits to be handled: the thread that makes it sleeps.
    pub(crate) fn has_pending_call(&self) -> bool {
        is_ready(self.listener.as_fd(), PollFlags::IN) == Ok(true)
    }

    /// Returns what the tracee does now.
    pub(crate) fn observe(&mut self) -> Activity {
        if let Some(file) = &self.receiver
            && self.thread_activity(file) == Some(ThreadActivity::Receiving)
        {
            return Activity::Receiving;
        }
        self.observe_threads(true).activity()
    }

    /// Returns what the tracee does now: [`Activity::Running`] if any thread runs, even if another
    /// one receives, and [`Activity::Asleep`] if any thread waits until a file accepts data.
    pub(crate) fn observe_all(&mut self) -> Activity {
        match self.observe_threads(false) {
            ThreadActivities { is_running: false, is_writing: true, .. } => Activity::Asleep,
            threads => threads.activity(),
        }
    }

    /// Returns [`Activity::Asleep`] if all threads sleep and any of them neither receives nor waits
    /// for files or signals; otherwise as [`Self::observe`].
    pub(crate) fn observe_sleepers(&mut self) -> Activity {
        match self.observe_threads(false) {
            ThreadActivities { is_running: false, is_asleep: true, .. } => Activity::Asleep,
            threads => threads.activity(),
        }
    }

    fn observe_threads(&mut self, stops_at_receiver: bool) -> ThreadActivities {
        let mut threads = ThreadActivities::default();
        let mut is_alive = false;
        for process in self.tracee.pids() {
            for task in threads_of(process) {
                let file = File::open(format!("/proc/{process}/task/{task}/syscall")).ok();
                let activity = file.as_ref().and_then(|file| self.thread_activity(file));
                match activity.unwrap_or_else(|| activity_by_state(process, task)) {
                    ThreadActivity::Receiving => {
                        threads.is_receiving = true;
                        self.receiver = file;
                        if stops_at_receiver {
                            threads.is_running = false;
                            return threads;
                        }
                    }
                    ThreadActivity::Waiting => threads.is_waiting = true,
                    ThreadActivity::Writing => {
                        threads.is_writing = true;
                        threads.is_asleep = true;
                    }
                    ThreadActivity::Asleep => threads.is_asleep = true,
                    ThreadActivity::Running => threads.is_running = true,
                    ThreadActivity::Ended => continue,
                }
                is_alive = true;
            }
        }
        threads.is_running |= !is_alive;
        threads
    }

    /// Returns the CPU time that the tracee's threads have used.
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = self.tracee.pids().into_iter().flat_map(|process| {
            threads_of(process).into_iter().map(move |task| format!("/proc/{process}/task/{task}/schedstat"))
        });
        let nanos = tasks.filter_map(|path| {
            let schedstat = fs::read_to_string(path).ok()?;
            schedstat.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Returns what the thread of a `/proc/TID/syscall` does; `None` if that file is not readable.
    fn thread_activity(&self, file: &File) -> Option<ThreadActivity> {
        let mut bytes = [0; 256];
        let len = match file.read_at(&mut bytes, 0) {
            Ok(len) => len,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Some(ThreadActivity::Ended),
            Err(_) => return None,
        };
        Some(parse_syscall(&String::from_utf8_lossy(&bytes[..len]), &self.reserved))
    }
}

/// Parses `/proc/TID/syscall`: `running`, or the number of the call, its arguments, the stack
/// pointer and the program counter.
fn parse_syscall(line: &str, reserved: &ReservedFds) -> ThreadActivity {
    let mut words = line.split_ascii_whitespace();
    let Some(first) = words.next() else { return ThreadActivity::Ended };
    // A thread that sleeps outside a call has number -1.
    let Ok(number) = first.parse::<c_long>() else { return ThreadActivity::Running };
    let mut words = words.map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    let argument = words.next().flatten();
    let is_reserved = || argument.is_some_and(|fd| reserved.contains(fd as u32));
    // The stack of a 64-bit program is above 4 GiB.
    let is_32_bit = cfg!(target_arch = "x86_64")
        && words.nth(STACK_POINTER - 1).flatten().is_some_and(|stack| u32::try_from(stack).is_ok());
    if is_32_bit {
        return i386_activity(number, argument, is_reserved());
    }
    if RECEIVING_CALLS.contains(&number) && is_reserved() {
        ThreadActivity::Receiving
    } else if WAITING_CALLS.iter().any(|calls| calls.contains(&number)) {
        ThreadActivity::Waiting
    } else if WRITING_CALLS.contains(&number) {
        ThreadActivity::Writing
    } else {
        ThreadActivity::Asleep
    }
}

/// Returns what a thread of a 32-bit program does in a call.
fn i386_activity(number: c_long, first: Option<u64>, is_reserved: bool) -> ThreadActivity {
    let receives = I386_RECEIVING_CALLS.contains(&number);
    let receives_by_socketcall =
        number == I386_SOCKETCALL && first.is_some_and(|operation| RECEIVING_OPERATIONS.contains(&operation));
    if receives && is_reserved {
        ThreadActivity::Receiving
    } else if receives_by_socketcall || I386_WAITING_CALLS.contains(&number) {
        ThreadActivity::Waiting
    } else if I386_WRITING_CALLS.contains(&number) {
        ThreadActivity::Writing
    } else {
        ThreadActivity::Asleep
    }
}

/// Returns what a thread does by its state. A thread that sleeps may wait for an event.
fn activity_by_state(process: u32, task: u32) -> ThreadActivity {
    match stat_fields(format_args!("{process}/task/{task}")) {
        None => ThreadActivity::Ended,
        Some(stat) if stat.starts_with(['R', 'D']) => ThreadActivity::Running,
        Some(stat) if stat.starts_with(['Z', 'X']) => ThreadActivity::Ended,
        Some(_) => ThreadActivity::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_in_which_a_thread_sleeps_says_what_it_waits_for() {
        let reserved = ReservedFds { ranges: vec![960..1024, 224..248] };
        let rest = "0x7ffc0 0x1000 0x0 0x0 0x0 0x7ffc00001000 0x7f001";
        for (nr, fd, expected) in [
            (libc::SYS_recvfrom, 960, ThreadActivity::Receiving),
            (libc::SYS_read, 1023, ThreadActivity::Receiving),
            (libc::SYS_read, 3, ThreadActivity::Asleep),
            (libc::SYS_ppoll, 3, ThreadActivity::Waiting),
            (libc::SYS_epoll_pwait, 960, ThreadActivity::Waiting),
            (libc::SYS_nanosleep, 960, ThreadActivity::Asleep),
            (libc::SYS_wait4, 1, ThreadActivity::Asleep),
            (libc::SYS_write, 1, ThreadActivity::Writing),
        ] {
            assert_eq!(parse_syscall(&format!("{nr} {fd:#x} {rest}\n"), &reserved), expected, "{nr} {fd}");
        }
        // The stack of a 32-bit program is below 4 GiB.
        let rest = "0xffc0 0x1000 0x0 0x0 0x0 0xffc01000 0xf7f01000";
        for (nr, first, expected) in [
            (371, 960, ThreadActivity::Receiving),
            (417, 960, ThreadActivity::Receiving),
            (371, 3, ThreadActivity::Asleep),
            (102, 10, ThreadActivity::Waiting),
            (102, 9, ThreadActivity::Asleep),
            (168, 3, ThreadActivity::Waiting),
            (4, 1, ThreadActivity::Writing),
            // `waitpid`, which is `poll` in the other ABI.
            (7, 960, ThreadActivity::Asleep),
        ] {
            let activity = parse_syscall(&format!("{nr} {first:#x} {rest}\n"), &reserved);
            let expected = if cfg!(target_arch = "x86_64") { expected } else { activity };
            assert_eq!(activity, expected, "{nr} {first}");
        }
        assert_eq!(parse_syscall("running\n", &reserved), ThreadActivity::Running);
        assert_eq!(parse_syscall("-1 0x7ffc1 0x7f001\n", &reserved), ThreadActivity::Asleep);
        assert_eq!(parse_syscall("", &reserved), ThreadActivity::Ended);
    }
}
