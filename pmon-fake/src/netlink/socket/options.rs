//! A socket's options, `setsockopt` and `getsockopt`.

use rustix::io::Errno;

use super::{Socket, lock};
use crate::netlink::filter::{ClassicFilter, SockFilter};
use crate::netlink::receive_queue::MemInfo;

/// Options.
impl Socket {
    /// `SO_RCVBUF`: doubled, and cut to twice `net.core.rmem_max`.
    pub fn set_rcvbuf(&mut self, bytes: i32) {
        let mut connector = lock(&self.connector);
        let most = connector.rmem_max;
        connector.member(self.id).sock.set_rcvbuf(bytes, Some(most));
    }

    /// `SO_RCVBUFFORCE`: doubled.
    ///
    /// # Errors
    /// `EPERM` without privilege.
    pub fn force_rcvbuf(&mut self, bytes: i32) -> Result<(), Errno> {
        let mut connector = lock(&self.connector);
        let member = connector.member(self.id);
        if !member.admin {
            return Err(Errno::PERM);
        }
        member.sock.set_rcvbuf(bytes, None);
        Ok(())
    }

    /// `NETLINK_NO_ENOBUFS`: an overrun is no error, and no congestion.
    pub fn set_no_enobufs(&mut self, on: bool) {
        lock(&self.connector).member(self.id).sock.set_no_enobufs(on);
    }

    /// `SO_MEMINFO`.
    pub fn memory(&self) -> MemInfo {
        lock(&self.connector).member(self.id).sock.memory()
    }

    /// `SO_ERROR`: what the next call would have failed with.
    pub fn take_error(&mut self) -> Option<Errno> {
        lock(&self.connector).member(self.id).sock.take_error()
    }

    /// Whether `NETLINK_NO_ENOBUFS` is set.
    pub fn no_enobufs(&self) -> bool {
        lock(&self.connector).member(self.id).sock.no_enobufs()
    }

    /// `SO_ATTACH_FILTER`: from now on a datagram is queued if `program`, a classic filter, returns another number than 0, and has at most so
    /// many bytes. One that is not queued is no drop, and to its sender no error. The program takes the place of an earlier one.
    ///
    /// # Errors
    /// `EPERM` if filters are locked; `EINVAL` if the program has no instruction or more than 4096, or such as are not known, that jump
    /// beyond its end, divide by a constant 0 or read a cell that may not have been written, or if it does not end with a return. Then the
    /// earlier one holds.
    pub fn attach_filter(&mut self, program: &[SockFilter]) -> Result<(), Errno> {
        let mut connector = lock(&self.connector);
        if connector.member(self.id).filter_is_locked {
            return Err(Errno::PERM);
        }
        connector.attach(self.id, ClassicFilter::new(program)?);
        Ok(())
    }

    /// `SO_DETACH_FILTER`.
    ///
    /// # Errors
    /// `EPERM` if filters are locked, `ENOENT` if there is none.
    pub fn detach_filter(&mut self) -> Result<(), Errno> {
        let mut connector = lock(&self.connector);
        let member = connector.member(self.id);
        if member.filter_is_locked {
            return Err(Errno::PERM);
        }
        member.filter.take().map(drop).ok_or(Errno::NOENT)
    }

    /// `SO_GET_FILTER`: the program, as it was attached.
    pub fn filter(&self) -> Option<Box<[SockFilter]>> {
        lock(&self.connector).member(self.id).filter.as_ref().map(|filter| filter.program().into())
    }

    /// `SO_LOCK_FILTER`: the filter, or that there is none, stays as it is.
    ///
    /// # Errors
    /// `EPERM` if it is locked, and shall not be.
    pub fn lock_filter(&mut self, on: bool) -> Result<(), Errno> {
        let mut connector = lock(&self.connector);
        let is_locked = &mut connector.member(self.id).filter_is_locked;
        if *is_locked && !on {
            return Err(Errno::PERM);
        }
        *is_locked = on;
        Ok(())
    }

    /// Whether `SO_LOCK_FILTER` is set.
    pub fn is_filter_locked(&self) -> bool {
        lock(&self.connector).member(self.id).filter_is_locked
    }
}
