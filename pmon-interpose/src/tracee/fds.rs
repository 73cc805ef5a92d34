//! The file descriptors of tasks that made a call.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, readlinkat, stat, statat};
use rustix::io::Errno;
use rustix::path::DecInt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::tracee::processes::{tgid_of, threads_of};

/// Maximum number of `/proc/TID/fd` directories that are kept open.
const MAX_OPEN_DIRECTORIES: usize = 64;

/// Identifies a file by its device and its inode number.
pub(crate) type FileId = (u64, u64);

pub(crate) fn file_id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}

/// A cache of the open `/proc/TID/fd` directories of tasks, by thread id.
#[derive(Default)]
pub(crate) struct TaskFds(HashMap<u32, OwnedFd>);

impl TaskFds {
    /// Returns the status of the file behind a descriptor; `ENOENT` if the descriptor is closed.
    pub(crate) fn stat(&mut self, task: u32, fd: u32) -> Result<Stat, Errno> {
        self.with_directory(task, |directory| statat(directory, DecInt::new(fd), AtFlags::empty()))
    }

    /// Returns the path of the file behind a descriptor.
    pub(crate) fn path(&mut self, task: u32, fd: u32) -> Result<Vec<u8>, Errno> {
        let link =
            self.with_directory(task, |directory| readlinkat(directory, DecInt::new(fd), Vec::new()))?;
        Ok(link.into_bytes())
    }

    fn with_directory<R>(
        &mut self,
        task: u32,
        act: impl Fn(&OwnedFd) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        if let Some(directory) = self.0.get(&task) {
            match act(directory) {
                // Nothing is found in the directory of a task that has ended. Another task may have
                // got its id since: open the directory again.
                Err(Errno::NOENT | Errno::SRCH) => self.0.remove(&task),
                done => return done,
            };
        }
        if self.0.len() >= MAX_OPEN_DIRECTORIES {
            self.0.clear();
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("/proc/{task}/fd");
        let directory = match openat(CWD, &*path, flags, Mode::empty()) {
            // The cached directories may use up this process's limit on open files.
            Err(Errno::MFILE) if !self.0.is_empty() => {
                self.0.clear();
                openat(CWD, &*path, flags, Mode::empty())
            }
            opened => opened,
        }?;
        let done = act(&directory);
        self.0.insert(task, directory);
        done
    }
}

/// Duplicates a task's file descriptor into this process.
pub(crate) fn duplicate_fd(task: u32, fd: u32) -> Result<OwnedFd, Errno> {
    let get_from = |pid: u32, flags| {
        let process = pidfd_open(Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?, flags)?;
        pidfd_getfd(process.as_fd(), fd as i32, PidfdGetfdFlags::empty())
    };
    let duplicated = match get_from(task, PidfdFlags::empty()) {
        // The task is not the main thread of its process.
        Err(Errno::INVAL | Errno::NOENT) => get_from(tgid_of(task)?, PidfdFlags::empty()),
        duplicated => duplicated,
    };
    match duplicated {
        // A main thread that has ended has no files. Since Linux 6.9, another thread can be opened.
        Err(Errno::SRCH | Errno::BADF) => get_from(task, PidfdFlags::from_bits_retain(libc::PIDFD_THREAD)),
        duplicated => duplicated,
    }
}

/// Returns whether a task's file descriptor has `FD_CLOEXEC`.
pub(crate) fn is_closed_on_exec(task: u32, fd: u32) -> Result<bool, Errno> {
    let info = fs::read_to_string(format!("/proc/{task}/fdinfo/{fd}")).map_err(|_closed| Errno::BADF)?;
    let flags =
        info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    Ok(flags.is_some_and(|flags| flags & libc::O_CLOEXEC as u32 != 0))
}

/// Returns the open files of a process, each with its descriptor.
pub(crate) fn open_files(process: u32) -> impl Iterator<Item = (u32, FileId)> {
    let files = |task: u32| {
        let fds = fs::read_dir(format!("/proc/{process}/task/{task}/fd")).into_iter().flatten();
        fds.filter_map(|fd| {
            let fd = fd.ok()?;
            Some((fd.file_name().to_str()?.parse().ok()?, file_id(&stat(fd.path()).ok()?)))
        })
    };
    // A main thread that has ended has no files.
    let tasks = std::iter::once(process).chain(threads_of(process));
    let found = tasks.map(|task| files(task).collect::<Vec<_>>()).find(|files| !files.is_empty());
    found.unwrap_or_default().into_iter()
}
