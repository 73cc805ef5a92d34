//! Tests of the filter, which the interpreter of classic BPF runs.

use pmon_core::Cpu;
use pmon_fake::{ClassicFilter, SockFilter};

use super::*;
use crate::seccomp::calls::TIMED_FUTEX_OPERATIONS;

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
        assert_eq!(is_intercepted(libc::SYS_fcntl, &[970, request as u64]), intercepted.contains(&request));
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
