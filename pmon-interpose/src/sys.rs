//! System calls without a safe wrapper: seccomp notifications, memory of other processes, and the
//! creation of a process in new namespaces.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{size_of, transmute, zeroed};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_ulong, iovec, sock_filter, sock_fprog};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};

/// An intercepted system call of a task that waits for the response.
pub(crate) type Notification = libc::seccomp_notif;

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, since Linux 6.6: the kernel wakes the other side on the
/// CPU of the side that is about to sleep.
const SYNC_WAKE_UP: u64 = 1;

/// Returns the error of a failed call; `EIO` if it is not an error of the kernel.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn last_errno() -> Errno {
    errno_of(&io::Error::last_os_error())
}

pub(crate) fn check(result: impl Into<i64>) -> Result<i64, Errno> {
    let result = result.into();
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

/// `SECCOMP_IOCTL_NOTIF_RECV`: waits for an intercepted call. `ENOENT` if its task has ended.
pub(crate) fn receive_notification(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    // SAFETY: a plain C struct of integers, for which all zeros is valid. The kernel requires zeros
    // and fills the struct in.
    let mut notification: Notification = unsafe { zeroed() };
    // SAFETY: the request takes a pointer to that struct, which lives until the call returns.
    check(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification)
    })?;
    Ok(notification)
}

/// `SECCOMP_IOCTL_NOTIF_ID_VALID`: returns whether the call still waits for its response.
pub(crate) fn is_notification_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the request takes a pointer to an integer, which lives until the call returns.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) })
        .is_ok()
}

/// `SECCOMP_IOCTL_NOTIF_SEND`: lets the call return `result`; with `None`, the kernel executes the
/// call. `ENOENT` if the call does not wait any more.
pub(crate) fn send_response(
    listener: BorrowedFd<'_>,
    id: u64,
    result: Option<Result<i64, Errno>>,
) -> Result<(), Errno> {
    let mut response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    match result {
        None => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        Some(Ok(value)) => response.val = value,
        Some(Err(error)) => response.error = -error.raw_os_error(),
    }
    // SAFETY: the request takes a pointer to that struct, which lives until the call returns.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) })?;
    Ok(())
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD`: installs `fd` as the task's file descriptor `number`, or as its
/// lowest free one, and lets the call return that number. `EBADF` if the number exceeds the task's
/// limit.
pub(crate) fn add_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    number: Option<u32>,
    close_on_exec: bool,
) -> Result<(), Errno> {
    install_fd(listener, id, fd, number, close_on_exec, libc::SECCOMP_ADDFD_FLAG_SEND)
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD`: replaces the task's file descriptor `number` by `fd`. The call
/// still waits for its response.
pub(crate) fn replace_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    number: u32,
    close_on_exec: bool,
) -> Result<(), Errno> {
    install_fd(listener, id, fd, Some(number), close_on_exec, 0)
}

fn install_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    number: Option<u32>,
    close_on_exec: bool,
    flags: c_ulong,
) -> Result<(), Errno> {
    let at = if number.is_some() { libc::SECCOMP_ADDFD_FLAG_SETFD } else { 0 };
    let mut addfd = libc::seccomp_notif_addfd {
        id,
        flags: (at | flags) as u32,
        srcfd: fd.as_raw_fd() as u32,
        newfd: number.unwrap_or(0),
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: the request takes a pointer to that struct, which lives until the call returns.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut addfd) })?;
    Ok(())
}

/// Returns whether `file`, which is open for writing, is open nowhere else: the kernel grants a
/// write lease (`F_SETLEASE`) only then.
pub(crate) fn has_no_other_user(file: BorrowedFd<'_>) -> bool {
    /// `F_SETSIG` of `fcntl(2)`.
    const F_SETSIG: c_int = 10;
    let file = file.as_raw_fd();
    // SAFETY: these requests take integers. If a process opens the file during the lease, this
    // process gets the signal, which is ignored by default.
    unsafe {
        check(libc::fcntl(file, F_SETSIG, libc::SIGURG)).is_ok()
            && check(libc::fcntl(file, libc::F_SETLEASE, c_int::from(libc::F_WRLCK))).is_ok()
            && check(libc::fcntl(file, libc::F_SETLEASE, c_int::from(libc::F_UNLCK))).is_ok()
    }
}

