//! The seccomp filter: a classic BPF program that decides by the number and arguments of each call
//! whether the call is intercepted (`seccomp(2)`).
//!
//! The fake kernel's file descriptors have reserved numbers. The filter recognizes them by their
//! numbers, so that calls on all other files run at full speed.

use libc::{c_long, seccomp_data, sock_filter};
use pmon_core::wire::u32_at;

use crate::seccomp::fd_numbers::ReservedFds;
#[cfg(target_arch = "x86_64")]
use crate::seccomp::i386;
use crate::sys::Notification;
use crate::tracee::memory::TraceeMemory;

/// `AUDIT_ARCH_X86_64`, in `seccomp_data.arch`.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E;
/// `AUDIT_ARCH_AARCH64`, in `seccomp_data.arch`.
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7;

/// Numbers of the calls by which 32-bit programs open sockets: `socket`, and on i386 also
/// `socketcall`, which reads its arguments from memory.
#[cfg(target_arch = "x86_64")]
const FOREIGN_SOCKET_CALLS: &[c_long] = &[359, SOCKETCALL as c_long];
#[cfg(target_arch = "aarch64")]
const FOREIGN_SOCKET_CALLS: &[c_long] = &[281];
const SOCKETCALL: u32 = 102;
/// The operation of `socketcall` that opens a socket.
const SYS_SOCKET: u64 = 1;

/// `__X32_SYSCALL_BIT`: set in the numbers of calls of the x32 ABI, which has the architecture of
/// 64-bit programs. Its calls are refused, as by a kernel without that ABI.
#[cfg(target_arch = "x86_64")]
const X32_SYSCALL_BIT: u32 = 0x4000_0000;

// Offsets in `seccomp_data`.
const NR_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;
const ARGS_OFFSET: u32 = 16;

pub(crate) const NETLINK_CONNECTOR: u32 = libc::NETLINK_CONNECTOR as u32;

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
const EMULATED_SOCKET_CALLS: CallRules = &[
    (FilterRule::Fd(0), &[libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_read]),
    (FilterRule::Fd(0), &[libc::SYS_readv, libc::SYS_recvmmsg, libc::SYS_preadv2, libc::SYS_splice]),
    (FilterRule::Fd(0), &[libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_shutdown]),
    (FilterRule::FdAndRequest(&[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_SETFL]), &[libc::SYS_fcntl]),
    (FilterRule::Fd(2), &[libc::SYS_epoll_ctl]),
];

/// Calls on native sockets only.
const NATIVE_SOCKET_CALLS: CallRules =
    &[(FilterRule::FdAndRequest(&[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC]), &[libc::SYS_fcntl])];

