//! The calls without a safe wrapper: `recvmmsg(2)`, and two socket options.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd};

use pmon_core::batch::{Arrival, Batch};

/// Most datagrams of one call.
const CALL: usize = 256;

/// What the kernel fills in besides the datagrams, preallocated.
pub(crate) struct Mailbox {
    addresses: Box<[libc::sockaddr_nl]>,
    buffers: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: its pointers are written anew by each call of `receive` before the kernel sees them, and nothing else
// follows them.
unsafe impl Send for Mailbox {}

impl Mailbox {
    pub(crate) fn new() -> Self {
        // SAFETY: these are plain C structs of integers and pointers, for which all zeros is a value.
        let (address, buffer, header): (libc::sockaddr_nl, libc::iovec, libc::mmsghdr) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            addresses: vec![address; CALL].into(),
            buffers: vec![buffer; CALL].into(),
            headers: vec![header; CALL].into(),
        }
    }

    /// Appends the datagrams that are waiting to `batch`, as many as fit; never blocks. Returns how many.
    ///
    /// # Errors
    /// As `recvmmsg(2)`: `EAGAIN` when nothing is waiting, `ENOBUFS` after an overrun.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, batch: &mut Batch) -> io::Result<usize> {
        let mut slots = 0;
        for slot in batch.free_slots().take(CALL) {
            self.buffers[slots] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            let header = &mut self.headers[slots].msg_hdr;
            header.msg_name = (&raw mut self.addresses[slots]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            header.msg_iov = &raw mut self.buffers[slots];
            header.msg_iovlen = 1;
            slots += 1;
        }
        // MSG_TRUNC: report a datagram's real length also where the slot is shorter.
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: each of the first `slots` headers points to one address and one buffer, both of the size that
        // stands beside the pointer; they and the slots they point to are borrowed mutably until the call returns.
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

/// Datagrams that the socket has dropped: `SK_MEMINFO_DROPS` of `SO_MEMINFO` (`Documentation/networking`, since 4.12); wraps
/// at 2^32. `None` from a kernel that does not tell.
pub(crate) fn drops(socket: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    /// Places in the answer (`linux/sock_diag.h`).
    const DROPS: usize = 8;
    const PLACES: usize = 9;
    let mut answer = [0_u32; PLACES];
    let mut len = size_of_val(&answer) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `answer`, which has so many, and to `len`; both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            answer.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    match result {
        0 => Ok((len as usize >= size_of_val(&answer)).then_some(answer[DROPS])),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
            error => Err(error),
        },
    }
}

/// Lets the socket take datagrams again as soon as it has room after an overrun, without a word (`NETLINK_NO_ENOBUFS`,
/// `netlink(7)`).
pub(crate) fn no_enobufs(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads the four bytes of `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_NO_ENOBUFS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
