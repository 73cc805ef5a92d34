//! The calls without a safe wrapper: seccomp's notifications, another process's memory, and the birth of a process in namespaces of its own.

use std::ffi::{CStr, CString};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

use libc::{c_int, c_ulong, iovec, sock_filter, sock_fprog};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};

use crate::launch::options::SignalDispositions;

/// One system call of a task, which waits for its answer.
pub(crate) type Notification = libc::seccomp_notif;

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`: whoever is woken runs where the other one did, who is about to sleep. Since Linux 6.6.
const SYNC_WAKE_UP: u64 = 1;

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn check(result: c_int) -> Result<c_int, Errno> {
    if result < 0 { Err(last()) } else { Ok(result) }
}

/// `SECCOMP_IOCTL_NOTIF_RECV`: waits for a call. `ENOENT` if its task has ended meanwhile.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    // SAFETY: a plain C struct of integers, for which all zeros is a value; the kernel demands zeros, and fills it in.
    let mut notification: Notification = unsafe { zeroed() };
    // SAFETY: the request takes a pointer to that struct, which lives until the call returns.
    check(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification)
    })?;
    Ok(notification)
}

/// `SECCOMP_IOCTL_NOTIF_ID_VALID`: whether that call still waits.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the request takes a pointer to an integer, which lives until the call returns.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) })
        .is_ok()
}

/// `SECCOMP_IOCTL_NOTIF_SEND`: what the call returns; `None` if it is to be made as if nobody had asked. `ENOENT` if it does not wait any
/// more.
pub(crate) fn answer(
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

/// `SECCOMP_IOCTL_NOTIF_ADDFD`: the task gets `fd` as its file descriptor `number`, or as the first that is free, and that as the answer to its
/// call. `EBADF` if that is beyond its limit.
pub(crate) fn answer_with_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    number: Option<u32>,
    close_on_exec: bool,
) -> Result<(), Errno> {
    let at = if number.is_some() { libc::SECCOMP_ADDFD_FLAG_SETFD } else { 0 };
    let mut addfd = libc::seccomp_notif_addfd {
        id,
        flags: (at | libc::SECCOMP_ADDFD_FLAG_SEND) as u32,
        srcfd: fd.as_raw_fd() as u32,
        newfd: number.unwrap_or(0),
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: the request takes a pointer to that struct, which lives until the call returns.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut addfd) })?;
    Ok(())
}

/// Asks the kernel to switch between the two sides without a detour. Before Linux 6.6 it cannot, and nothing changes.
pub(crate) fn wake_in_turn(listener: BorrowedFd<'_>) {
    // SAFETY: the request takes an integer.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
}

/// `process_vm_readv`: what another process has at `address`; how much of `buffer` was filled. `EFAULT` if nothing is there.
pub(crate) fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let local = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = iovec { iov_base: ptr::without_provenance_mut(address as usize), iov_len: buffer.len() };
    // SAFETY: `local` is the buffer, borrowed mutably until the call returns; `remote` is an address of another process.
    let read = unsafe { libc::process_vm_readv(pid as i32, &raw const local, 1, &raw const remote, 1, 0) };
    if read < 0 { Err(last()) } else { Ok(read as usize) }
}

/// `process_vm_writev`: puts `bytes` into another process's memory, from the first address on, as much as fits there and then at the next. How
/// much was put; `EFAULT` if nothing.
pub(crate) fn write_memory(pid: u32, bytes: &[u8], to: &[(u64, usize)]) -> Result<usize, Errno> {
    const PLACES: usize = 16;
    let local = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut written = 0;
    let mut remote = [iovec { iov_base: ptr::null_mut(), iov_len: 0 }; PLACES];
    for places in to.chunks(PLACES) {
        for (iovec, &(address, len)) in remote.iter_mut().zip(places) {
            *iovec = libc::iovec { iov_base: ptr::without_provenance_mut(address as usize), iov_len: len };
        }
        let local =
            iovec { iov_base: local.iov_base.wrapping_byte_add(written), iov_len: local.iov_len - written };
        if local.iov_len == 0 {
            break;
        }
        // SAFETY: `local` is within `bytes`, borrowed until the call returns, and only read; `remote` are addresses of another process,
        // and no more of them than there are.
        let put = unsafe {
            libc::process_vm_writev(
                pid as i32,
                &raw const local,
                1,
                remote.as_ptr(),
                places.len() as c_ulong,
                0,
            )
        };
        if put < 0 {
            return Err(last());
        }
        written += put as usize;
    }
    Ok(written)
}

/// `struct clone_args`, as far as Linux 5.3 has it (`clone(2)`).
#[repr(C)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// `CLONE_CLEAR_SIGHAND`, since Linux 5.5.
const CLEAR_SIGHAND: u64 = 1 << 32;

/// A process of its own making: a copy of this one, of only this thread, which runs `child` and ends.
///
/// The copy may have been made while another thread held a lock, of the allocator for instance: `child` allocates nothing, and calls nothing
/// but the kernel.
pub(crate) fn spawn(namespaces: c_int, child: &mut dyn FnMut() -> u8) -> Result<(u32, OwnedFd), Errno> {
    let mut pidfd: c_int = -1;
    let args = CloneArgs {
        // Handlers of this process's signals would be run by the copy.
        flags: (libc::CLONE_PIDFD | namespaces) as u64 | CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
    };
    // SAFETY: without CLONE_VM the copy has its own memory, and without a stack of its own goes on on its copy of this one. What it may do
    // there, the caller has promised; it never returns from here.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid < 0 {
        return Err(last());
    }
    if pid == 0 {
        let code = child();
        // SAFETY: ends the copy at once, without what this process would do at its end.
        unsafe { libc::_exit(code.into()) };
    }
    // SAFETY: the kernel has just made it, for nobody else.
    Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Arguments or environment as `execve` takes them.
pub(crate) struct Strings {
    pointers: Vec<*const libc::c_char>,
    /// To which they point.
    _strings: Vec<CString>,
}

impl Strings {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

/// `execve`; why it failed.
pub(crate) fn exec(path: &CStr, args: &Strings, environment: &Strings) -> Errno {
    // SAFETY: the path ends with a zero, and so do all strings; the lists end with a null pointer, and all of it is borrowed.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), environment.pointers.as_ptr()) };
    last()
}

/// `seccomp(SECCOMP_SET_MODE_FILTER)` with a listener: from now on, for this task and all that come of it.
pub(crate) fn install(filter: &[sock_filter]) -> Result<OwnedFd, Errno> {
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program, which is borrowed, and copies it.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if listener < 0 {
        return Err(last());
    }
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(listener as c_int) })
}

/// Sets the signal dispositions and the signal mask that a program starts with, replacing those
/// inherited from this process's parent.
pub(crate) fn set_signals(signals: SignalDispositions) {
    /// Number of the last signal.
    const LAST: c_int = 64;
    /// Size in bytes of the kernel's signal set.
    const SET: usize = 8;
    /// Minimum size in words of the kernel's `struct sigaction`.
    const WORDS: usize = 8;
    for signal in 1..=LAST {
        let mut action = [0_usize; WORDS];
        action[0] = if signals.ignored >> (signal - 1) & 1 == 1 { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: the kernel only reads the action, which is at least as large as its struct; no
        // handler is set. `sigaction(3)` would refuse the signals that the C library reserves.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null::<usize>(), SET) };
    }
    let mask = &raw const signals.blocked;
    // SAFETY: the kernel only reads the mask, of `SET` bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, mask, ptr::null::<u64>(), SET) };
}

/// Lets a process hear of its children's ends, though whoever has started it does not care about its own.
pub(crate) fn hear_of_children() {
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Returns whether any of `flags`, or an error or a hang-up, is pending on `fd` now.
pub(crate) fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> Result<bool, Errno> {
    let mut fd = [PollFd::from_borrowed_fd(fd, flags)];
    Ok(retry_on_intr(|| poll(&mut fd, Some(&Timespec::default())))? > 0)
}

/// Closes a file descriptor that a copy of this process does not need.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: called only in a copy, which does not use it, and never drops whatever owns it.
    unsafe { libc::close(fd) };
}

/// `setgroups`, `setresgid` and `setresuid`, of this thread alone, which is the only one: that user, the group of that number, and no others.
pub(crate) fn become_user(uid: u32) -> Result<(), Errno> {
    let check = |result| if result < 0 { Err(last()) } else { Ok(()) };
    // SAFETY: the list has no members.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) })?;
    // SAFETY: they take integers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, uid, uid, uid) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// Closes all file descriptors from `first` on.
pub(crate) fn close_from(first: u32) {
    // SAFETY: called only in a process that uses none of them any more.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}
