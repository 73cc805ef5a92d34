//! System calls on native sockets that have no safe wrapper: socket options, batches of datagrams,
//! and notifications of message queues.

use std::ffi::CStr;
use std::mem::{size_of_val, zeroed};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

use libc::{c_int, iovec, mmsghdr, sock_filter, sock_fprog, socklen_t};
use rustix::io::Errno;

use crate::sys::check;

/// Maximum number of datagrams that [`send_batch`] sends in one call.
pub(crate) const BATCH: usize = 64;
/// `SO_MEMINFO`, on all architectures that pmon supports.
const SO_MEMINFO: c_int = 55;
/// Number of words of `SO_MEMINFO`.
const MEMINFO_WORDS: usize = 9;

/// The values of `SO_MEMINFO` that concern the receiving side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceiveMemory {
    pub(crate) rmem_alloc: u32,
    pub(crate) rcvbuf: u32,
    pub(crate) drops: u32,
}

/// Returns `SO_MEMINFO`.
pub(crate) fn receive_memory(socket: BorrowedFd<'_>) -> Result<ReceiveMemory, Errno> {
    let mut words = [0_u32; MEMINFO_WORDS];
    let mut len = size_of_val(&words) as socklen_t;
    let (level, at) = (libc::SOL_SOCKET, words.as_mut_ptr().cast());
    // SAFETY: the kernel writes at most `len` bytes to the array, which lives until the call
    // returns.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, SO_MEMINFO, at, &raw mut len) })?;
    Ok(ReceiveMemory { rmem_alloc: words[0], rcvbuf: words[1], drops: words[8] })
}

/// `setsockopt` with an option of any type.
pub(crate) fn set_option<T>(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: &T,
) -> Result<(), Errno> {
    let (at, len) = (ptr::from_ref(value).cast(), size_of_val(value) as socklen_t);
    // SAFETY: the kernel only reads the value, which is borrowed until the call returns.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, at, len) })?;
    Ok(())
}

/// `SO_ATTACH_FILTER`.
pub(crate) fn attach_filter(socket: BorrowedFd<'_>, filter: &[sock_filter]) -> Result<(), Errno> {
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Sends datagrams, at most [`BATCH`] of them, to the socket's peer without waiting. They lie one
/// after the other in `bytes`; `ends` are their ends. Returns how many were sent.
pub(crate) fn send_batch(socket: BorrowedFd<'_>, bytes: &[u8], ends: &[usize]) -> Result<usize, Errno> {
    // SAFETY: plain C structs of integers and pointers, for which all zeros is valid.
    let mut messages: [mmsghdr; BATCH] = unsafe { zeroed() };
    let mut parts = [iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    let count = ends.len().min(BATCH);
    let mut start = 0;
    for ((message, part), &end) in messages.iter_mut().zip(&mut parts).zip(ends) {
        let datagram = &bytes[start..end];
        *part = iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        start = end;
    }
    let at = messages.as_mut_ptr();
    // SAFETY: the first `count` messages refer to parts of `bytes`, which the kernel only reads;
    // all of them live until the call returns.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), at, count as u32, libc::MSG_DONTWAIT as _) };
    check(sent).map(|sent| sent as usize)
}

/// `mq_open`: creates a message queue for one message of one byte. `name` has no slash.
pub(crate) fn create_queue(name: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: a plain C struct of integers, for which all zeros is valid.
    let mut attributes: libc::mq_attr = unsafe { zeroed() };
    (attributes.mq_maxmsg, attributes.mq_msgsize) = (1, 1);
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: the name ends with a zero byte; the kernel only reads it and the attributes.
    let queue = check(unsafe {
        libc::syscall(libc::SYS_mq_open, name.as_ptr(), flags, 0o600, &raw const attributes)
    })?;
    // SAFETY: the kernel has just created the descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(queue as c_int) })
}

/// `mq_unlink`.
pub(crate) fn unlink_queue(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the name ends with a zero byte.
    check(unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) })?;
    Ok(())
}

/// `mq_notify` with `SIGEV_THREAD`: the kernel charges a notification to a netlink socket, and
/// queues it there when a message arrives or the registration is removed.
pub(crate) fn register_notification(queue: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> Result<(), Errno> {
    /// `NOTIFY_COOKIE_LEN`.
    const COOKIE: usize = 32;
    let cookie = [0_u8; COOKIE];
    // SAFETY: a plain C struct of integers and pointers, for which all zeros is valid.
    let mut event: libc::sigevent = unsafe { zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD;
    event.sigev_signo = socket.as_raw_fd();
    event.sigev_value.sival_ptr = cookie.as_ptr().cast_mut().cast();
    // SAFETY: the kernel only reads the event and the cookie, which live until the call returns.
    check(unsafe { libc::syscall(libc::SYS_mq_notify, queue.as_raw_fd(), &raw const event) })?;
    Ok(())
}

/// `PR_SET_TIMERSLACK`: lets this thread's short time-outs expire on time.
pub(crate) fn set_timer_slack(nanos: libc::c_ulong) {
    // SAFETY: the call takes integers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanos, 0, 0, 0) };
}
