//! The system calls without a safe wrapper: `fork(2)`, `clone(2)`, `_exit(2)`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::Pid;

/// Starts a process that runs `child`, ends with its code, and never returns from here.
///
/// To be called while there is only one thread: locks that another one holds stay locked in the child for good.
pub(crate) fn fork(child: impl FnOnce() -> u8) -> io::Result<Pid> {
    // SAFETY: it has no precondition. The child has memory of its own and, by glibc's care, an allocator that works.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // A panic must not unwind into the caller: that is the parent's work.
        exit(catch_unwind(AssertUnwindSafe(child)).unwrap_or(101));
    }
    started(pid)
}

/// Starts a process that ends at once; we stand still until then, as in `vfork(2)`.
pub(crate) fn vfork() -> io::Result<Pid> {
    // Without CLONE_VM, the child cannot write to our memory: that is what makes vfork(2) dangerous in Rust.
    let flags = libc::c_long::from(libc::CLONE_VFORK | libc::SIGCHLD);
    let unused: libc::c_long = 0;
    // SAFETY: the child has memory of its own. It has no stack argument, thus goes on with a copy of ours. That glibc
    // does not know of it is no matter: all it does is to end.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, unused, unused, unused, unused) };
    if pid == 0 {
        exit(0);
    }
    started(pid as libc::pid_t)
}

/// What the parent gets from a call that starts a process.
fn started(pid: libc::pid_t) -> io::Result<Pid> {
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData.into())
}

/// Ends the process without what `atfork` and `atexit` left to do: that is the parent's.
fn exit(code: u8) -> ! {
    // SAFETY: it has no precondition.
    unsafe { libc::_exit(code.into()) }
}
