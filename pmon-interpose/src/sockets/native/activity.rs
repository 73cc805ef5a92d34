//! What the tracee's threads do: whether they wait for an event, sleep otherwise, or run.
//!
//! No intercepted call shows that the tracee waits on a native socket. `/proc/TID/syscall` names
//! the call in which a thread sleeps.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use libc::c_long;

use crate::seccomp::fd_numbers::ReservedFds;
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
    Asleep,
    Running,
    /// The thread has ended.
    Ended,
}

/// Observes the tracee's threads.
pub(crate) struct ActivityObserver {
    tracee: TraceeProcesses,
    reserved: ReservedFds,
    /// `/proc/TID/syscall` of the thread that was last seen to receive.
    receiver: Option<File>,
}

impl ActivityObserver {
    pub(crate) fn new(tracee: TraceeProcesses, reserved: ReservedFds) -> Self {
        Self { tracee, reserved, receiver: None }
    }

    /// Returns what the tracee does now.
    pub(crate) fn observe(&mut self) -> Activity {
        if let Some(file) = &self.receiver
            && self.thread_activity(file) == Some(ThreadActivity::Receiving)
        {
            return Activity::Receiving;
        }
        self.observe_threads(true)
    }

    /// Returns what the tracee does now; [`Activity::Running`] if any thread runs, even if another
    /// one receives.
    pub(crate) fn observe_all(&mut self) -> Activity {
        self.observe_threads(false)
    }

    fn observe_threads(&mut self, stops_at_receiver: bool) -> Activity {
        let (mut is_receiving, mut is_waiting, mut is_running, mut is_alive) = (false, false, false, false);
        for process in self.tracee.pids() {
            for task in threads_of(process) {
                let file = File::open(format!("/proc/{process}/task/{task}/syscall")).ok();
                let activity = file.as_ref().and_then(|file| self.thread_activity(file));
                match activity.unwrap_or_else(|| activity_by_state(process, task)) {
                    ThreadActivity::Receiving => {
                        is_receiving = true;
                        self.receiver = file;
                        if stops_at_receiver {
                            return Activity::Receiving;
                        }
                    }
                    ThreadActivity::Waiting => is_waiting = true,
                    ThreadActivity::Asleep => {}
                    ThreadActivity::Running => is_running = true,
                    ThreadActivity::Ended => continue,
                }
                is_alive = true;
            }
        }
        match (is_running || !is_alive, is_receiving, is_waiting) {
            (true, ..) => Activity::Running,
            (false, true, _) => Activity::Receiving,
            (false, false, true) => Activity::Waiting,
            (false, false, false) => Activity::Asleep,
        }
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

/// Parses `/proc/TID/syscall`: `running`, or the number of the call and its arguments.
fn parse_syscall(line: &str, reserved: &ReservedFds) -> ThreadActivity {
    let mut words = line.split_ascii_whitespace();
    let Some(first) = words.next() else { return ThreadActivity::Ended };
    // A thread that sleeps outside a call has number -1.
    let Ok(number) = first.parse::<c_long>() else { return ThreadActivity::Running };
    let argument = words.next().and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    let is_reserved = || argument.is_some_and(|fd| reserved.contains(fd as u32));
    if RECEIVING_CALLS.contains(&number) && is_reserved() {
        ThreadActivity::Receiving
    } else if WAITING_CALLS.iter().any(|calls| calls.contains(&number)) {
        ThreadActivity::Waiting
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
        let rest = "0x7ffc0 0x1000 0x0 0x0 0x0 0x7ffc1 0x7f001";
        for (nr, fd, expected) in [
            (libc::SYS_recvfrom, 960, ThreadActivity::Receiving),
            (libc::SYS_read, 1023, ThreadActivity::Receiving),
            (libc::SYS_read, 3, ThreadActivity::Asleep),
            (libc::SYS_ppoll, 3, ThreadActivity::Waiting),
            (libc::SYS_epoll_pwait, 960, ThreadActivity::Waiting),
            (libc::SYS_nanosleep, 960, ThreadActivity::Asleep),
            (libc::SYS_write, 1, ThreadActivity::Asleep),
        ] {
            assert_eq!(parse_syscall(&format!("{nr} {fd:#x} {rest}\n"), &reserved), expected, "{nr} {fd}");
        }
        assert_eq!(parse_syscall("running\n", &reserved), ThreadActivity::Running);
        assert_eq!(parse_syscall("-1 0x7ffc1 0x7f001\n", &reserved), ThreadActivity::Asleep);
        assert_eq!(parse_syscall("", &reserved), ThreadActivity::Ended);
    }
}
