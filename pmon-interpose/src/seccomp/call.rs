//! An intercepted call and its task.

use std::os::fd::OwnedFd;

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::seccomp::listener::SeccompListener;
use crate::sys::Notification;
use crate::tracee::fds::{TaskFds, duplicate_fd};
use crate::tracee::memory::TraceeMemory;

/// An intercepted call, with access to the memory and the descriptors of its task.
pub(crate) struct InterceptedCall<'a> {
    pub(crate) notification: Notification,
    pub(crate) listener: &'a SeccompListener,
    pub(crate) tasks: &'a mut TaskFds,
}

impl InterceptedCall<'_> {
    /// Returns the number of the call.
    pub(crate) fn nr(&self) -> i64 {
        self.notification.data.nr.into()
    }

    pub(crate) fn args(&self) -> [u64; 6] {
        self.notification.data.args
    }

    /// Returns the thread id of the task.
    pub(crate) fn task(&self) -> u32 {
        self.notification.pid
    }

    pub(crate) fn memory(&self) -> TraceeMemory {
        TraceeMemory(self.task())
    }

    /// Returns the status of the file behind a descriptor of the task.
    pub(crate) fn stat(&mut self, fd: u32) -> Result<Stat, Errno> {
        self.tasks.stat(self.notification.pid, fd)
    }

    /// Duplicates a descriptor of the task into this process.
    pub(crate) fn duplicate_fd(&self, fd: u32) -> Result<OwnedFd, Errno> {
        duplicate_fd(self.task(), fd)
    }

    /// Lets the call return a new descriptor of the task, as [`SeccompListener::return_fd`] does.
    pub(crate) fn return_fd(
        &self,
        fd: &OwnedFd,
        number: Option<u32>,
        close_on_exec: bool,
    ) -> Result<(), Errno> {
        self.listener.return_fd(self.notification.id, fd, number, close_on_exec)
    }
}
