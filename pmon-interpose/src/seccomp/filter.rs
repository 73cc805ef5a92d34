//! Which system calls are asked about: a classic BPF program over each call's number and arguments (`seccomp(2)`).
//!
//! File descriptors of the fake kernel have numbers in a reserved range, so that the program tells them by their numbers, and calls on all
//! others run at full speed.

use libc::{c_long, seccomp_data, sock_filter};
use pmon_core::wire::u32_at;

use crate::launch::options::LaunchOptions;
use crate::seccomp::reserved::Reserved;
use crate::sys::Notification;
use crate::tracee::Memory;

/// The machine's name in `seccomp_data.arch`.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7;

/// `socket` as a 32-bit program on such a machine calls it, and by way of another call, which reads its arguments from memory.
#[cfg(target_arch = "x86_64")]
const OTHER_CALLS: &[u32] = &[359, SOCKETCALL];
#[cfg(target_arch = "aarch64")]
const OTHER_CALLS: &[u32] = &[281];
const SOCKETCALL: u32 = 102;
/// What `socketcall` is then asked for.
const SYS_SOCKET: u64 = 1;

/// Where in `seccomp_data` they are.
const NR_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGS_AT: u32 = 16;

pub(crate) const NETLINK_CONNECTOR: u32 = libc::NETLINK_CONNECTOR as u32;

/// When a call is asked about.
#[derive(Clone, Copy)]
enum Rule {
    /// If that argument is a file descriptor of the fake kernel.
    Fd(u8),
    /// If the first argument is, and the second is one of these.
    FdAnd(&'static [u32]),
    /// If the first argument, a number of file descriptors, takes in such a one.
    Count,
    /// If the first argument is not the file descriptor by which the new process is heard.
    FdBut,
    /// If it opens a socket on a proc connector.
    Connector,
    /// If the first argument is not 0.
    NotZero,
    Always,
    /// Never: it fails with `ENOSYS`.
    Missing,
    /// Never: it succeeds, and does nothing.
    Granted,
}

/// Calls of sockets, in the order in which they are looked for, and others that are asked about in any case.
const SOCKET_CALLS: &[(c_long, Rule)] = &[
    (libc::SYS_recvfrom, Rule::Fd(0)),
    (libc::SYS_recvmsg, Rule::Fd(0)),
    (libc::SYS_read, Rule::Fd(0)),
    (libc::SYS_write, Rule::Fd(0)),
    (libc::SYS_readv, Rule::Fd(0)),
    (libc::SYS_writev, Rule::Fd(0)),
    (libc::SYS_recvmmsg, Rule::Fd(0)),
    (libc::SYS_sendto, Rule::Fd(0)),
    // It can pass a file descriptor on, to where it has another number.
    (libc::SYS_sendmsg, Rule::FdBut),
    (libc::SYS_preadv2, Rule::Fd(0)),
    (libc::SYS_pwritev2, Rule::Fd(0)),
    (libc::SYS_splice, Rule::Fd(0)),
    (libc::SYS_sendmmsg, Rule::Fd(0)),
    (libc::SYS_socket, Rule::Connector),
    (libc::SYS_bind, Rule::Fd(0)),
    (libc::SYS_connect, Rule::Fd(0)),
    (libc::SYS_listen, Rule::Fd(0)),
    (libc::SYS_accept, Rule::Fd(0)),
    (libc::SYS_accept4, Rule::Fd(0)),
    (libc::SYS_shutdown, Rule::Fd(0)),
    (libc::SYS_getsockname, Rule::Fd(0)),
    (libc::SYS_getpeername, Rule::Fd(0)),
    (libc::SYS_setsockopt, Rule::Fd(0)),
    (libc::SYS_getsockopt, Rule::Fd(0)),
    (libc::SYS_ioctl, Rule::Fd(0)),
    (libc::SYS_dup, Rule::Fd(0)),
    (libc::SYS_dup3, Rule::Fd(0)),
    (
        libc::SYS_fcntl,
        Rule::FdAnd(&[libc::F_DUPFD as u32, libc::F_DUPFD_CLOEXEC as u32, libc::F_SETFL as u32]),
    ),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_dup2, Rule::Fd(0)),
    // A process group is no matter of PID namespaces: that of the program may have others in it.
    (libc::SYS_kill, Rule::Always),
    // A ring of the kernel's makes calls that nobody is asked about; programs that find none make them themselves.
    (libc::SYS_io_uring_setup, Rule::Missing),
];

