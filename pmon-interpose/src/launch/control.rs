//! The messages from the new processes to the supervisor, over a socket pair.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::error::{InterposeError, SetupStep};

// The first byte of a message.
const GO: u8 = b'G';
const PROC_MOUNTED: u8 = b'R';
const LISTENER: u8 = b'L';
const FAILED: u8 = b'F';
const EXITED: u8 = b'E';

/// A failed step of the setup, or of `execve` (`None`), and its error.
pub(crate) type ChildFailure = (Option<SetupStep>, Errno);

/// A message from one of the new processes.
pub(crate) enum ChildMessage {
    /// The program's `/proc` is mounted: its root and that of the kernel's own procfs in it.
    ProcMounted(OwnedFd, OwnedFd),
    /// The program is about to be executed: the seccomp listener.
    Listener(OwnedFd),
    /// The program's first process has exited with this wait status.
    Exited(i32),
    /// A step of the setup failed.
    Failed(InterposeError),
    /// All processes have ended.
    Closed,
}

/// Receives the next message; blocks until there is one.
pub(crate) fn receive_message(control: &OwnedFd) -> ChildMessage {
    let mut fds = Vec::new();
    let mut message = [0; 8];
    let len = receive(control.as_fd(), &mut message, &mut fds).unwrap_or(0);
    let last = fds.pop();
    let number = || i32::from_ne_bytes([message[2], message[3], message[4], message[5]]);
    match (&message[..len], last) {
        ([PROC_MOUNTED, ..], Some(real)) => {
            fds.pop().map_or(ChildMessage::Closed, |root| ChildMessage::ProcMounted(root, real))
        }
        ([LISTENER, ..], Some(listener)) => ChildMessage::Listener(listener),
        ([EXITED, ..], _) => ChildMessage::Exited(number()),
        ([FAILED, step, ..], _) => {
            let errno = Errno::from_raw_os_error(number());
            ChildMessage::Failed(match SetupStep::from_code(*step) {
                Some(step) => InterposeError::Forbidden { step, errno },
                None => InterposeError::Exec(errno),
            })
        }
        _ => ChildMessage::Closed,
    }
}

/// Lets the new process continue.
pub(crate) fn send_go(control: &OwnedFd) -> Result<(), Errno> {
    send(control.as_fd(), &[GO], &[])
}

/// Waits for [`send_go`] in the new process.
pub(crate) fn await_go(control: &OwnedFd) -> Result<(), Errno> {
    let mut message = [0; 8];
    match rustix::io::retry_on_intr(|| rustix::io::read(control, &mut message))? {
        1.. => Ok(()),
        _ => Err(Errno::PIPE),
    }
}

pub(crate) fn send_proc_mounted(
    control: &OwnedFd,
    root: BorrowedFd<'_>,
    real: BorrowedFd<'_>,
) -> Result<(), Errno> {
    send(control.as_fd(), &[PROC_MOUNTED], &[root, real])
}

pub(crate) fn send_listener(control: &OwnedFd, listener: BorrowedFd<'_>) -> Result<(), Errno> {
    send(control.as_fd(), &[LISTENER], &[listener])
}

pub(crate) fn send_exited(control: BorrowedFd<'_>, status: i32) -> Result<(), Errno> {
    let status = status.to_ne_bytes();
    send(control, &[EXITED, 0, status[0], status[1], status[2], status[3]], &[])
}

pub(crate) fn send_failed(control: &OwnedFd, (step, errno): ChildFailure) {
    let errno = errno.raw_os_error().to_ne_bytes();
    let step = step.map_or(0, |step| step as u8);
    // If the supervisor is gone, no process needs the message.
    let _ = send(control.as_fd(), &[FAILED, step, errno[0], errno[1], errno[2], errno[3]], &[]);
}

fn send(socket: BorrowedFd<'_>, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>, message: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(message)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    Ok(received.bytes)
}
