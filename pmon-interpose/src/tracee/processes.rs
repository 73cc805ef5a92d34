//! The tracee's processes, by their ids in this process's PID namespace, and the status of their
//! tasks.

use std::fmt::Display;
use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Threads, each with its number of context switches.
pub(crate) type ThreadSwitches = Vec<(u32, u64)>;

/// The descendants of the `init` process of the tracee's PID namespace.
#[derive(Clone, Copy)]
pub(crate) struct TraceeProcesses {
    pub(crate) init: u32,
}

impl TraceeProcesses {
    /// Returns all processes but `init`.
    pub(crate) fn pids(self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut parents = vec![self.init];
        while let Some(parent) = parents.pop() {
            for task in threads_of(parent) {
                let children = fs::read_to_string(format!("/proc/{parent}/task/{task}/children"));
                let children: Vec<u32> = children
                    .unwrap_or_default()
                    .split_whitespace()
                    .filter_map(|child| child.parse().ok())
                    .collect();
                found.extend(&children);
                parents.extend(&children);
            }
        }
        found
    }

    /// Sends a signal to those of `pids` that are in the tree; fails if no process was reached.
    pub(crate) fn signal(self, signal: Signal, pids: Vec<u32>) -> Result<(), Errno> {
        let send = |pid| {
            let process = Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?;
            let process = pidfd_open(process, PidfdFlags::empty())?;
            // The id may have been reused by a foreign process before it was opened.
            let is_in_tree = self.pids().contains(&pid);
            if is_in_tree { pidfd_send_signal(process, signal) } else { Err(Errno::SRCH) }
        };
        let mut result = Err(Errno::SRCH);
        for pid in pids {
            result = send(pid).or(result);
        }
        result
    }

    /// Returns the threads of all processes and their numbers of context switches; `None` if a
    /// thread does not sleep.
    pub(crate) fn switches_asleep(self) -> Option<ThreadSwitches> {
        let mut switches = Vec::new();
        for process in self.pids() {
            for task in threads_of(process) {
                // A thread that has ended meanwhile is left out.
                let Ok(status) = read_status(task) else { continue };
                let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
                if field("State:").is_none_or(|state| state.trim_start().starts_with(['R', 'D'])) {
                    return None;
                }
                let count = |name| field(name).and_then(|count| count.trim().parse::<u64>().ok());
                let (voluntary, other) =
                    (count("voluntary_ctxt_switches:"), count("nonvoluntary_ctxt_switches:"));
                switches.push((task, voluntary.unwrap_or(0) + other.unwrap_or(0)));
            }
        }
        Some(switches)
    }

    /// Returns whether all threads of all processes sleep.
    pub(crate) fn is_asleep(self) -> bool {
        self.pids().into_iter().all(|process| {
            threads_of(process).into_iter().all(|task| {
                let stat = stat_fields(format_args!("{process}/task/{task}")).unwrap_or_default();
                !stat.starts_with(['R', 'D'])
            })
        })
    }
}

/// Returns the parent of a process if the process is a fork of it that has not called `exec`: both
/// have the same command line.
pub(crate) fn fork_parent(process: u32) -> Option<u32> {
    let parent = stat_fields(process)?.split(' ').nth(1)?.parse().ok()?;
    let command = |process: u32| fs::read(format!("/proc/{process}/cmdline")).ok();
    (command(process)? == command(parent)?).then_some(parent)
}

pub(crate) fn threads_of(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Returns the fields of `/proc/PID/stat` after the name: state, parent, group, and so on. The name
/// itself may contain any character.
pub(crate) fn stat_fields(process: impl Display) -> Option<String> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    String::from_utf8_lossy(&stat).rsplit(") ").next().map(str::to_owned)
}

/// Returns the process of a task; `ESRCH` if the task has ended.
pub(crate) fn tgid_of(task: u32) -> Result<u32, Errno> {
    let status = read_status(task)?;
    let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    tgid.and_then(|tgid| tgid.trim().parse().ok()).ok_or(Errno::SRCH)
}

/// Returns the process group of a process, as an id of this process's PID namespace.
pub(crate) fn group_of(process: u32) -> Result<u32, Errno> {
    stat_fields(process).and_then(|stat| stat.split(' ').nth(2)?.parse().ok()).ok_or(Errno::SRCH)
}

/// The task that makes a call, by its ids in the tracee's PID namespace.
pub(crate) struct Caller {
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    /// Whether the task has `CAP_NET_ADMIN` in its user namespace.
    pub(crate) has_net_admin: bool,
}

impl Caller {
    pub(crate) fn of(task: u32) -> Result<Self, Errno> {
        /// Number of the capability.
        const CAP_NET_ADMIN: u32 = 12;
        let status = read_status(task)?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        // The last id is that of the innermost namespace.
        let id = |name| field(name).and_then(|ids| ids.split_whitespace().last()?.parse().ok());
        let caps = field("CapEff:").and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok());
        Ok(Self {
            tgid: id("NStgid:").unwrap_or(task),
            tid: id("NSpid:").unwrap_or(task),
            has_net_admin: caps.is_some_and(|caps| caps >> CAP_NET_ADMIN & 1 == 1),
        })
    }
}

fn read_status(task: u32) -> Result<String, Errno> {
    fs::read_to_string(format!("/proc/{task}/status")).map_err(|_gone| Errno::SRCH)
}
