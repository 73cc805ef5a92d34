//! System calls without a safe wrapper: `clone3(2)` without a new stack, an exit without
//! destructors, and the process group and session, which rustix does not accept to be 0.

use std::io;

/// The flag `CLONE_PARENT` of `clone(2)`.
pub(crate) const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;

/// The arguments of `clone3(2)`: `struct clone_args` up to `set_tid_size`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

/// Forks this process, and returns the ID of the child, or 0 in the child. With `pid`, the child
/// gets this process ID, which needs `CAP_CHECKPOINT_RESTORE`.
pub(crate) fn fork(flags: u64, pid: Option<u32>) -> io::Result<u32> {
    // With CLONE_PARENT, the child has the exit signal of the caller.
    let exit_signal = if flags & CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    let mut args = CloneArgs { flags, exit_signal, ..CloneArgs::default() };
    if let Some(pid) = &pid {
        (args.set_tid, args.set_tid_size) = (std::ptr::from_ref(pid) as u64, 1);
    }
    // SAFETY: the kernel reads `args` and the ID to which it points. This process has one thread,
    // so its copy can continue to run any code.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<CloneArgs>()) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid as u32) }
}

/// Returns the process group and the session of this process. Each is 0 if its leader is in no
/// namespace of this process, and in the children of the kernel's first process until they create
/// one.
pub(crate) fn group_and_session() -> (i32, i32) {
    // SAFETY: the calls only return numbers, and cannot fail for the caller.
    unsafe { (libc::getpgid(0), libc::getsid(0)) }
}

/// Exits this process without the destructors of the process that it is a copy of.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: nothing uses this process's data after the call.
    unsafe { libc::_exit(code) }
}