/// Calls on all sockets, and calls that are intercepted in any case.
const SOCKET_CALLS: CallRules = &[
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
const WAITING_CALLS: CallRules = &[
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
const TIMED_FUTEX_OPERATIONS: &[i32] = &[
    libc::FUTEX_WAIT_BITSET,
    libc::FUTEX_WAIT,
    libc::FUTEX_LOCK_PI,
    libc::FUTEX_LOCK_PI2,
    libc::FUTEX_WAIT_REQUEUE_PI,
];

/// Calls that read a clock or end at a time, and calls that every program makes before it reads a
/// clock. Rules of other lists for the same calls have no effect.
const CLOCK_CALLS: CallRules = &[
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
const PRIORITY_CALLS: CallRules = &[
    (FilterRule::Ignored, &[libc::SYS_sched_setscheduler, libc::SYS_sched_setparam, libc::SYS_sched_setattr]),
    (FilterRule::Ignored, &[libc::SYS_setpriority, libc::SYS_ioprio_set, libc::SYS_mlockall]),
];

/// Calls that change the caller's user or a file's owner. They would fail in a user namespace that
/// maps a single user.
const USER_CALLS: CallRules = &[
    (FilterRule::Ignored, &[libc::SYS_setuid, libc::SYS_setreuid, libc::SYS_setresuid]),
    (FilterRule::Ignored, &[libc::SYS_setgid, libc::SYS_setregid, libc::SYS_setresgid, libc::SYS_setgroups]),
    (FilterRule::Ignored, &[libc::SYS_fchown, libc::SYS_fchownat]),
    #[cfg(target_arch = "x86_64")]
    (FilterRule::Ignored, &[libc::SYS_chown, libc::SYS_lchown]),
];

/// Calls that take the id of a process.
const PROCESS_CALLS: CallRules = &[
    (FilterRule::Always, &[libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_rt_sigqueueinfo]),
    (FilterRule::NotZero, &[libc::SYS_getpgid, libc::SYS_getsid, libc::SYS_prlimit64]),
    (FilterRule::Always, &[libc::SYS_getpriority, libc::SYS_ioprio_get]),
    (FilterRule::NotZero, &[libc::SYS_sched_getscheduler, libc::SYS_sched_getparam]),
    (FilterRule::NotZero, &[libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity]),
];

/// Calls that may refer to a file in `/proc`.
const PATH_CALLS: CallRules = &[
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

/// The properties of the tracee on which the filter depends.
#[derive(Clone, Copy)]
pub(crate) struct FilterOptions {
    /// Number of the control socket of the new process.
    pub(crate) control: u32,
    /// Whether the tracee's `/proc` shows the fake kernel's processes.
    pub(crate) private_proc: bool,
    /// Whether the tracee's clocks are emulated.
    pub(crate) emulates_clocks: bool,
    /// Whether sockets are native: receiving and waiting calls are executed.
    pub(crate) has_native_sockets: bool,
    /// Whether the tracee sees itself as root.
    pub(crate) is_root: bool,
    /// Whether the user namespace maps all users, not only one.
    pub(crate) maps_all_users: bool,
}

/// Builds the filter. Receiving and waiting calls are intercepted if sockets are emulated; calls
/// that refer to processes and paths, with a private `/proc`; other calls on sockets, always.
pub(crate) fn build_filter(reserved: &ReservedFds, options: FilterOptions) -> Vec<sock_filter> {
    let foreign = foreign_instructions(reserved, options);
    let mut program = vec![load(ARCH_OFFSET), jump(libc::BPF_JEQ, ARCH, 0, 1), skip(foreign.len())];
    program.extend(foreign);
    #[cfg(target_arch = "x86_64")]
    program.extend([
        load(NR_OFFSET),
        jump(libc::BPF_JGE, X32_SYSCALL_BIT, 0, 1),
        ret(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    ]);
    program.extend(call_instructions(reserved, options, &native_rules(options)));
    program
}

/// Returns the rules for calls of the native ABI.
fn native_rules(options: FilterOptions) -> [CallRules; 9] {
    let when = |condition, calls: &'static [_]| if condition { calls } else { &[] };
    [
        when(options.emulates_clocks, CLOCK_CALLS),
        when(!options.has_native_sockets, EMULATED_SOCKET_CALLS),
        when(options.has_native_sockets, NATIVE_SOCKET_CALLS),
        SOCKET_CALLS,
        when(!options.has_native_sockets || options.emulates_clocks, WAITING_CALLS),
        when(options.private_proc, PROCESS_CALLS),
        when(options.private_proc, PATH_CALLS),
        when(options.is_root, PRIORITY_CALLS),
        when(options.is_root && !options.maps_all_users, USER_CALLS),
    ]
}

/// Returns instructions for the calls of a foreign ABI, such as a 32-bit one. They end with an
/// action.
fn foreign_instructions(reserved: &ReservedFds, options: FilterOptions) -> Vec<sock_filter> {
    #[cfg(target_arch = "x86_64")]
    if options.has_native_sockets {
        let path_calls: CallRules = if options.private_proc { i386::PATH_CALLS } else { &[] };
        return call_instructions(reserved, options, &[i386::SOCKET_CALLS, path_calls]);
    }
    // The calls are executed, except those that open a proc connector socket.
    let rules: CallRules = &[(FilterRule::Always, FOREIGN_SOCKET_CALLS)];
    call_instructions(reserved, options, &[rules])
}

/// Returns instructions that decide by rules. They end with an action.
fn call_instructions(
    reserved: &ReservedFds,
    options: FilterOptions,
    lists: &[CallRules],
) -> Vec<sock_filter> {
    let mut program = vec![load(NR_OFFSET)];
    for &(rule, calls) in lists.iter().copied().flatten() {
        let block = rule.instructions(reserved, options.control);
        for &nr in calls {
            program.push(jump(libc::BPF_JEQ, nr as u32, 0, block.len() as u8));
            program.extend(&block);
        }
    }
    program.push(ret(libc::SECCOMP_RET_ALLOW));
    program
}

/// Returns whether a call of a foreign ABI opens a proc connector socket; `None` if the call is of
/// the native ABI.
pub(crate) fn opens_connector_by_foreign_abi(notification: &Notification) -> Option<bool> {
    let seccomp_data { nr, arch, args, .. } = &notification.data;
    if *arch == ARCH {
        return None;
    }
    let [family, protocol] = match (*nr as u32, args[0]) {
        (SOCKETCALL, SYS_SOCKET) => {
            let words = TraceeMemory::of(notification.pid).bytes::<12>(args[1]).unwrap_or_default();
            [u32_at(&words, 0), u32_at(&words, 8)]
        }
        (SOCKETCALL, _) => return Some(false),
        _ => [args[0] as u32, args[2] as u32],
    };
    Some([family, protocol] == [libc::AF_NETLINK as u32, NETLINK_CONNECTOR])
}

impl FilterRule {
    /// Returns instructions that end with an action.
    fn instructions(self, reserved: &ReservedFds, control: u32) -> Vec<sock_filter> {
        let intercept = [ret(libc::SECCOMP_RET_USER_NOTIF), ret(libc::SECCOMP_RET_ALLOW)];
        // Continues after itself if the argument is reserved; otherwise allows the call.
        let is_reserved = |argument| {
            let ranges = &reserved.ranges;
            let checks = ranges.iter().enumerate().flat_map(|(at, range)| {
                let remaining = 2 * (ranges.len() - 1 - at) as u8 + 1;
                [jump(libc::BPF_JGE, range.start, 0, 1), jump(libc::BPF_JGE, range.end, 0, remaining)]
            });
            [load(argument_at(argument))].into_iter().chain(checks).chain([ret(libc::SECCOMP_RET_ALLOW)])
        };
        let mut block = Vec::new();
        match self {
            Self::Fd(argument) => block.extend(is_reserved(argument)),
            Self::FdAndRequest(values) => {
                block.extend(is_reserved(0));
                block.push(load(argument_at(1)));
                block.extend(is_one_of(values));
            }
            Self::FdCount => {
                block.extend([load(argument_at(0)), jump(libc::BPF_JGT, reserved.lowest(), 0, 1)]);
            }
            Self::Connector => block.extend([
                load(argument_at(0)),
                jump(libc::BPF_JEQ, libc::AF_NETLINK as u32, 0, 3),
                load(argument_at(2)),
                jump(libc::BPF_JEQ, NETLINK_CONNECTOR, 0, 1),
            ]),
            Self::NotControl => block.extend([load(argument_at(0)), jump(libc::BPF_JEQ, control, 1, 0)]),
            Self::Zero => block.extend([load(argument_at(0)), jump(libc::BPF_JEQ, 0, 0, 1)]),
            Self::FirstIsOneOf(values) => {
                block.push(load(argument_at(0)));
                block.extend(is_one_of(values));
            }
            Self::FutexWithTimeout(operations) => {
                let flags = (libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) as u32;
                block.extend([load(argument_at(3)), jump(libc::BPF_JEQ, 0, 0, 1)]);
                block.extend([ret(libc::SECCOMP_RET_ALLOW), load(argument_at(1)), and(!flags)]);
                block.extend(is_one_of(operations));
            }
            Self::NotZero => block.extend([load(argument_at(0)), jump(libc::BPF_JEQ, 0, 1, 0)]),
            Self::Always => {}
            Self::Ignored => return vec![ret(libc::SECCOMP_RET_ERRNO)],
            Self::Unsupported => return vec![ret(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)],
        }
        block.extend(intercept);
        block
    }
}

/// Returns instructions that continue after themselves if the loaded value is one of `values`, and
/// otherwise skip one more instruction.
fn is_one_of(values: &[i32]) -> impl Iterator<Item = sock_filter> {
    let count = values.len() as u8;
    values.iter().zip(0..).map(move |(&value, at)| {
        let left = count - 1 - at;
        jump(libc::BPF_JEQ, value as u32, left, u8::from(left == 0))
    })
}

/// Returns the offset of the lower half of an argument.
fn argument_at(argument: u8) -> u32 {
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    ARGS_OFFSET + 8 * u32::from(argument) + low
}

fn load(at: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: at }
}

fn jump(condition: u32, value: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | condition | libc::BPF_K) as u16, jt, jf, k: value }
}

/// Returns a jump over `count` instructions.
fn skip(count: usize) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | libc::BPF_JA) as u16, jt: 0, jf: 0, k: count as u32 }
}

