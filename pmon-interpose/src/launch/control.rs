//! The messages from the new processes to the supervisor, over a socket pair.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::error::{InterposeError, SetupStep};

// The first byte of a message.
pub(crate) const GO: u8 = b'G';
pub(crate) const PROC_MOUNTED: u8 = b'R';
pub(crate) const LISTENER: u8 = b'L';
pub(crate) const EXITED: u8 = b'E';
const FAILED: u8 = b'F';

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
    let len = receive(control, &mut message, &mut fds).unwrap_or(0);
    let number = || i32::from_ne_bytes([message[2], message[3], message[4], message[5]]);
    match (&message[..len], fds.pop(), fds.pop()) {
        ([PROC_MOUNTED, ..], Some(real), Some(root)) => ChildMessage::ProcMounted(root, real),
        ([LISTENER, ..], Some(listener), _) => ChildMessage::Listener(listener),
        ([EXITED, ..], ..) => ChildMessage::Exited(number()),
        ([FAILED, step, ..], ..) => {
            let errno = Errno::from_raw_os_error(number());
            ChildMessage::Failed(match SetupStep::from_code(*step) {
                Some(step) => InterposeError::Forbidden { step, errno },
                None => InterposeError::Exec(errno),
            })
        }
        _ => ChildMessage::Closed,
    }
}

/// Waits for [`GO`] in the new process.
pub(crate) fn await_go(control: &OwnedFd) -> Result<(), Errno> {
    let mut message = [0; 8];
    match rustix::io::retry_on_intr(|| rustix::io::read(control, &mut message))? {
        1.. => Ok(()),
        _ => Err(Errno::PIPE),
    }
}

/// Sends [`FAILED`].
pub(crate) fn send_failed(control: &OwnedFd, (step, errno): ChildFailure) {
    let step = step.map_or(0, |step| step as u8);
    // If the supervisor is gone, no process needs the message.
    let _ = send_number(control, FAILED, step, errno.raw_os_error());
}

/// Sends a message with a number.
pub(crate) fn send_number(control: impl AsFd, kind: u8, step: u8, number: i32) -> Result<(), Errno> {
    let number = number.to_ne_bytes();
    send(control, &[kind, step, number[0], number[1], number[2], number[3]], &[])
}

/// Sends a message with file descriptors.
pub(crate) fn send(control: impl AsFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(control, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message and its file descriptors; returns the length of the message.
pub(crate) fn receive(control: &OwnedFd, message: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(control, &mut [IoSliceMut::new(message)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    Ok(received.bytes)
}
