//! Sockets that send frames to the sockets of a namespace.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{RecvFlags, SendFlags, bind, recv, sendto};

use super::frame::{HEADER, MAX_DATAGRAM, push_kernel_frame, user_frame};
use super::sys::{self, BATCH};

/// Sends datagrams from port 0: the kernel repeats its frames as its own.
#[derive(Debug)]
pub struct KernelSender {
    socket: OwnedFd,
    /// The frames to send, one after the other, and their ends.
    frames: Vec<u8>,
    ends: Vec<usize>,
}

impl KernelSender {
    /// Turns an unbound socket of the namespace into a sender.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, frames: Vec::new(), ends: Vec::with_capacity(BATCH) }
    }

    /// Adds a datagram to the batch, for the sockets with a tag. A full batch is sent.
    ///
    /// A datagram of length 0 has no effect.
    ///
    /// # Errors
    /// `EMSGSIZE` for a datagram of more than [`MAX_DATAGRAM`] bytes, or the error of
    /// [`KernelSender::flush`].
    pub fn queue(&mut self, tag: u32, datagram: &[u8]) -> Result<(), Errno> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(Errno::MSGSIZE);
        }
        push_kernel_frame(&mut self.frames, tag, datagram);
        self.ends.push(self.frames.len());
        if self.ends.len() == BATCH { self.flush() } else { Ok(()) }
    }

    /// Sends the batch. A socket whose buffer is full drops its datagrams.
    ///
    /// # Errors
    /// Returns the error of `sendmmsg`; the rest of the batch is lost. The kernel's refusal is not
    /// reported here, but by [`KernelSender::take_error`].
    pub fn flush(&mut self) -> Result<(), Errno> {
        let (mut sent, mut start, mut result) = (0, 0, Ok(()));
        while sent < self.ends.len() && result.is_ok() {
            let batch = || sys::send_batch(self.socket.as_fd(), &self.frames, start, &self.ends[sent..]);
            result = retry_on_intr(batch).map(|count| {
                sent += count;
                start = self.ends[sent - 1];
            });
        }
        self.frames.clear();
        self.ends.clear();
        result
    }

    /// Sends the batch, and a datagram at once.
    ///
    /// # Errors
    /// As [`KernelSender::queue`].
    pub fn send(&mut self, tag: u32, datagram: &[u8]) -> Result<(), Errno> {
        self.queue(tag, datagram)?;
        self.flush()
    }

    /// Returns the kernel's refusal of an earlier datagram: `EPERM` if the effective user id has
    /// changed, `ENOMEM` if the kernel had no memory.
    ///
    /// # Errors
    /// That error.
    pub fn take_error(&mut self) -> Result<(), Errno> {
        let mut reply = [0; 64];
        let (len, _) = match retry_on_intr(|| recv(&self.socket, &mut reply[..], RecvFlags::DONTWAIT)) {
            Err(Errno::AGAIN) => return Ok(()),
            received => received?,
        };
        // An NLMSG_ERROR: the header, then the errno as a negative number.
        let errno = reply[..len].get(HEADER..HEADER + 4).and_then(|errno| errno.try_into().ok());
        match errno.map(i32::from_ne_bytes) {
            Some(errno @ -4095..=-1) => Err(Errno::from_raw_os_error(-errno)),
            _ => Err(Errno::PROTO),
        }
    }
}

/// Sends datagrams from a port of user space.
#[derive(Debug)]
pub struct UserSender(OwnedFd);

impl UserSender {
    /// Turns an unbound socket of the namespace into a sender.
    ///
    /// # Errors
    /// Returns the error of `setsockopt`.
    pub fn new(socket: OwnedFd) -> Result<Self, Errno> {
        // A frame is longer than its datagram.
        set_socket_send_buffer_size(&socket, i32::MAX as usize)?;
        Ok(Self(socket))
    }

    /// Binds the sender to its port.
    ///
    /// # Errors
    /// `EADDRINUSE` if another socket of the namespace has the port.
    pub fn bind(&self, port: u32) -> Result<(), Errno> {
        bind(&self.0, &SocketAddrNetlink::new(port, 0))
    }

    /// Sends a datagram to the socket with a tag, which must be among the receivers at `to`.
    ///
    /// # Errors
    /// Returns the error of `sendto`: `EAGAIN` if the buffer of a single receiver is full.
    pub fn send(&self, to: SocketAddrNetlink, tag: u32, datagram: &[u8]) -> Result<(), Errno> {
        let frame = user_frame(tag, datagram);
        match retry_on_intr(|| sendto(&self.0, &frame, SendFlags::DONTWAIT, &to)) {
            // After a multicast, the kernel sends the datagram to a port as well; or no socket of
            // the namespace has accepted it.
            Ok(_) | Err(Errno::CONNREFUSED | Errno::SRCH) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