fn and(mask: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, jt: 0, jf: 0, k: mask }
}

fn ret(action: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}

#[cfg(test)]
mod tests {
    use pmon_core::Cpu;
    use pmon_fake::{ClassicFilter, SockFilter};

    use super::*;

    const INTERCEPTED: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;
    const ROOT: FilterOptions = FilterOptions {
        control: 952,
        private_proc: true,
        emulates_clocks: false,
        has_native_sockets: false,
        is_root: true,
        maps_all_users: true,
    };

    /// Runs the filter on a call.
    fn action(options: FilterOptions, arch: u32, nr: c_long, args: &[u64]) -> u32 {
        let reserved = ReservedFds { ranges: vec![960..1024, 224..248] };
        let program = build_filter(&reserved, options);
        let program: Vec<_> =
            program.iter().map(|&sock_filter { code, jt, jf, k }| SockFilter { code, jt, jf, k }).collect();
        // seccomp loads words in host order; the interpreter is for datagrams and loads them in
        // network order.
        let args = (0..6).map(|at| args.get(at).copied().unwrap_or(0));
        let halves = args.flat_map(|arg| [arg as u32, (arg >> 32) as u32]);
        let words = [nr as u32, arch, 0, 0].into_iter().chain(halves);
        let data: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
        ClassicFilter::new(&program).unwrap().run(&data, Cpu(0)) as u32
    }

