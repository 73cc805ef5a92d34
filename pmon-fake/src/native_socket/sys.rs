//! System calls without a safe wrapper: the helper process, socket options, and message queues.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_int, c_void, iovec, mmsghdr, socklen_t};
use rustix::io::Errno;

use super::overrun::COOKIE_LEN;
use crate::netlink::receive_queue::MemInfo;

/// `CLONE_CLEAR_SIGHAND`, since Linux 5.5.
const CLEAR_SIGHAND: u64 = 1 << 32;
/// `SO_MEMINFO`, and the indexes of its values.
const SO_MEMINFO: c_int = 55;
const MEMINFO_RMEM_ALLOC: usize = 0;
const MEMINFO_RCVBUF: usize = 1;
const MEMINFO_DROPS: usize = 8;
/// Maximum number of datagrams that [`send_batch`] sends in one call.
pub(super) const BATCH: usize = 64;

fn check(result: impl Into<i64>) -> Result<i64, Errno> {
    let result = result.into();
    if result >= 0 {
        return Ok(result);
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// A child process in new namespaces, which is killed when this value is dropped.
#[derive(Debug)]
pub(super) struct HelperProcess(OwnedFd);

impl HelperProcess {
    /// Forks a child in a new user and a new network namespace, which closes all descriptors but
    /// `end` and runs `child`. All signals are blocked there; the child is killed when the calling
    /// thread ends.
    ///
    /// Only the calling thread is copied. Another thread may have held a lock, such as the
    /// allocator's: `child` must not allocate and must call only the kernel.
    pub(super) fn spawn(end: BorrowedFd<'_>, child: &dyn Fn()) -> Result<Self, Errno> {
        with_blocked_signals(|| match Self::spawn_by(clone3, end, child) {
            // Valgrind and some seccomp filters refuse the call as unknown.
            Err(Errno::NOSYS) => Self::spawn_by(clone, end, child),
            helper => helper,
        })
    }

    fn spawn_by(
        fork: fn(&mut c_int) -> Result<i64, Errno>,
        end: BorrowedFd<'_>,
        child: &dyn Fn(),
    ) -> Result<Self, Errno> {
        let mut pidfd: c_int = -1;
        let pid = fork(&mut pidfd)?;
        if pid == 0 {
            // SAFETY: the call takes integers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let end = end.as_raw_fd() as u32;
            let ranges = [end.checked_sub(1).map(|last| (0, last)), Some((end + 1, u32::MAX))];
            for (first, last) in ranges.into_iter().flatten() {
                // SAFETY: the child uses no descriptor but `end`, and drops none.
                unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            }
            child();
            exit_helper();
        }
        // SAFETY: the kernel has just created the descriptor, and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(pidfd) }))
    }
}

/// Namespaces of the helper.
const NAMESPACES: c_int = libc::CLONE_NEWUSER | libc::CLONE_NEWNET;

/// Forks a child in new namespaces, without an exit signal; returns 0 in the child.
fn clone3(pidfd: &mut c_int) -> Result<i64, Errno> {
    // SAFETY: a plain C struct of integers, for which all zeros is valid.
    let mut args: libc::clone_args = unsafe { zeroed() };
    // Without CLEAR_SIGHAND, the child would run this process's signal handlers.
    args.flags = (libc::CLONE_PIDFD | NAMESPACES) as u64 | CLEAR_SIGHAND;
    args.pidfd = (&raw mut *pidfd) as u64;
    // SAFETY: without CLONE_VM the child has its own memory, and without a new stack it continues
    // on its copy of this one. The only caller restricts what the child does.
    check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) })
}

/// As [`clone3`], by an older call. The child keeps the signal handlers.
fn clone(pidfd: &mut c_int) -> Result<i64, Errno> {
    const NULL: *mut c_void = ptr::null_mut();
    let flags = libc::c_long::from(libc::CLONE_PIDFD | NAMESPACES);
    // SAFETY: as above. The flags use only the first three arguments, which have the same order on
    // all architectures but s390.
    check(unsafe { libc::syscall(libc::SYS_clone, flags, NULL, &raw mut *pidfd, NULL, NULL) })
}

/// Runs `act` with all signals of this thread blocked. A child that `act` forks, or a thread that
/// it starts, keeps them blocked, so that it runs no signal handler of the program.
pub fn with_blocked_signals<R>(act: impl FnOnce() -> R) -> R {
    // SAFETY: plain C structs of integers, for which all zeros is valid.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { (zeroed(), zeroed()) };
    // SAFETY: the sets live until the calls return.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    let result = act();
    // SAFETY: the set was filled in by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    result
}

/// Ends the helper.
pub(super) fn exit_helper() -> ! {
    // SAFETY: ends the child at once, without the exit handlers of the process that forked it.
    unsafe { libc::_exit(0) }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        // It fails if the child has ended already.
        // SAFETY: the call takes integers, and a null pointer.
        unsafe {
            let (child, no_info) = (self.0.as_raw_fd(), ptr::null::<libc::siginfo_t>());
            libc::syscall(libc::SYS_pidfd_send_signal, child, libc::SIGKILL, no_info, 0)
        };
        // SAFETY: a plain C struct, for which all zeros is valid.
        let mut info: libc::siginfo_t = unsafe { zeroed() };
        let flags = libc::WEXITED | libc::__WALL;
        loop {
            // SAFETY: the struct lives until the call returns.
            let waited = check(unsafe {
                libc::waitid(libc::P_PIDFD, self.0.as_raw_fd() as libc::id_t, &raw mut info, flags)
            });
            if waited != Err(Errno::INTR) {
                return;
            }
        }
    }
}

