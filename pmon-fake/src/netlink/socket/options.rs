//! The options of a socket: `setsockopt` and `getsockopt`.

use rustix::io::Errno;

use super::Socket;
use crate::netlink::connector::lock;
use crate::netlink::filter::{ClassicFilter, SockFilter};
use crate::netlink::receive_queue::MemInfo;

/// Socket options.
impl Socket {
    /// Sets `SO_RCVBUF`: the kernel doubles `bytes` and limits the result to twice
    /// `net.core.rmem_max`.
    pub fn set_rcvbuf(&mut self, bytes: i32) {
        let mut connector = lock(&self.connector);
        let rmem_max = connector.rmem_max;
        connector.sockets[self.id].queue.set_rcvbuf(bytes, Some(rmem_max));
    }

    /// Sets `SO_RCVBUFFORCE`: the kernel doubles `bytes`, without a limit.
    ///
    /// # Errors
    /// `EPERM` without privileges.
    pub fn force_rcvbuf(&mut self, bytes: i32) -> Result<(), Errno> {
        let mut connector = lock(&self.connector);
        let socket = &mut connector.sockets[self.id];
        if !socket.privileged {
            return Err(Errno::PERM);
        }
        socket.queue.set_rcvbuf(bytes, None);
        Ok(())
    }

    /// Sets `SO_SNDBUF`, which limits the length of the datagrams that this socket sends: the
    /// kernel doubles `bytes` and limits the result to twice `net.core.wmem_max`.
    pub fn set_sndbuf(&mut self, bytes: i32) {
        self.with(|socket| socket.send_buffer.set(bytes, false));
    }

    /// Sets `SO_SNDBUFFORCE`: the kernel doubles `bytes`, without a limit.
    ///
    /// # Errors
    /// `EPERM` without privileges.
    pub fn force_sndbuf(&mut self, bytes: i32) -> Result<(), Errno> {
        self.with(|socket| {
            if !socket.privileged {
                return Err(Errno::PERM);
            }
            socket.send_buffer.set(bytes, true);
            Ok(())
        })
    }

    /// Returns `SO_SNDBUF`.
    pub fn sndbuf(&self) -> u32 {
        self.with(|socket| socket.send_buffer.bytes)
    }

    /// Sets `NETLINK_NO_ENOBUFS`: overruns cause neither `ENOBUFS` nor congestion.
    pub fn set_no_enobufs(&mut self, on: bool) {
        self.with(|socket| socket.queue.set_no_enobufs(on));
    }

    /// Returns whether `NETLINK_NO_ENOBUFS` is set.
    pub fn no_enobufs(&self) -> bool {
        lock(&self.connector).sockets[self.id].queue.no_enobufs
    }

    /// Returns `SO_MEMINFO`.
    pub fn memory(&self) -> MemInfo {
        lock(&self.connector).sockets[self.id].queue.memory
    }

    /// Returns and clears `SO_ERROR`, the error that the next call would have failed with.
    pub fn take_error(&mut self) -> Option<Errno> {
        self.with(|socket| socket.queue.take_error())
    }

    /// Lets the next call fail with `error`, which replaces a pending error (`sk_err`). The kernel
    /// does so when `recvmmsg` fails after it has received datagrams.
    pub fn set_error(&mut self, error: Errno) {
        self.with(|socket| {
            socket.queue.error = Some(error);
            socket.queue.notify_waiter();
        });
    }

    /// Sets `SO_ATTACH_FILTER`: runs `program`, a classic BPF filter, on each datagram that is sent
    /// to this socket.
    ///
    /// The program returns the maximum length to queue. A datagram for which it returns 0 is not
    /// queued; that is neither a drop nor an error of the sender. A new program replaces the
    /// previous one.
    ///
    /// # Errors
    /// `EPERM` if the filter is locked. `EINVAL` if the program is empty or has more than 4096
    /// instructions, has an unknown instruction, jumps beyond its end, divides by the constant 0,
    /// reads a memory cell that may be unwritten, or does not end with a return; the previous
    /// program then stays attached.
    pub fn attach_filter(&mut self, program: &[SockFilter]) -> Result<(), Errno> {
        let mut connector = lock(&self.connector);
        if connector.sockets[self.id].filter_is_locked {
            return Err(Errno::PERM);
        }
        connector.attach_filter(self.id, ClassicFilter::new(program)?);
        Ok(())
    }

    /// Sets `SO_DETACH_FILTER`.
    ///
    /// # Errors
    /// `EPERM` if the filter is locked, `ENOENT` if there is none.
    pub fn detach_filter(&mut self) -> Result<(), Errno> {
        self.with(|socket| {
            if socket.filter_is_locked {
                return Err(Errno::PERM);
            }
            socket.filter.take().map(drop).ok_or(Errno::NOENT)
        })
    }

    /// Returns `SO_GET_FILTER`, the program as it was attached.
    pub fn filter(&self) -> Option<Box<[SockFilter]>> {
        lock(&self.connector).sockets[self.id].filter.as_ref().map(|filter| filter.program.clone())
    }

    /// Sets `SO_LOCK_FILTER`: the filter, or its absence, can no longer be changed.
    ///
    /// # Errors
    /// `EPERM` if the filter is locked and `on` is false.
    pub fn lock_filter(&mut self, on: bool) -> Result<(), Errno> {
        self.with(|socket| {
            if socket.filter_is_locked && !on {
                return Err(Errno::PERM);
            }
            socket.filter_is_locked = on;
            Ok(())
        })
    }

    /// Returns whether `SO_LOCK_FILTER` is set.
    pub fn is_filter_locked(&self) -> bool {
        lock(&self.connector).sockets[self.id].filter_is_locked
    }
}