    fn is_intercepted(nr: c_long, args: &[u64]) -> bool {
        match action(ROOT, ARCH, nr, args) {
            INTERCEPTED => true,
            ALLOWED => false,
            other => panic!("{other:#x}"),
        }
    }

    #[test]
    fn calls_on_reserved_numbers_are_intercepted() {
        let socket_calls = [libc::SYS_recvfrom, libc::SYS_read, libc::SYS_sendto, libc::SYS_bind];
        let file_calls = [libc::SYS_ioctl, libc::SYS_dup];
        let reserved = [224, 247, 960, 1023];
        for fd in reserved.into_iter().chain([0, 223, 248, 959, 1024]) {
            let expected = reserved.contains(&fd);
            for nr in socket_calls.into_iter().chain(file_calls) {
                assert_eq!(is_intercepted(nr, &[fd]), expected, "call {nr} on {fd}");
            }
            assert_eq!(is_intercepted(libc::SYS_epoll_ctl, &[5, 1, fd]), expected);
            assert!(!is_intercepted(libc::SYS_close, &[fd]));
            assert!(is_intercepted(libc::SYS_sendmsg, &[fd]));
        }
        let control = u64::from(ROOT.control);
        assert!(!is_intercepted(libc::SYS_sendmsg, &[control]), "the supervisor has no listener yet");
        assert!(!is_intercepted(libc::SYS_recvfrom, &[u64::from(u32::MAX), 960]), "-1 is not reserved");
    }

    #[test]
    fn receiving_and_waiting_calls_on_native_sockets_are_executed() {
        let native = FilterOptions { has_native_sockets: true, ..ROOT };
        for (nr, expected) in [
            (libc::SYS_recvfrom, ALLOWED),
            (libc::SYS_recvmmsg, ALLOWED),
            (libc::SYS_read, ALLOWED),
            (libc::SYS_ppoll, ALLOWED),
            (libc::SYS_epoll_pwait, ALLOWED),
            (libc::SYS_epoll_ctl, ALLOWED),
            (libc::SYS_sendto, INTERCEPTED),
            (libc::SYS_sendmsg, INTERCEPTED),
            (libc::SYS_bind, INTERCEPTED),
            (libc::SYS_setsockopt, INTERCEPTED),
            (libc::SYS_getsockname, INTERCEPTED),
            (libc::SYS_dup, INTERCEPTED),
        ] {
            assert_eq!(action(native, ARCH, nr, &[970, 1, 970]), expected, "call {nr}");
        }
        let fcntl = |request: i32| action(native, ARCH, libc::SYS_fcntl, &[970, request as u64]);
        assert_eq!([libc::F_DUPFD, libc::F_SETFL].map(fcntl), [INTERCEPTED, ALLOWED]);
    }

