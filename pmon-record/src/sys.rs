//! System calls without a safe wrapper: `recvmmsg(2)` and socket options.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_int;
use pmon_core::batch::{Arrival, Batch};

/// Maximum number of datagrams per call of `recvmmsg`.
const MAX_MESSAGES: usize = 256;

/// Preallocated arguments of `recvmmsg`: headers, addresses, and pointers to the datagrams' memory.
pub(crate) struct RecvmmsgBuffers {
    addresses: Box<[libc::sockaddr_nl]>,
    buffers: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: each call of `receive` sets all pointers before the kernel reads them, and no other code
// follows them.
unsafe impl Send for RecvmmsgBuffers {}

impl RecvmmsgBuffers {
    pub(crate) fn new() -> Self {
        // SAFETY: these are plain C structs of integers and pointers, for which all zeros is a
        // value.
        let (address, buffer, header): (libc::sockaddr_nl, libc::iovec, libc::mmsghdr) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            addresses: vec![address; MAX_MESSAGES].into(),
            buffers: vec![buffer; MAX_MESSAGES].into(),
            headers: vec![header; MAX_MESSAGES].into(),
        }
    }

    /// Appends waiting datagrams to `batch`, as many as fit, without blocking. Returns their
    /// number.
    ///
    /// # Errors
    /// As `recvmmsg(2)`: `EAGAIN` if no datagram is waiting, `ENOBUFS` after an overrun.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, batch: &mut Batch) -> io::Result<usize> {
        let mut slots = 0;
        for slot in batch.free_slots().take(MAX_MESSAGES) {
            self.buffers[slots] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            let header = &mut self.headers[slots].msg_hdr;
            header.msg_name = (&raw mut self.addresses[slots]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            header.msg_iov = &raw mut self.buffers[slots];
            header.msg_iovlen = 1;
            slots += 1;
        }
        // MSG_TRUNC: report a datagram's real length even if the slot is shorter.
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: each of the first `slots` headers points to one address and one buffer, each of
        // the length given beside its pointer. They, and the slots to which the buffers point, are
        // borrowed mutably until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                slots as libc::c_uint,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_negative| io::Error::last_os_error())?;
        for (header, address) in self.headers.iter().zip(&self.addresses).take(received) {
            batch.commit(Arrival { len: header.msg_len as usize, sender: address.nl_pid });
        }
        Ok(received)
    }
}

/// Returns the number of datagrams that the socket has dropped, modulo 2^32: `SK_MEMINFO_DROPS` of
/// `SO_MEMINFO` (since Linux 4.12). `None` on older kernels.
pub(crate) fn drops(socket: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    /// Index of `SK_MEMINFO_DROPS` in the option's value (`linux/sock_diag.h`).
    const DROPS: usize = 8;
    /// `SK_MEMINFO_VARS`.
    const FIELDS: usize = 9;
    let mut fields = [0_u32; FIELDS];
    let mut len = size_of_val(&fields) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `fields`, which is as long, and the new
    // length to `len`. Both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            fields.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    match result {
        0 => Ok((len as usize >= size_of_val(&fields)).then_some(fields[DROPS])),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
            error => Err(error),
        },
    }
}

/// Sets a socket option whose value is an `int`.
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the kernel reads the four bytes of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
