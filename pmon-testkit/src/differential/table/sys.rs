//! System calls without a safe wrapper.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::kernel::{ChildAction, ChildEnd, Instruction, SocketMemory};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `setsockopt(2)` of an `int`.
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel reads the four bytes of `value`, which outlives the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) })
        .map(drop)
}

/// `getsockopt(2)` of an `int`.
pub(crate) fn option(socket: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has that size, and to `len`;
    // both outlive the call.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len)
    })?;
    Ok(value)
}

/// `SO_MEMINFO`.
pub(crate) fn memory(socket: BorrowedFd<'_>) -> io::Result<SocketMemory> {
    let mut values = [0_u32; 9];
    let mut len = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `values`, which has that size, and to `len`;
    // both outlive the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    Ok(SocketMemory { used: values[0], rcvbuf: values[1], drops: values[8] })
}

/// `SO_ATTACH_FILTER`.
pub(crate) fn attach(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let len = program.len().try_into().map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let (level, name, size) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, size_of_val(&program));
    // SAFETY: the kernel reads `program` and its `len` instructions; both outlive the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const program).cast(),
            size as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Starts a process that performs actions and exits, and waits for it. Returns its PID.
pub(crate) fn child(actions: &[ChildAction], end: ChildEnd) -> io::Result<u32> {
    // SAFETY: fork has no precondition. The child makes only system calls, which is safe in a
    // process with several threads.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        actions.iter().copied().for_each(emit);
        end_child(end);
    }
    let mut status = 0;
    // SAFETY: the kernel writes to `status`, which outlives the call.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(pid as u32)
}

fn emit(emit: ChildAction) {
    const UNPRIVILEGED_ID: libc::c_long = 65534;
    // SAFETY: system calls that take only numbers. The C library's functions would signal the
    // parent's threads to change their IDs, too.
    unsafe {
        match emit {
            ChildAction::Session => libc::syscall(libc::SYS_setsid),
            ChildAction::Group => {
                libc::syscall(libc::SYS_setresgid, UNPRIVILEGED_ID, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
            }
            ChildAction::User => {
                libc::syscall(libc::SYS_setresuid, UNPRIVILEGED_ID, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
            }
        };
    }
}

fn end_child(end: ChildEnd) -> ! {
    // SAFETY: system calls that take only numbers.
    unsafe {
        match end {
            ChildEnd::Code(code) => libc::_exit(code.into()),
            ChildEnd::Killed => {
                libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getpid), libc::SIGKILL);
            }
            ChildEnd::Aborted => {
                // The kernel emits COREDUMP even if no core is written.
                libc::prctl(libc::PR_SET_DUMPABLE, 0);
                libc::signal(libc::SIGABRT, libc::SIG_DFL);
                libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getpid), libc::SIGABRT);
            }
        }
        libc::_exit(1)
    }
}