/// Calls that wait for any of several files: before, the next event happens.
const WAITING_CALLS: &[(c_long, Rule)] = &[
    (libc::SYS_ppoll, Rule::Always),
    (libc::SYS_pselect6, Rule::Count),
    (libc::SYS_epoll_pwait, Rule::Always),
    (libc::SYS_epoll_pwait2, Rule::Always),
    (libc::SYS_epoll_ctl, Rule::Fd(2)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, Rule::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, Rule::Count),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, Rule::Always),
];

/// Calls by which root is served sooner. Who only sees itself as root may not make them, and under replay nothing depends on them.
const ROOTS_CALLS: &[(c_long, Rule)] = &[
    (libc::SYS_sched_setscheduler, Rule::Granted),
    (libc::SYS_sched_setparam, Rule::Granted),
    (libc::SYS_sched_setattr, Rule::Granted),
    (libc::SYS_setpriority, Rule::Granted),
    (libc::SYS_ioprio_set, Rule::Granted),
    (libc::SYS_mlockall, Rule::Granted),
];

/// Calls by which root becomes somebody else, or makes a file somebody's: who sees only itself, as root, knows nobody else.
const USER_CALLS: &[(c_long, Rule)] = &[
    (libc::SYS_setuid, Rule::Granted),
    (libc::SYS_setgid, Rule::Granted),
    (libc::SYS_setreuid, Rule::Granted),
    (libc::SYS_setregid, Rule::Granted),
    (libc::SYS_setresuid, Rule::Granted),
    (libc::SYS_setresgid, Rule::Granted),
    (libc::SYS_setgroups, Rule::Granted),
    (libc::SYS_fchown, Rule::Granted),
    (libc::SYS_fchownat, Rule::Granted),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, Rule::Granted),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lchown, Rule::Granted),
];

/// Calls about processes.
const PROCESS_CALLS: &[(c_long, Rule)] = &[
    (libc::SYS_pidfd_open, Rule::Always),
    (libc::SYS_pidfd_send_signal, Rule::Always),
    (libc::SYS_rt_sigqueueinfo, Rule::Always),
    (libc::SYS_getpgid, Rule::NotZero),
    (libc::SYS_getsid, Rule::NotZero),
    (libc::SYS_getpriority, Rule::Always),
    (libc::SYS_ioprio_get, Rule::Always),
    (libc::SYS_sched_getscheduler, Rule::NotZero),
    (libc::SYS_sched_getparam, Rule::NotZero),
    (libc::SYS_sched_getaffinity, Rule::NotZero),
    (libc::SYS_sched_setaffinity, Rule::NotZero),
    (libc::SYS_prlimit64, Rule::NotZero),
];

/// Calls that may be about a file in `/proc`.
const PATH_CALLS: &[(c_long, Rule)] = &[
    (libc::SYS_openat, Rule::Always),
    (libc::SYS_openat2, Rule::Always),
    (libc::SYS_newfstatat, Rule::Always),
    (libc::SYS_statx, Rule::Always),
    (libc::SYS_fstat, Rule::Always),
    (libc::SYS_faccessat, Rule::Always),
    (libc::SYS_faccessat2, Rule::Always),
    (libc::SYS_readlinkat, Rule::Always),
    (libc::SYS_getdents64, Rule::Always),
    (libc::SYS_chdir, Rule::Always),
    (libc::SYS_statfs, Rule::Always),
    (libc::SYS_fstatfs, Rule::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, Rule::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, Rule::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, Rule::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lstat, Rule::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, Rule::Always),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, Rule::Always),
];

