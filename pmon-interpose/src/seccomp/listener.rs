//! The seccomp listener: intercepted calls and their replies.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::event::PollFlags;
use rustix::fs::Stat;
use rustix::io::Errno;

use crate::sys::{self, Notification};
use crate::tracee::abi::Abi;
use crate::tracee::fds::{TaskFds, duplicate_fd, is_closed_on_exec};
use crate::tracee::memory::TraceeMemory;

/// An intercepted call, with access to the memory and the descriptors of its task.
pub(crate) struct InterceptedCall<'a> {
    /// The call, with the number and the arguments of the native ABI.
    pub(crate) notification: Notification,
    /// The ABI of the call: the layout of the structs in memory.
    pub(crate) abi: Abi,
    pub(crate) listener: Arc<OwnedFd>,
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
        TraceeMemory::with_abi(self.task(), self.abi)
    }

    /// Returns whether the call still waits for its reply. The memory and the descriptors of a task
    /// that is being killed are inaccessible; its call does not wait any more.
    pub(crate) fn is_pending(&self) -> bool {
        sys::is_notification_valid(self.listener.as_fd(), self.notification.id)
    }

    /// Returns the status of the file behind a descriptor of the task.
    pub(crate) fn stat(&mut self, fd: u32) -> Result<Stat, Errno> {
        self.tasks.stat(self.notification.pid, fd)
    }

    /// Duplicates a descriptor of the task into this process.
    pub(crate) fn duplicate_fd(&self, fd: u32) -> Result<OwnedFd, Errno> {
        duplicate_fd(self.task(), fd)
    }

    /// Installs `fd` as the task's file descriptor `number`, or as its lowest free one, and lets
    /// the call return that number. `EBADF` if `number` exceeds the task's limit, `ENOENT` if the
    /// call is not pending any more.
    pub(crate) fn return_fd(&self, fd: &OwnedFd, number: Option<u32>, cloexec: bool) -> Result<(), Errno> {
        sys::add_fd(self.listener.as_fd(), self.notification.id, fd.as_fd(), number, cloexec)
    }

    /// Replaces the task's file descriptor `number` by `fd`. It keeps `FD_CLOEXEC`.
    pub(crate) fn replace_fd(&self, fd: &OwnedFd, number: u32) -> Result<(), Errno> {
        let close_on_exec = is_closed_on_exec(self.task(), number)?;
        sys::replace_fd(self.listener.as_fd(), self.notification.id, fd.as_fd(), number, close_on_exec)
    }
}

/// The reply to an intercepted call.
pub(crate) enum Reply {
    /// The kernel executes the call.
    Continue,
    /// The call returns this result without being executed.
    Return(Result<i64, Errno>),
    /// The call was replied to already, or stays blocked.
    Deferred,
}

impl From<Result<usize, Errno>> for Reply {
    fn from(result: Result<usize, Errno>) -> Self {
        Self::Return(result.map(|value| value as i64))
    }
}

impl From<Errno> for Reply {
    fn from(errno: Errno) -> Self {
        Self::Return(Err(errno))
    }
}

/// The file descriptor from which intercepted calls are received.
pub(crate) struct SeccompListener {
    pub(crate) fd: Arc<OwnedFd>,
    /// The last result that was not delivered because a signal had interrupted the call. If the
    /// task restarts the call, it gets this result.
    undelivered: Option<(Notification, Result<i64, Errno>)>,
}

impl SeccompListener {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        sys::set_sync_wake_up(fd.as_fd());
        Self { fd: Arc::new(fd), undelivered: None }
    }

    /// Receives the next call; blocks until there is one. `ENOENT` if its task has ended.
    pub(crate) fn receive(&self) -> Result<Notification, Errno> {
        sys::receive_notification(self.fd.as_fd())
    }

    /// Returns whether a call can be received now.
    pub(crate) fn is_ready(&self) -> bool {
        sys::is_ready(self.fd.as_fd(), PollFlags::IN) == Ok(true)
    }

    /// Returns whether a call still waits for its reply: its task has not ended and no signal has
    /// interrupted it.
    pub(crate) fn is_pending(&self, id: u64) -> bool {
        sys::is_notification_valid(self.fd.as_fd(), id)
    }

    /// Lets a call return `result`. `ENOENT` if it is not pending any more.
    pub(crate) fn complete(&self, id: u64, result: Result<i64, Errno>) -> Result<(), Errno> {
        sys::send_response(self.fd.as_fd(), id, Some(result))
    }

    /// Replies to a call, and keeps the result if it cannot be delivered.
    pub(crate) fn reply(&mut self, call: &Notification, reply: Reply) -> Result<(), Errno> {
        let result = match reply {
            Reply::Continue => None,
            Reply::Return(result) => Some(result),
            Reply::Deferred => return Ok(()),
        };
        match sys::send_response(self.fd.as_fd(), call.id, result) {
            Err(Errno::NOENT) => {
                self.undelivered = result.map(|result| (*call, result));
                Ok(())
            }
            done => done,
        }
    }

    /// Takes the undelivered result of a call that the task has restarted.
    pub(crate) fn take_undelivered(&mut self, call: &Notification) -> Option<Result<i64, Errno>> {
        let identity = |of: &Notification| (of.pid, of.data.nr, of.data.args);
        let restarted = self.undelivered.take_if(|(before, _)| identity(before) == identity(call));
        restarted.map(|(_, result)| result)
    }
}
