//! The tracee's processes, by their ids in this process's PID namespace.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::stat;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::tracee::fds::{FileId, file_id};
use crate::tracee::status::stat_fields;

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
        let mut result = Err(Errno::SRCH);
        for pid in pids {
            let process = Pid::from_raw(pid as i32).ok_or(Errno::SRCH);
            let process = process.and_then(|process| pidfd_open(process, PidfdFlags::empty()));
            // The id may have been reused by a foreign process before it was opened.
            let is_in_tree = |_: &OwnedFd| self.pids().contains(&pid);
            let sent = process.map(|process| Some(process).filter(is_in_tree)).and_then(|process| {
                process.map_or(Err(Errno::SRCH), |process| pidfd_send_signal(process, signal))
            });
            result = sent.or(result);
        }
        result
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

/// Returns the open files of a process, each with its descriptor.
pub(crate) fn open_files(process: u32) -> impl Iterator<Item = (u32, FileId)> {
    let fds = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten();
    fds.filter_map(|fd| {
        let fd = fd.ok()?;
        Some((fd.file_name().to_str()?.parse().ok()?, file_id(&stat(fd.path()).ok()?)))
    })
}

/// Returns the parent of a process if the process is a fork of it that has not called `exec`: both
/// have the same command line.
pub(crate) fn fork_parent(process: u32) -> Option<u32> {
    let parent = stat_fields(process)?.split(' ').nth(1)?.parse().ok()?;
    let command = |process: u32| fs::read(format!("/proc/{process}/cmdline")).ok();
    (command(process)? == command(parent)?).then_some(parent)
}

fn threads_of(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}
