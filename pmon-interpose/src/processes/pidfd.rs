//! File descriptors of the fake kernel's processes, as `pidfd_open` gives them.
//!
//! Each is the end of a pipe: it is readable when the process has ended. Only `pidfd_send_signal` knows it for more than that.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::supervisor::{Answer, Supervisor};
use crate::sys::is_ready;
use crate::sys::{self, Notification};
use crate::tracee::{FileId, file_id};
use crate::world::{ProcessView, TaskInfo};

/// `PIDFD_NONBLOCK`, `PIDFD_THREAD`.
const NONBLOCK: u32 = libc::O_NONBLOCK as u32;
const THREAD: u32 = libc::O_EXCL as u32;

/// See the module.
pub(crate) struct PidFd {
    id: u32,
    forked: Option<u64>,
    has_ended: bool,
    /// Nothing is left of it.
    is_gone: bool,
    /// Which file the program has,
    file: FileId,
    /// and its other end.
    end: OwnedFd,
}

impl Supervisor {
    /// `pidfd_open`, of a task that is there.
    pub(crate) fn open_pidfd(
        &mut self,
        procs: &dyn ProcessView,
        facts: &TaskInfo,
        notification: &Notification,
    ) -> Answer {
        let id = notification.data.args[0] as u32;
        let flags = notification.data.args[1] as u32;
        if flags & !(NONBLOCK | THREAD) != 0 {
            return Answer::Give(Err(Errno::INVAL));
        }
        // As Linux 6.18 has it.
        if flags & THREAD == 0 && procs.pids().binary_search(&id).is_err() {
            return Answer::Give(Err(Errno::NOENT));
        }
        // Those that nobody has any more.
        self.pidfds.retain(|pidfd| is_ready(pidfd.end.as_fd(), PollFlags::empty()) != Ok(true));
        let open = || -> Result<PidFd, Errno> {
            let blocking = if flags & NONBLOCK != 0 { PipeFlags::NONBLOCK } else { PipeFlags::empty() };
            let (theirs, end) = pipe_with(PipeFlags::CLOEXEC | blocking)?;
            let file = file_id(&fstat(&theirs)?);
            sys::answer_with_fd(self.listener.as_fd(), notification.id, theirs.as_fd(), None, true)?;
            Ok(PidFd { id, forked: facts.forked, has_ended: false, is_gone: false, file, end })
        };
        match open() {
            Ok(pidfd) => {
                self.pidfds.push(pidfd);
                Answer::None
            }
            Err(Errno::NOENT) => Answer::None,
            Err(error) => Answer::Give(Err(error)),
        }
    }

    /// Those whose process has ended are readable from now on.
    pub(crate) fn end_pidfds(&mut self, procs: &dyn ProcessView) {
        for pidfd in self.pidfds.iter_mut().filter(|pidfd| !pidfd.is_gone) {
            let found = procs.task(pidfd.id).filter(|facts| facts.forked == pidfd.forked);
            pidfd.is_gone = found.is_none();
            if found.is_none_or(|facts| facts.is_zombie) && !pidfd.has_ended {
                pidfd.has_ended = true;
                // There is room in it.
                let _ = rustix::io::write(&pidfd.end, &[0]);
            }
        }
    }

    /// Whether the process behind a task's file descriptor is there, be it as a zombie; `None` if it is none of the fake kernel's.
    pub(crate) fn finds_by_pidfd(&mut self, task: u32, fd: u32) -> Option<bool> {
        if self.pidfds.is_empty() {
            return None;
        }
        let file = file_id(&self.tasks.stat(task, fd).ok()?);
        self.pidfds.iter().find(|pidfd| pidfd.file == file).map(|pidfd| !pidfd.is_gone)
    }
}
