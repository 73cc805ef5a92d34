//! The descriptors that `pidfd_open` returns for recorded processes.
//!
//! Each is the reading end of a pipe, which becomes readable when the process ends. Only
//! `pidfd_send_signal` recognizes the descriptor as a pidfd.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::sys::is_ready;
use crate::tracee::fds::{FileId, file_id};
use crate::world::{ProcessView, TaskInfo};

/// The pidfds that the tracee has opened.
#[derive(Default)]
pub(crate) struct PidFdTable(Vec<EmulatedPidFd>);

struct EmulatedPidFd {
    id: u32,
    /// [`TaskInfo::forked`] of the process: distinguishes it from a later one with the same id.
    forked: Option<u64>,
    state: PidState,
    /// The pipe. Its writing end is here.
    file: FileId,
    writer: OwnedFd,
}

/// The state of the process behind a pidfd.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PidState {
    Running,
    Zombie,
    Reaped,
}

impl PidFdTable {
    /// Executes `pidfd_open` for an existing task.
    pub(crate) fn open(
        &mut self,
        call: &InterceptedCall<'_>,
        view: &dyn ProcessView,
        info: &TaskInfo,
    ) -> Reply {
        let [id, flags, ..] = call.args().map(|arg| arg as u32);
        if flags & !(libc::PIDFD_NONBLOCK | libc::PIDFD_THREAD) != 0 {
            return Errno::INVAL.into();
        }
        // Linux 6.18 returns this error for a thread that is not the main one.
        if flags & libc::PIDFD_THREAD == 0 && view.pids().binary_search(&id).is_err() {
            return Errno::NOENT.into();
        }
        // A hang-up means that the tracee has closed the descriptor.
        self.0.retain(|pidfd| is_ready(pidfd.writer.as_fd(), PollFlags::empty()) != Ok(true));
        let open = || -> Result<EmulatedPidFd, Errno> {
            let nonblock =
                if flags & libc::PIDFD_NONBLOCK != 0 { PipeFlags::NONBLOCK } else { PipeFlags::empty() };
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | nonblock)?;
            let file = file_id(&fstat(&reader)?);
            call.return_fd(&reader, None, true)?;
            Ok(EmulatedPidFd { id, forked: info.forked, state: PidState::Running, file, writer })
        };
        match open() {
            Ok(pidfd) => self.0.push(pidfd),
            Err(Errno::NOENT) => {}
            Err(error) => return error.into(),
        }
        Reply::Deferred
    }

    /// Returns whether the tracee has never opened a pidfd of a recorded process.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the pidfds of processes that have ended readable.
    pub(crate) fn update(&mut self, view: &dyn ProcessView) {
        for pidfd in self.0.iter_mut().filter(|pidfd| pidfd.state != PidState::Reaped) {
            let state = match view.task(pidfd.id).filter(|info| info.forked == pidfd.forked) {
                None => PidState::Reaped,
                Some(info) if info.is_zombie => PidState::Zombie,
                // A zombie does not run again.
                Some(_) => pidfd.state,
            };
            if pidfd.state == PidState::Running && state != PidState::Running {
                // An empty pipe takes a byte.
                let _ = rustix::io::write(&pidfd.writer, &[0]);
            }
            pidfd.state = state;
        }
    }

    /// Returns whether the process behind a descriptor exists, if only as a zombie; `None` if the
    /// descriptor is not in this table.
    pub(crate) fn process_exists(&self, call: &mut InterceptedCall<'_>, fd: u32) -> Option<bool> {
        if self.0.is_empty() {
            return None;
        }
        let file = file_id(&call.stat(fd).ok()?);
        self.0.iter().find(|pidfd| pidfd.file == file).map(|pidfd| pidfd.state != PidState::Reaped)
    }
}
