//! System calls on native sockets, and for them, that have no safe wrapper.

use std::mem::size_of_val;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use libc::{c_int, socklen_t};
use rustix::io::Errno;

use crate::sys::check;

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

/// `PR_SET_TIMERSLACK`: lets this thread's short time-outs expire on time.
pub(crate) fn set_timer_slack(nanos: libc::c_ulong) {
    // SAFETY: the call takes integers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanos, 0, 0, 0) };
}
