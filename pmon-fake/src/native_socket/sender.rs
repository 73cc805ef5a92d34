//! A socket whose messages the kernel repeats as its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, connect, recv, send};

use super::tag_filter::Tag;

/// Length of a `nlmsghdr`.
const HEADER_LEN: usize = 16;
/// The lowest message type that the kernel does not take as a control message (`NLMSG_MIN_TYPE`).
const MESSAGE_TYPE: u16 = 16;
/// The flag of a message that the kernel handles (`NLM_F_REQUEST`).
const REQUEST: u16 = 1;
/// The maximum length of a message with what the kernel appends (`UEVENT_BUFFER_SIZE`).
const MAX_MESSAGE: usize = 2048;
/// Length of what the kernel appends: `SEQNUM=`, up to 20 digits, and a zero byte.
const MAX_TAIL: usize = 28;

/// The maximum length of a datagram in bytes.
pub(super) const MAX_DATAGRAM: usize = MAX_MESSAGE - HEADER_LEN - Tag::LEN - MAX_TAIL;

/// Sends datagrams to the sockets of a `NetNamespace`, from port 0.
#[derive(Debug)]
pub(super) struct KernelSender {
    socket: OwnedFd,
    /// A reused buffer for the message: its header, the datagram, and the tag.
    message: Vec<u8>,
}

impl KernelSender {
    /// Turns an unbound socket of the namespace into a sender.
    ///
    /// # Errors
    /// Returns the error of `connect`.
    pub(super) fn new(socket: OwnedFd) -> Result<Self, Errno> {
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, message: Vec::with_capacity(256) })
    }

    /// Sends a datagram to the sockets with a tag; one whose buffer is full drops it.
    ///
    /// A datagram of length 0 has no effect.
    ///
    /// # Errors
    /// `EMSGSIZE` for a datagram of more than [`MAX_DATAGRAM`] bytes, or the error of `send`. The
    /// kernel's refusal is not reported here, but by `take_error`.
    pub(super) fn send(&mut self, tag: Tag, datagram: &[u8]) -> Result<(), Errno> {
        let message = message(&mut self.message, tag, datagram)?;
        retry_on_intr(|| send(&self.socket, message, SendFlags::NOSIGNAL)).map(|_| ())
    }

    /// Returns the kernel's refusal of an earlier datagram: `EPERM` if the effective user id has
    /// changed, `ENOMEM` if the kernel had no memory.
    ///
    /// # Errors
    /// That error.
    pub(super) fn take_error(&mut self) -> Result<(), Errno> {
        let mut reply = [0; 64];
        let (len, _) = match retry_on_intr(|| recv(&self.socket, &mut reply[..], RecvFlags::DONTWAIT)) {
            Err(Errno::AGAIN) => return Ok(()),
            received => received?,
        };
        // An NLMSG_ERROR: the header, then the errno as a negative number.
        let errno = reply[..len].get(HEADER_LEN..HEADER_LEN + 4).and_then(|errno| errno.try_into().ok());
        match errno.map(i32::from_ne_bytes) {
            Some(errno @ -4095..=-1) => Err(Errno::from_raw_os_error(-errno)),
            _ => Err(Errno::PROTO),
        }
    }
}

impl AsFd for KernelSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Writes the message of a datagram to `buffer`.
pub(super) fn message<'a>(buffer: &'a mut Vec<u8>, tag: Tag, datagram: &[u8]) -> Result<&'a [u8], Errno> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(Errno::MSGSIZE);
    }
    let len = HEADER_LEN + datagram.len() + Tag::LEN;
    buffer.clear();
    buffer.extend((len as u32).to_ne_bytes());
    buffer.extend(MESSAGE_TYPE.to_ne_bytes());
    buffer.extend(REQUEST.to_ne_bytes());
    // The sequence number and the port, which have no meaning here.
    buffer.extend([0; 8]);
    buffer.extend(datagram);
    buffer.extend(tag.bytes());
    Ok(buffer)
}