/// The program: asks about calls of sockets and waiting; about those of processes and paths if its `/proc` is another one.
pub(crate) fn filter(
    reserved: &Reserved,
    control: u32,
    options: &LaunchOptions,
    knows_users: bool,
) -> Vec<sock_filter> {
    let others = OTHER_CALLS.len() as u8;
    let mut program = vec![
        load(ARCH_AT),
        jump(libc::BPF_JEQ, ARCH, others + 3, 0),
        // A program for another machine, as a 32-bit one, runs as it would, but is told that there is no proc connector.
        load(NR_AT),
    ];
    program.extend((0..others).map(|at| jump(libc::BPF_JEQ, OTHER_CALLS[usize::from(at)], others - at, 0)));
    program.extend([give(libc::SECCOMP_RET_ALLOW), give(libc::SECCOMP_RET_USER_NOTIF), load(NR_AT)]);
    let when = |calls: &'static [_], wanted| if wanted { calls } else { &[] };
    let lists: [&[(c_long, Rule)]; 6] = [
        SOCKET_CALLS,
        WAITING_CALLS,
        when(PROCESS_CALLS, options.private_proc),
        when(PATH_CALLS, options.private_proc),
        when(ROOTS_CALLS, options.uid == 0),
        when(USER_CALLS, options.uid == 0 && !knows_users),
    ];
    for &(nr, rule) in lists.into_iter().flatten() {
        let block = rule.block(reserved, control);
        program.push(jump(libc::BPF_JEQ, nr as u32, 0, block.len() as u8));
        program.extend(block);
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

/// Whether a program for another machine opens a socket on a proc connector; `None` if the call is of this machine.
pub(crate) fn opens_elsewhere(notification: &Notification) -> Option<bool> {
    let seccomp_data { nr, arch, args, .. } = &notification.data;
    if *arch == ARCH {
        return None;
    }
    let [family, protocol] = match (*nr as u32, args[0]) {
        (SOCKETCALL, SYS_SOCKET) => {
            let words = Memory(notification.pid).bytes::<12>(args[1]).unwrap_or_default();
            [u32_at(&words, 0), u32_at(&words, 8)]
        }
        (SOCKETCALL, _) => return Some(false),
        _ => [args[0] as u32, args[2] as u32],
    };
    Some([family, protocol] == [libc::AF_NETLINK as u32, NETLINK_CONNECTOR])
}

impl Rule {
    /// Instructions that end with an action.
    fn block(self, reserved: &Reserved, control: u32) -> Vec<sock_filter> {
        let ask = [give(libc::SECCOMP_RET_USER_NOTIF), give(libc::SECCOMP_RET_ALLOW)];
        // Goes on behind itself if the argument is reserved; otherwise the call is made.
        let is_reserved = |argument| {
            let ranges = &reserved.ranges;
            let checks = ranges.iter().enumerate().flat_map(|(at, range)| {
                let behind = 2 * (ranges.len() - 1 - at) as u8 + 1;
                [jump(libc::BPF_JGE, range.start, 0, 1), jump(libc::BPF_JGE, range.end, 0, behind)]
            });
            [load(argument_at(argument))].into_iter().chain(checks).chain([give(libc::SECCOMP_RET_ALLOW)])
        };
        let mut block = Vec::new();
        match self {
            Self::Fd(argument) => block.extend(is_reserved(argument)),
            Self::FdAnd(values) => {
                let count = values.len() as u8;
                block.extend(is_reserved(0));
                block.push(load(argument_at(1)));
                for (at, &value) in values.iter().enumerate() {
                    let left = count - 1 - at as u8;
                    block.push(jump(libc::BPF_JEQ, value, left, u8::from(left == 0)));
                }
            }
            Self::Count => {
                block.extend([load(argument_at(0)), jump(libc::BPF_JGT, reserved.start(), 0, 1)]);
            }
            Self::Connector => block.extend([
                load(argument_at(0)),
                jump(libc::BPF_JEQ, libc::AF_NETLINK as u32, 0, 3),
                load(argument_at(2)),
                jump(libc::BPF_JEQ, NETLINK_CONNECTOR, 0, 1),
            ]),
            Self::FdBut => block.extend([load(argument_at(0)), jump(libc::BPF_JEQ, control, 1, 0)]),
            Self::NotZero => block.extend([load(argument_at(0)), jump(libc::BPF_JEQ, 0, 1, 0)]),
            Self::Always => {}
            Self::Granted => return vec![give(libc::SECCOMP_RET_ERRNO)],
            Self::Missing => return vec![give(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)],
        }
        block.extend(ask);
        block
    }
}

/// The lower half of an argument.
fn argument_at(argument: u8) -> u32 {
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    ARGS_AT + 8 * u32::from(argument) + low
}

fn load(at: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: at }
}

fn jump(condition: u32, value: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | condition | libc::BPF_K) as u16, jt, jf, k: value }
}

fn give(action: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}

#[cfg(test)]
mod tests {
    use pmon_core::Cpu;

    use super::*;
    use pmon_fake::{ClassicFilter, SockFilter};

    const CONTROL: u32 = 952;
    const ASKED: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const MADE: u32 = libc::SECCOMP_RET_ALLOW;

    /// What becomes of a call.
    fn action(options: &LaunchOptions, arch: u32, nr: c_long, args: &[u64]) -> u32 {
        let reserved = Reserved { ranges: vec![960..1024, 224..248] };
        let program = filter(&reserved, CONTROL, options, true);
        let program: Vec<_> =
            program.iter().map(|&sock_filter { code, jt, jf, k }| SockFilter { code, jt, jf, k }).collect();
        // Its words are the machine's; those of a datagram, for which the interpreter is, are the network's.
        let args = (0..6).map(|at| args.get(at).copied().unwrap_or(0));
        let halves = args.flat_map(|arg| [arg as u32, (arg >> 32) as u32]);
        let words = [nr as u32, arch, 0, 0].into_iter().chain(halves);
        let data: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
        ClassicFilter::new(&program).unwrap().run(&data, Cpu(0)) as u32
    }

