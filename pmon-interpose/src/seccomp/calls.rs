//! The intercepted system calls, each with the rule by which the filter decides.

use libc::c_long;

/// What the filter does with a call.
#[derive(Clone, Copy)]
pub(super) enum FilterRule {
    /// Intercepts the call if the argument with this index is a reserved file descriptor.
    Fd(u8),
    /// Intercepts the call if the first argument is a reserved file descriptor and the second is
    /// one of these values.
    FdAndRequest(&'static [i32]),
    /// Intercepts the call if the first argument, a number of file descriptors, exceeds the lowest
    /// reserved one.
    FdCount,
    /// Intercepts the call unless the first argument is the control socket of the new process.
    NotControl,
    /// Intercepts the call if it opens a proc connector socket.
    Connector,
    /// Intercepts the call if the first argument is not 0.
    NotZero,
    /// Intercepts the call if the first argument is 0.
    Zero,
    /// Intercepts the call if the first argument, a clock or an operation, is one of these values.
    FirstIsOneOf(&'static [i32]),
    /// Intercepts the call if the second argument is one of these operations on a futex, and the
    /// fourth, a time-out, is not 0.
    FutexWithTimeout(&'static [i32]),
    /// Intercepts the call.
    Always,
    /// Lets the call fail with `ENOSYS`.
    Unsupported,
    /// Lets the call succeed without an effect.
    Ignored,
}

/// Calls, each group with the rule for it.
pub(super) type CallRules = &'static [(FilterRule, &'static [c_long])];

/// Calls on emulated sockets, most frequent first.
pub(super) const EMULATED_SOCKET_CALLS: CallRules = &[
    (FilterRule::Fd(0), &[libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_read]),
    (FilterRule::Fd(0), &[libc::SYS_readv, libc::SYS_recvmmsg, libc::SYS_preadv2, libc::SYS_splice]),
    (FilterRule::Fd(0), &[libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_shutdown]),
    (FilterRule::FdAndRequest(&[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_SETFL]), &[libc::SYS_fcntl]),
    (FilterRule::Fd(2), &[libc::SYS_epoll_ctl]),
];

/// Calls on native sockets only.
pub(super) const NATIVE_SOCKET_CALLS: CallRules =
    &[(FilterRule::FdAndRequest(&[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC]), &[libc::SYS_fcntl])];

/// Calls on all sockets, and calls that are intercepted in any case.
pub(super) const SOCKET_CALLS: CallRules = &[
    (FilterRule::Fd(0), &[libc::SYS_write, libc::SYS_writev, libc::SYS_sendto]),
    // Can pass a file descriptor to another process, where it gets another number.
    (FilterRule::NotControl, &[libc::SYS_sendmsg]),
    (FilterRule::Fd(0), &[libc::SYS_pwritev2, libc::SYS_sendmmsg, libc::SYS_sendfile]),
    (FilterRule::Connector, &[libc::SYS_socket]),
    (FilterRule::Fd(0), &[libc::SYS_bind, libc::SYS_connect, libc::SYS_getsockname]),
    (FilterRule::Fd(0), &[libc::SYS_getpeername, libc::SYS_setsockopt, libc::SYS_getsockopt]),
    (FilterRule::Fd(0), &[libc::SYS_ioctl, libc::SYS_dup, libc::SYS_dup3]),
    #[cfg(target_arch = "x86_64")]
    (FilterRule::Fd(0), &[libc::SYS_dup2]),
    // A process group may span PID namespaces: the program's group may contain foreign processes.
    (FilterRule::Always, &[libc::SYS_kill]),
    // Calls through a ring are not intercepted. Programs fall back to ordinary calls without it.
    (FilterRule::Unsupported, &[libc::SYS_io_uring_setup]),
];

/// Calls that wait for one of several files. They are intercepted so that the next event is emitted
/// before the wait.
pub(super) const WAITING_CALLS: CallRules = &[
    (FilterRule::Always, &[libc::SYS_ppoll, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2]),
    (FilterRule::FdCount, &[libc::SYS_pselect6]),
    #[cfg(target_arch = "x86_64")]
    (FilterRule::Always, &[libc::SYS_poll, libc::SYS_epoll_wait]),
    #[cfg(target_arch = "x86_64")]
    (FilterRule::FdCount, &[libc::SYS_select]),
];

/// The clocks of the machine; the others are those of processes and devices.
const MACHINE_CLOCKS: &[i32] = &[
    libc::CLOCK_MONOTONIC,
    libc::CLOCK_REALTIME,
    libc::CLOCK_BOOTTIME,
    libc::CLOCK_MONOTONIC_COARSE,
    libc::CLOCK_REALTIME_COARSE,
    libc::CLOCK_MONOTONIC_RAW,
    libc::CLOCK_REALTIME_ALARM,
    libc::CLOCK_BOOTTIME_ALARM,
    libc::CLOCK_TAI,
];

/// The operations on a futex that may end by a time-out.
pub(super) const TIMED_FUTEX_OPERATIONS: &[i32] = &[
    libc::FUTEX_WAIT_BITSET,
    libc::FUTEX_WAIT,
    libc::FUTEX_LOCK_PI,
    libc::FUTEX_LOCK_PI2,
    libc::FUTEX_WAIT_REQUEUE_PI,
];

/// Calls that read a clock or end at a time, and calls that every program makes before it reads a
/// clock. Rules of other lists for the same calls have no effect.
pub(super) const CLOCK_CALLS: CallRules = &[
    (FilterRule::FirstIsOneOf(MACHINE_CLOCKS), &[libc::SYS_clock_gettime]),
    (FilterRule::Always, &[libc::SYS_gettimeofday, libc::SYS_sysinfo]),
    #[cfg(target_arch = "x86_64")]
    (FilterRule::Always, &[libc::SYS_time, libc::SYS_select, libc::SYS_arch_prctl]),
    (FilterRule::FutexWithTimeout(TIMED_FUTEX_OPERATIONS), &[libc::SYS_futex]),
    (FilterRule::Always, &[libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_pselect6]),
    (FilterRule::Zero, &[libc::SYS_brk]),
    (
        FilterRule::Always,
        &[libc::SYS_set_tid_address, libc::SYS_sched_getaffinity, libc::SYS_timerfd_settime],
    ),
];

/// Calls that raise the caller's priority or lock its memory. The program sees itself as root,
/// but may lack the privilege; during replay nothing depends on the effect.
pub(super) const PRIORITY_CALLS: CallRules = &[
    (FilterRule::Ignored, &[libc::SYS_sched_setscheduler, libc::SYS_sched_setparam, libc::SYS_sched_setattr]),
    (FilterRule::Ignored, &[libc::SYS_setpriority, libc::SYS_ioprio_set, libc::SYS_mlockall]),
];

/// Calls that change the caller's user or a file's owner. They would fail in a user namespace that
/// maps a single user.
pub(super) const USER_CALLS: CallRules = &[
    (FilterRule::Ignored, &[libc::SYS_setuid, libc::SYS_setreuid, libc::SYS_setresuid]),
    (FilterRule::Ignored, &[libc::SYS_setgid, libc::SYS_setregid, libc::SYS_setresgid, libc::SYS_setgroups]),
    (FilterRule::Ignored, &[libc::SYS_fchown, libc::SYS_fchownat]),
    #[cfg(target_arch = "x86_64")]
    (FilterRule::Ignored, &[libc::SYS_chown, libc::SYS_lchown]),
];

/// Calls that take the id of a process.
pub(super) const PROCESS_CALLS: CallRules = &[
    (FilterRule::Always, &[libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_rt_sigqueueinfo]),
    (FilterRule::NotZero, &[libc::SYS_getpgid, libc::SYS_getsid, libc::SYS_prlimit64]),
    (FilterRule::Always, &[libc::SYS_getpriority, libc::SYS_ioprio_get]),
    (FilterRule::NotZero, &[libc::SYS_sched_getscheduler, libc::SYS_sched_getparam]),
    (FilterRule::NotZero, &[libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity]),
];

/// Calls that may refer to a file in `/proc`.
pub(super) const PATH_CALLS: CallRules = &[
    (FilterRule::Always, &[libc::SYS_openat, libc::SYS_openat2, libc::SYS_newfstatat, libc::SYS_statx]),
    (FilterRule::Always, &[libc::SYS_fstat, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlinkat]),
    (FilterRule::Always, &[libc::SYS_getdents64, libc::SYS_chdir, libc::SYS_statfs, libc::SYS_fstatfs]),
    #[cfg(target_arch = "x86_64")]
    (FilterRule::Always, &[libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat]),
    #[cfg(target_arch = "x86_64")]
    (FilterRule::Always, &[libc::SYS_access, libc::SYS_readlink]),
    (FilterRule::Always, REMOUNTING_CALLS),
];

/// Calls after which a path may lead to another file than before.
const REMOUNTING_CALLS: &[c_long] = &[
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_setns,
];

/// Returns whether the call with this number may change to which file a path leads.
pub(crate) fn is_remounting(nr: c_long) -> bool {
    REMOUNTING_CALLS.contains(&nr)
}

/// Returns whether the call with this number waits for one of several files.
pub(crate) fn is_wait(nr: c_long) -> bool {
    WAITING_CALLS.iter().any(|(_, calls)| calls.contains(&nr))
}

/// Returns whether the call with this number takes the id of a process.
pub(crate) fn takes_process_id(nr: c_long) -> bool {
    nr == libc::SYS_kill || PROCESS_CALLS.iter().any(|(_, calls)| calls.contains(&nr))
}