/// Sets [`SYNC_WAKE_UP`]. Has no effect before Linux 6.6.
pub(crate) fn set_sync_wake_up(listener: BorrowedFd<'_>) {
    // SAFETY: the request takes an integer.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
}

/// `SO_NETNS_COOKIE`: returns the cookie of a socket's network namespace.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    let (mut cookie, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
    let (level, option) = (libc::SOL_SOCKET, libc::SO_NETNS_COOKIE);
    // SAFETY: the kernel writes at most `len` bytes to `cookie`; both live until the call returns.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut cookie).cast(), &raw mut len)
    })?;
    Ok(cookie)
}

/// `process_vm_readv`: reads another process's memory at `address`; returns how many bytes of
/// `buffer` were filled. `EFAULT` if no byte is readable.
pub(crate) fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let local = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = iovec { iov_base: ptr::without_provenance_mut(address as usize), iov_len: buffer.len() };
    // SAFETY: `local` is the buffer, borrowed mutably until the call returns; `remote` is an
    // address of another process.
    let read = unsafe { libc::process_vm_readv(pid as i32, &raw const local, 1, &raw const remote, 1, 0) };
    check(read as i64).map(|read| read as usize)
}

/// `process_vm_writev`: writes `bytes` into these buffers (address, length) of another process, one
/// after the other; returns how many bytes were written. `EFAULT` if no byte was.
pub(crate) fn write_memory(pid: u32, bytes: &[u8], buffers: &[(u64, usize)]) -> Result<usize, Errno> {
    /// Maximum number of buffers per call.
    const BATCH: usize = 16;
    let mut written = 0;
    let mut remote = [iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    for batch in buffers.chunks(BATCH) {
        for (iovec, &(address, len)) in remote.iter_mut().zip(batch) {
            *iovec = libc::iovec { iov_base: ptr::without_provenance_mut(address as usize), iov_len: len };
        }
        let left = &bytes[written..];
        if left.is_empty() {
            break;
        }
        let local = iovec { iov_base: left.as_ptr().cast_mut().cast(), iov_len: left.len() };
        let count = batch.len() as c_ulong;
        // SAFETY: `local` is within `bytes`, which is borrowed until the call returns and only
        // read; `remote` holds at least `count` addresses of another process.
        let put =
            unsafe { libc::process_vm_writev(pid as i32, &raw const local, 1, remote.as_ptr(), count, 0) };
        written += check(put as i64)? as usize;
    }
    Ok(written)
}

/// `sysinfo`, with another uptime: returns the bytes of the struct.
pub(crate) fn sysinfo(uptime: Duration) -> [u8; size_of::<libc::sysinfo>()] {
    // SAFETY: a plain C struct of integers, for which all zeros is valid.
    let mut info: libc::sysinfo = unsafe { zeroed() };
    // SAFETY: the kernel fills in the struct, which lives until the call returns.
    unsafe { libc::sysinfo(&raw mut info) };
    info.uptime = uptime.as_secs() as libc::c_long;
    // SAFETY: all bytes of the struct were initialized with zeros, and it is as long as the array.
    unsafe { transmute::<libc::sysinfo, [u8; size_of::<libc::sysinfo>()]>(info) }
}

/// `CLONE_CLEAR_SIGHAND`, since Linux 5.5.
const CLEAR_SIGHAND: u64 = 1 << 32;

/// Forks a process that runs `child` and exits with the code that `child` returns. Returns its id
/// and a pidfd.
///
/// Only the calling thread is copied. Another thread may have held a lock, such as the allocator's:
/// `child` must not allocate and must call only the kernel.
pub(crate) fn spawn(namespaces: c_int, child: &mut dyn FnMut() -> u8) -> Result<(u32, OwnedFd), Errno> {
    let mut pidfd: c_int = -1;
    // SAFETY: a plain C struct of integers, for which all zeros is valid.
    let mut args: libc::clone_args = unsafe { zeroed() };
    // Without CLEAR_SIGHAND, the child would run this process's signal handlers.
    args.flags = (libc::CLONE_PIDFD | namespaces) as u64 | CLEAR_SIGHAND;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child has its own memory, and without a new stack it continues
    // on its copy of this one. The caller guarantees what `child` does; the child never returns.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        let code = child();
        // SAFETY: ends the child at once, without this process's exit handlers.
        unsafe { libc::_exit(code.into()) };
    }
    // SAFETY: the kernel has just created the descriptor, and nothing else owns it.
    Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Arguments or environment in the form that `execve` takes.
pub(crate) struct CStringArray {
    pointers: Vec<*const libc::c_char>,
    /// Owns the memory that `pointers` refers to.
    _strings: Vec<CString>,
}

impl CStringArray {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

/// `execve`; returns the error if it fails.
pub(crate) fn exec(path: &CStr, args: &CStringArray, environment: &CStringArray) -> Errno {
    // SAFETY: the path and all strings end with a zero byte, the arrays end with a null pointer,
    // and all of them are borrowed until the call returns.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), environment.pointers.as_ptr()) };
    last_errno()
}

/// `seccomp(SECCOMP_SET_MODE_FILTER)` with a listener, for this task and all its descendants.
pub(crate) fn install_filter(filter: &[sock_filter]) -> Result<OwnedFd, Errno> {
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: the kernel copies the program, which is borrowed until the call returns.
    let listener = check(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) })?;
    // SAFETY: the kernel has just created the descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener as c_int) })
}