fn set_option<T>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> Result<(), Errno> {
    // SAFETY: the kernel reads the value, which is borrowed until the call returns.
    check(unsafe {
        let len = size_of_val(value) as socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), len)
    })?;
    Ok(())
}

fn option<T: Copy>(socket: BorrowedFd<'_>, level: c_int, name: c_int, mut value: T) -> Result<T, Errno> {
    let mut len = size_of::<T>() as socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to the value, whose type, one of this module's
    // callers, is made of integers.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len)
    })?;
    Ok(value)
}

/// Returns `SO_MEMINFO` of a socket.
///
/// # Errors
/// Returns the error of `getsockopt`.
pub fn memory(socket: impl AsFd) -> Result<MemInfo, Errno> {
    let values = option(socket.as_fd(), libc::SOL_SOCKET, SO_MEMINFO, [0_u32; 16])?;
    Ok(MemInfo {
        rmem_alloc: values[MEMINFO_RMEM_ALLOC],
        rcvbuf: values[MEMINFO_RCVBUF],
        drops: values[MEMINFO_DROPS],
    })
}

/// Returns whether `NETLINK_NO_ENOBUFS` is set.
///
/// # Errors
/// Returns the error of `getsockopt`.
pub fn no_enobufs(socket: impl AsFd) -> Result<bool, Errno> {
    Ok(option(socket.as_fd(), libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, 0_i32)? != 0)
}

/// Sets `NETLINK_NO_ENOBUFS`, which also ends congestion.
///
/// # Errors
/// Returns the error of `setsockopt`.
pub fn set_no_enobufs(socket: impl AsFd, on: bool) -> Result<(), Errno> {
    set_option(socket.as_fd(), libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, &i32::from(on))
}

/// Attaches a classic filter.
pub(super) fn attach_filter(socket: BorrowedFd<'_>, filter: &[libc::sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Sets `SO_LOCK_FILTER`.
pub(super) fn lock_filter(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1_i32)
}

/// Sends datagrams, at most [`BATCH`] of them, to the socket's peer without waiting. They lie one
/// after the other in `bytes` from `start` on; `ends` are their ends. Returns how many were sent.
pub(super) fn send_batch(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    mut start: usize,
    ends: &[usize],
) -> Result<usize, Errno> {
    // SAFETY: plain C structs of integers and pointers, for which all zeros is valid.
    let mut messages: [mmsghdr; BATCH] = unsafe { zeroed() };
    let mut parts = [iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    let count = ends.len().min(BATCH);
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

/// A POSIX message queue without a name.
#[derive(Debug)]
pub(super) struct MessageQueue(OwnedFd);

impl MessageQueue {
    /// Opens the smallest queue.
    pub(super) fn open() -> Result<Self, Errno> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("pmon-{}-{number}", std::process::id());
            let name = CString::new(name).unwrap_or_default();
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
            // SAFETY: a plain C struct of integers, for which all zeros is valid.
            let mut attributes: libc::mq_attr = unsafe { zeroed() };
            (attributes.mq_maxmsg, attributes.mq_msgsize) = (1, 1);
            // SAFETY: name and attributes are borrowed until the call returns.
            let queue = check(unsafe {
                libc::syscall(libc::SYS_mq_open, name.as_ptr(), flags, 0o600, &raw const attributes)
            });
            match queue {
                // Left behind by a process with the same id that was killed.
                Err(Errno::EXIST) => continue,
                queue => {
                    // SAFETY: the kernel has just created the descriptor, and nothing else owns it.
                    let queue = unsafe { OwnedFd::from_raw_fd(queue? as c_int) };
                    // SAFETY: the name is borrowed until the call returns.
                    unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) };
                    return Ok(Self(queue));
                }
            }
        }
    }

    /// Registers a notification for a netlink socket. The call blocks while the socket's buffer is
    /// full.
    pub(super) fn notify(&self, socket: BorrowedFd<'_>, cookie: &[u8; COOKIE_LEN]) -> Result<(), Errno> {
        // SAFETY: a plain C struct, for which all zeros is valid.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD;
        event.sigev_signo = socket.as_raw_fd();
        event.sigev_value.sival_ptr = cookie.as_ptr().cast_mut().cast::<c_void>();
        // SAFETY: the kernel copies the event and the cookie, which are borrowed until the call
        // returns.
        check(unsafe { libc::syscall(libc::SYS_mq_notify, self.0.as_raw_fd(), &raw const event) })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

    use super::*;

    #[test]
    fn a_helper_forked_by_either_call_runs_and_is_not_a_child_that_wait_reports() {
        for fork in [clone3, clone] {
            let (this, end) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
            let child = || {
                let _ = send(&end, b"hello", SendFlags::NOSIGNAL);
            };
            let helper = match with_blocked_signals(|| HelperProcess::spawn_by(fork, end.as_fd(), &child)) {
                Ok(helper) => helper,
                Err(error) => return pmon_testkit::guard::skip(&format!("no user namespace: {error}")),
            };
            let mut received = [0; 8];
            assert_eq!(recv(&this, &mut received[..], RecvFlags::empty()).unwrap().0, 5);
            drop(helper);
            // SAFETY: the call takes integers, and a null pointer.
            let waited = check(unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) });
            assert_eq!(waited, Err(Errno::CHILD));
        }
    }
}
