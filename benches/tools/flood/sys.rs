//! System calls without a safe wrapper: `fork(2)`, `clone(2)`, `_exit(2)`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::Pid;

/// Starts a process that runs `child`, exits with its code, and never returns from here.
///
/// The caller must have only one thread: a lock that another thread holds would never be released
/// in the child.
pub(crate) fn fork(child: impl FnOnce() -> u8) -> io::Result<Pid> {
    // SAFETY: fork has no precondition. The child has its own memory, and glibc keeps the allocator
    // usable.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // A panic must not unwind into the code of the parent.
        exit(catch_unwind(AssertUnwindSafe(child)).unwrap_or(101));
    }
    started(pid)
}

/// Starts a process that exits at once. The caller is suspended until then, as by `vfork(2)`.
pub(crate) fn vfork() -> io::Result<Pid> {
    // vfork(2) is dangerous in Rust because the child can write to the memory of the parent.
    // Without CLONE_VM, it cannot.
    let flags = libc::c_long::from(libc::CLONE_VFORK | libc::SIGCHLD);
    let unused: libc::c_long = 0;
    // SAFETY: the child has its own memory. Without a stack argument, it continues on a copy of the
    // parent's stack. glibc does not know about the child, which only exits.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, unused, unused, unused, unused) };
    if pid == 0 {
        exit(0);
    }
    started(pid as libc::pid_t)
}

/// Converts the result of a call that starts a process, in the parent.
fn started(pid: libc::pid_t) -> io::Result<Pid> {
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData.into())
}

/// Exits without the handlers of `atexit`, which belong to the parent.
fn exit(code: u8) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(code.into()) }
}