/// Sets the signal dispositions and the signal mask that a program starts with, replacing those
/// inherited from this process's parent. Bit *n* - 1 of a mask stands for signal *n*.
pub(crate) fn set_signals(ignored: u64, blocked: u64) {
    /// Number of the last signal.
    const LAST: c_int = 64;
    /// Size in bytes of the kernel's signal set.
    const SET: usize = 8;
    /// Minimum size in words of the kernel's `struct sigaction`.
    const WORDS: usize = 8;
    for signal in 1..=LAST {
        let mut action = [0_usize; WORDS];
        action[0] = if ignored >> (signal - 1) & 1 == 1 { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: the kernel only reads the action, which is at least as large as its struct; no
        // handler is set. `sigaction(3)` would refuse the signals that the C library reserves.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null::<usize>(), SET) };
    }
    let mask = &raw const blocked;
    // SAFETY: the kernel only reads the mask, of `SET` bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, mask, ptr::null::<u64>(), SET) };
}

/// Restores the default disposition of `SIGCHLD`, so that `wait` reports children even if this
/// process inherited an ignored `SIGCHLD`.
pub(crate) fn unignore_sigchld() {
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Returns whether any of `flags`, or an error or a hang-up, is pending on `fd` now.
pub(crate) fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> Result<bool, Errno> {
    let mut fd = [PollFd::from_borrowed_fd(fd, flags)];
    Ok(retry_on_intr(|| poll(&mut fd, Some(&Timespec::default())))? > 0)
}

/// Closes a file descriptor in a forked child that does not need it.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: called only in a forked child, which neither uses the descriptor nor drops its owner.
    unsafe { libc::close(fd) };
}

/// Changes this thread, which must be the only one, to user `uid`, group `uid` and no other groups
/// (`setgroups`, `setresgid`, `setresuid`).
pub(crate) fn become_user(uid: u32) -> Result<(), Errno> {
    // SAFETY: the list is empty.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) })?;
    // SAFETY: the call takes integers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, uid, uid, uid) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// Closes all file descriptors that are at least `first`.
pub(crate) fn close_from(first: u32) {
    // SAFETY: called only in a process that does not use any of them afterwards.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}