    fn is_asked(nr: c_long, args: &[u64]) -> bool {
        match action(&LaunchOptions::new("x"), ARCH, nr, args) {
            ASKED => true,
            MADE => false,
            other => panic!("{other:#x}"),
        }
    }

    #[test]
    fn calls_on_reserved_numbers_are_asked_about() {
        for (fd, wanted) in [
            (0, false),
            (223, false),
            (224, true),
            (247, true),
            (248, false),
            (959, false),
            (960, true),
            (1023, true),
            (1024, false),
        ] {
            for nr in [
                libc::SYS_recvfrom,
                libc::SYS_read,
                libc::SYS_sendto,
                libc::SYS_bind,
                libc::SYS_ioctl,
                libc::SYS_dup,
            ] {
                assert_eq!(is_asked(nr, &[fd]), wanted, "call {nr} on {fd}");
            }
            assert_eq!(is_asked(libc::SYS_epoll_ctl, &[5, 1, fd]), wanted);
            assert!(!is_asked(libc::SYS_close, &[fd]));
            assert!(is_asked(libc::SYS_sendmsg, &[fd]));
        }
        assert!(!is_asked(libc::SYS_sendmsg, &[u64::from(CONTROL)]), "nobody could answer yet");
        assert!(!is_asked(libc::SYS_recvfrom, &[u64::from(u32::MAX), 960]), "-1 is none");
    }

    #[test]
    fn only_a_proc_connector_is_asked_about() {
        let (netlink, connector) = (libc::AF_NETLINK as u64, libc::NETLINK_CONNECTOR as u64);
        let unix = libc::AF_UNIX as u64;
        assert!(is_asked(libc::SYS_socket, &[netlink, 3, connector]));
        assert!(!is_asked(libc::SYS_socket, &[netlink, 3, 0]));
        assert!(!is_asked(libc::SYS_socket, &[unix, 3, connector]));
    }

    #[test]
    fn of_fcntl_what_copies_and_what_changes_whether_it_waits() {
        let asked = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_SETFL];
        for request in asked.into_iter().chain([libc::F_GETFL, libc::F_SETFD]) {
            assert_eq!(is_asked(libc::SYS_fcntl, &[970, request as u64]), asked.contains(&request));
            assert!(!is_asked(libc::SYS_fcntl, &[7, request as u64]));
        }
    }

    /// Of so many file descriptors, the last has a number less by one.
    #[test]
    fn select_is_asked_about_if_it_reaches_as_far() {
        for (count, wanted) in [(0, false), (224, false), (225, true), (1024, true)] {
            assert_eq!(is_asked(libc::SYS_pselect6, &[count]), wanted, "{count}");
        }
    }

    #[test]
    fn of_processes_and_paths_only_with_a_proc_of_its_own() {
        let real = LaunchOptions { private_proc: false, ..LaunchOptions::new("x") };
        for (nr, args) in [
            (libc::SYS_openat, &[0_u64; 2]),
            (libc::SYS_statx, &[0; 2]),
            (libc::SYS_getsid, &[7, 9]),
            (libc::SYS_getpgid, &[7, 0]),
        ] {
            assert!(is_asked(nr, args), "call {nr}");
            assert_eq!(action(&real, ARCH, nr, args), MADE, "call {nr}");
        }
        assert!(!is_asked(libc::SYS_getpgid, &[0]), "its own");
    }

    #[test]
    fn what_only_root_may_is_granted_to_who_seems_to_be_root() {
        let user = LaunchOptions { uid: 7, ..LaunchOptions::new("x") };
        assert_eq!(
            action(&LaunchOptions::new("x"), ARCH, libc::SYS_setpriority, &[]),
            libc::SECCOMP_RET_ERRNO
        );
        assert_eq!(action(&user, ARCH, libc::SYS_setpriority, &[]), MADE);
        let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        assert_eq!(action(&user, ARCH, libc::SYS_io_uring_setup, &[]), missing);
    }

    /// On an i386, 3 is `read`.
    #[test]
    fn programs_for_another_machine_are_left_alone_until_they_open_a_socket() {
        let args = [970, 1, 2];
        assert_eq!(action(&LaunchOptions::new("x"), 0x4000_0003, libc::SYS_read, &args), MADE);
        assert_eq!(action(&LaunchOptions::new("x"), 0x4000_0003, 3, &args), MADE);
        for &nr in OTHER_CALLS {
            assert_eq!(action(&LaunchOptions::new("x"), 0x4000_0003, nr.into(), &args), ASKED, "{nr}");
        }
        assert_eq!(action(&LaunchOptions::new("x"), ARCH, libc::SYS_read, &args), ASKED);
    }
}
