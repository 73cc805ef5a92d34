//! System calls of the kernel's processes.

use std::ffi::{c_char, c_int};

use libc::{gid_t, pid_t, uid_t};
use pmon_core::Task;

use super::kernel::Kernel;
use super::{call, pid};
use crate::call_error::CallError;
use crate::state::State;
use crate::sys;

/// The highest signal.
const MAX_SIGNAL: c_int = 64;
/// The maximum of `kernel.pid_max`: process ids are below it.
const PID_MAX: pid_t = 4 << 20;

/// Runs a system call of a running task.
///
/// # Safety
/// As [`call`].
unsafe fn call_of(kernel: *const Kernel, tid: pid_t, act: impl FnOnce(&mut State, Task)) -> c_int {
    // SAFETY: as required of the caller.
    unsafe {
        call(kernel, |state| {
            let task = state.task(tid)?;
            act(state, task);
            Ok(0)
        })
    }
}

/// Adds a process that already runs, without an event; returns its id. Its parent is `init`, and it
/// is named `comm`, of which 15 bytes are used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_add_process(kernel: *const Kernel, comm: *const c_char) -> pid_t {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let comm = sys::text(comm, "comm")?;
            pid(state.kernel.add_process(comm).tgid.0)
        })
    }
}

/// Sets the id of the next process or thread, from 1 to 4194303. If it is taken, the next free one
/// is used. At first, it is 300.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_set_next_pid(kernel: *const Kernel, pid: pid_t) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            if !(1..PID_MAX).contains(&pid) {
                return Err(CallError::invalid(format_args!("{pid} is not a process id")));
            }
            state.kernel.set_next_pid(pid as u32);
            Ok(0)
        })
    }
}

/// The thread `parent` forks (`fork`); returns the id of the child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_fork(kernel: *const Kernel, parent: pid_t) -> pid_t {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let parent = state.task(parent)?;
            pid(state.kernel.fork(parent).tgid.0)
        })
    }
}

/// The thread `creator` starts a thread in its process (`clone(CLONE_THREAD)`); returns the id of
/// the thread. The parent in the event is the thread that forked the process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_clone_thread(kernel: *const Kernel, creator: pid_t) -> pid_t {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let creator = state.task(creator)?;
            pid(state.kernel.clone_thread(creator).tid.0)
        })
    }
}

/// The thread `tid` executes a program (`execve`); `argv` ends with NULL. The other threads of its
/// process end first. After that, the only thread of the process has the id of the process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_exec(
    kernel: *const Kernel,
    tid: pid_t,
    path: *const c_char,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let (path, argv) = (sys::text(path, "path")?, sys::texts(argv, "argv")?);
            let task = state.task(tid)?;
            state.kernel.exec(task, path, &argv);
            Ok(0)
        })
    }
}

/// The thread `tid` ends (`exit`), with the lowest 8 bits of `status` as its exit status. With its
/// last thread, the process ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_exit(kernel: *const Kernel, tid: pid_t, status: c_int) -> c_int {
    // SAFETY: as the header requires.
    unsafe { call_of(kernel, tid, |state, task| state.kernel.exit(task, status as u8)) }
}

/// The process of the thread `tid` ends with all its threads (`exit_group`), with the lowest 8 bits
/// of `status` as its exit status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_exit_group(kernel: *const Kernel, tid: pid_t, status: c_int) -> c_int {
    // SAFETY: as the header requires.
    unsafe { call_of(kernel, tid, |state, task| state.kernel.exit_group(task.tgid, status as u8)) }
}

/// The process of the thread `tid` ends by `signal`, from 1 to 64. A signal that dumps core, such
/// as `SIGSEGV`, emits a core-dump event; `core` decides whether a core is written, which the exit
/// status reports.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_kill(
    kernel: *const Kernel,
    tid: pid_t,
    signal: c_int,
    core: bool,
) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            if !(1..=MAX_SIGNAL).contains(&signal) {
                return Err(CallError::invalid(format_args!("there is no signal {signal}")));
            }
            let task = state.task(tid)?;
            state.kernel.kill(task.tgid, signal as u8, core);
            Ok(0)
        })
    }
}

/// The thread `tid` is renamed (`prctl(PR_SET_NAME)`). Of `comm`, 15 bytes are used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_rename(kernel: *const Kernel, tid: pid_t, comm: *const c_char) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let comm = sys::text(comm, "comm")?;
            let task = state.task(tid)?;
            state.kernel.rename(task, comm);
            Ok(0)
        })
    }
}

/// The thread `tid` sets its real and effective user id (`setresuid`). There is no event if neither
/// changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_setuid(
    kernel: *const Kernel,
    tid: pid_t,
    real: uid_t,
    effective: uid_t,
) -> c_int {
    // SAFETY: as the header requires.
    unsafe { call_of(kernel, tid, |state, task| state.kernel.setuid(task, real, effective)) }
}

/// The thread `tid` sets its real and effective group id (`setresgid`). There is no event if
/// neither changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_setgid(
    kernel: *const Kernel,
    tid: pid_t,
    real: gid_t,
    effective: gid_t,
) -> c_int {
    // SAFETY: as the header requires.
    unsafe { call_of(kernel, tid, |state, task| state.kernel.setgid(task, real, effective)) }
}

/// The process of the thread `tid` becomes the leader of a session (`setsid`). There is no event if
/// it leads one already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_setsid(kernel: *const Kernel, tid: pid_t) -> c_int {
    // SAFETY: as the header requires.
    unsafe { call_of(kernel, tid, |state, task| state.kernel.setsid(task)) }
}

/// The thread `tracer` attaches to the thread `tid` (`ptrace(PTRACE_ATTACH)`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_ptrace_attach(
    kernel: *const Kernel,
    tracer: pid_t,
    tid: pid_t,
) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let (tracer, task) = (state.task(tracer)?, state.task(tid)?);
            state.kernel.ptrace_attach(tracer, task);
            Ok(0)
        })
    }
}

/// The tracer of the thread `tid` detaches (`ptrace(PTRACE_DETACH)`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_ptrace_detach(kernel: *const Kernel, tid: pid_t) -> c_int {
    // SAFETY: as the header requires.
    unsafe { call_of(kernel, tid, |state, task| state.kernel.ptrace_detach(task)) }
}
