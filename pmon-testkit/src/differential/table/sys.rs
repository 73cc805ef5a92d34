//! The system calls without a safe wrapper.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::host::{Act, End, Instruction, Memory};

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
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has so many, and to `len`; both outlive the call.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len)
    })?;
    Ok(value)
}

/// `SO_MEMINFO`.
pub(crate) fn memory(socket: BorrowedFd<'_>) -> io::Result<Memory> {
    let mut places = [0_u32; 9];
    let mut len = size_of_val(&places) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `places`, which has so many, and to `len`; both outlive the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            places.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    Ok(Memory { used: places[0], rcvbuf: places[1], drops: places[8] })
}

/// `SO_ATTACH_FILTER`.
pub(crate) fn attach(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let len = program.len().try_into().map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let (level, name, size) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, size_of_val(&program));
    // SAFETY: the kernel reads `program`, and as many instructions as that says there are; both outlive the call.
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

/// Starts a process that does what it is told, and waits for its end; gives its PID.
pub(crate) fn child(does: &[Act], ends: End) -> io::Result<u32> {
    // SAFETY: it has no precondition. The child makes only system calls, which also is right beside other threads.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        does.iter().copied().for_each(act);
        end(ends);
    }
    let mut status = 0;
    // SAFETY: the kernel writes to `status`, which outlives the call.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(pid as u32)
}

fn act(act: Act) {
    const NOBODY: libc::c_long = 65534;
    // SAFETY: system calls that take numbers only. Not by the C library, which would ask the parent's threads to follow.
    unsafe {
        match act {
            Act::Session => libc::syscall(libc::SYS_setsid),
            Act::Group => libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY),
            Act::User => libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY),
        };
    }
}

fn end(ends: End) -> ! {
    // SAFETY: system calls that take numbers only.
    unsafe {
        match ends {
            End::Code(code) => libc::_exit(code.into()),
            End::Killed => {
                libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getpid), libc::SIGKILL);
            }
            End::Aborted => {
                // The event comes also where no core may be written, be it to a file or to a program.
                libc::prctl(libc::PR_SET_DUMPABLE, 0);
                libc::signal(libc::SIGABRT, libc::SIG_DFL);
                libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getpid), libc::SIGABRT);
            }
        }
        libc::_exit(1)
    }
}