    #[test]
    fn only_proc_connector_sockets_are_intercepted() {
        let (netlink, connector) = (libc::AF_NETLINK as u64, libc::NETLINK_CONNECTOR as u64);
        let unix = libc::AF_UNIX as u64;
        assert!(is_intercepted(libc::SYS_socket, &[netlink, 3, connector]));
        assert!(!is_intercepted(libc::SYS_socket, &[netlink, 3, 0]));
        assert!(!is_intercepted(libc::SYS_socket, &[unix, 3, connector]));
    }

    #[test]
    fn fcntl_is_intercepted_if_it_duplicates_or_sets_flags() {
        let intercepted = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_SETFL];
        for request in intercepted.into_iter().chain([libc::F_GETFL, libc::F_SETFD]) {
            assert_eq!(
                is_intercepted(libc::SYS_fcntl, &[970, request as u64]),
                intercepted.contains(&request)
            );
            assert!(!is_intercepted(libc::SYS_fcntl, &[7, request as u64]));
        }
    }

    /// The highest of `count` file descriptors is `count - 1`.
    #[test]
    fn select_is_intercepted_if_it_includes_a_reserved_number() {
        for (count, expected) in [(0, false), (224, false), (225, true), (1024, true)] {
            assert_eq!(is_intercepted(libc::SYS_pselect6, &[count]), expected, "{count}");
        }
    }

    #[test]
    fn processes_and_paths_are_intercepted_only_with_a_private_proc() {
        let real = FilterOptions { private_proc: false, ..ROOT };
        for (nr, args) in [
            (libc::SYS_openat, &[0_u64; 2]),
            (libc::SYS_statx, &[0; 2]),
            (libc::SYS_chroot, &[0; 2]),
            (libc::SYS_mount, &[0; 2]),
            (libc::SYS_getsid, &[7, 9]),
            (libc::SYS_getpgid, &[7, 0]),
        ] {
            assert!(is_intercepted(nr, args), "call {nr}");
            assert_eq!(action(real, ARCH, nr, args), ALLOWED, "call {nr}");
        }
        assert!(!is_intercepted(libc::SYS_getpgid, &[0]), "0 is the caller");
    }

    #[test]
    fn clocks_of_the_machine_are_intercepted_only_if_they_are_emulated() {
        let emulated = FilterOptions { emulates_clocks: true, ..ROOT };
        for clock in [-1_i64, -6, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] {
            let expected = if matches!(clock, 0 | 1 | 4..=9 | 11) { INTERCEPTED } else { ALLOWED };
            let args = [clock as u64];
            assert_eq!(action(emulated, ARCH, libc::SYS_clock_gettime, &args), expected, "clock {clock}");
            assert_eq!(action(ROOT, ARCH, libc::SYS_clock_gettime, &args), ALLOWED, "clock {clock}");
        }
        for nr in [libc::SYS_gettimeofday, libc::SYS_nanosleep, libc::SYS_sysinfo, libc::SYS_pselect6] {
            assert_eq!(action(emulated, ARCH, nr, &[]), INTERCEPTED, "call {nr}");
            assert_eq!(action(ROOT, ARCH, nr, &[]), ALLOWED, "call {nr}");
        }
        assert_eq!(action(emulated, ARCH, libc::SYS_brk, &[0]), INTERCEPTED);
        assert_eq!(action(emulated, ARCH, libc::SYS_brk, &[0x5000]), ALLOWED);
    }

    #[test]
    fn futexes_are_intercepted_if_they_have_a_timeout() {
        let emulated = FilterOptions { emulates_clocks: true, ..ROOT };
        let flags = [0, libc::FUTEX_PRIVATE_FLAG, libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME];
        for operation in 0..=13 {
            let waits = TIMED_FUTEX_OPERATIONS.contains(&operation);
            for flags in flags {
                for (timeout, expected) in [(0, false), (0x7FFF_0000, waits)] {
                    let args = [1, (operation | flags) as u64, 0, timeout];
                    let expected = if expected { INTERCEPTED } else { ALLOWED };
                    assert_eq!(action(emulated, ARCH, libc::SYS_futex, &args), expected, "{args:?}");
                }
            }
        }
        assert_eq!(action(ROOT, ARCH, libc::SYS_futex, &[1, 0, 0, 1]), ALLOWED);
    }

    #[test]
    fn privileged_calls_are_ignored_if_the_tracee_sees_itself_as_root() {
        let user = FilterOptions { is_root: false, ..ROOT };
        assert_eq!(action(ROOT, ARCH, libc::SYS_setpriority, &[]), libc::SECCOMP_RET_ERRNO);
        assert_eq!(action(user, ARCH, libc::SYS_setpriority, &[]), ALLOWED);
        let unsupported = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        assert_eq!(action(user, ARCH, libc::SYS_io_uring_setup, &[]), unsupported);
    }

    /// Call 3 of i386 is `read`.
    #[test]
    fn foreign_abis_are_intercepted_only_when_they_open_a_socket() {
        let args = [970, 1, 2];
        assert_eq!(action(ROOT, 0x4000_0003, libc::SYS_read, &args), ALLOWED);
        assert_eq!(action(ROOT, 0x4000_0003, 3, &args), ALLOWED);
        for &nr in FOREIGN_SOCKET_CALLS {
            assert_eq!(action(ROOT, 0x4000_0003, nr, &args), INTERCEPTED, "{nr}");
        }
        assert_eq!(action(ROOT, ARCH, libc::SYS_read, &args), INTERCEPTED);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn calls_of_32_bit_programs_on_native_sockets_are_intercepted() {
        let native = FilterOptions { has_native_sockets: true, ..ROOT };
        let [netlink, connector] = [libc::AF_NETLINK, libc::NETLINK_CONNECTOR].map(|value| value as u64);
        for (nr, args, expected) in [
            (3, [970, 0, 0], ALLOWED),
            (4, [970, 0, 0], INTERCEPTED),
            (4, [1, 0, 0], ALLOWED),
            (359, [netlink, 3, connector], INTERCEPTED),
            (359, [netlink, 3, 0], ALLOWED),
            // `bind` and `recv` by `socketcall`.
            (102, [2, 0, 0], INTERCEPTED),
            (102, [10, 0, 0], ALLOWED),
            (221, [970, libc::F_DUPFD as u64, 0], INTERCEPTED),
            (221, [970, libc::F_GETFL as u64, 0], ALLOWED),
            (5, [0, 0, 0], INTERCEPTED),
            (425, [0, 0, 0], libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
            (168, [0, 0, 0], ALLOWED),
        ] {
            assert_eq!(action(native, i386::ARCH, nr, &args), expected, "call {nr}, {args:?}");
        }
        let real = FilterOptions { private_proc: false, ..native };
        assert_eq!(action(real, i386::ARCH, 5, &[]), ALLOWED);
        assert_eq!(action(native, ARCH, libc::SYS_read, &[970]), ALLOWED);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn calls_of_the_x32_abi_are_refused() {
        let refused = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        for nr in [libc::SYS_socket, libc::SYS_read, libc::SYS_close, 512] {
            let x32 = nr | c_long::from(X32_SYSCALL_BIT);
            assert_eq!(action(ROOT, ARCH, x32, &[16, 3, 11]), refused, "call {nr}");
        }
        assert_eq!(action(ROOT, ARCH, libc::SYS_close, &[3]), ALLOWED);
    }

    /// `BPF_MAXINSNS`.
    #[test]
    fn the_kernel_accepts_the_length_of_the_filter() {
        let reserved = ReservedFds { ranges: vec![960..1024, 224..248, 56..64, 4032..4096] };
        for has_native_sockets in [false, true] {
            let options =
                FilterOptions { emulates_clocks: true, maps_all_users: false, has_native_sockets, ..ROOT };
            assert!(build_filter(&reserved, options).len() <= 4096);
        }
    }
}
