//! System calls of 32-bit programs (i386) on x86-64, which are handled as native calls.
//!
//! On native sockets, few calls are intercepted: those that open, bind and configure a socket or
//! send, and those that refer to a file in `/proc`. They are translated into native calls. The
//! structs in memory have another layout ([`Abi::I386`]). All other calls are executed.

use libc::c_long;
use pmon_core::wire::u32_at;

use crate::seccomp::calls::{CallRules, FilterRule};
use crate::seccomp::fd_numbers::ReservedFds;
use crate::seccomp::filter::NETLINK_CONNECTOR;
use crate::sys::Notification;
use crate::tracee::abi::Abi;
use crate::tracee::memory::TraceeMemory;

/// `AUDIT_ARCH_I386`, in `seccomp_data.arch`.
pub(crate) const ARCH: u32 = 0x4000_0003;

/// Numbers of intercepted calls (`arch/x86/entry/syscalls/syscall_32.tbl`).
mod nr {
    use libc::c_long;

    pub(super) const WRITE: c_long = 4;
    pub(super) const OPEN: c_long = 5;
    pub(super) const CREAT: c_long = 8;
    pub(super) const CHDIR: c_long = 12;
    pub(super) const MOUNT: c_long = 21;
    pub(super) const ACCESS: c_long = 33;
    pub(super) const KILL: c_long = 37;
    pub(super) const DUP: c_long = 41;
    pub(super) const UMOUNT2: c_long = 52;
    pub(super) const IOCTL: c_long = 54;
    pub(super) const FCNTL: c_long = 55;
    pub(super) const CHROOT: c_long = 61;
    pub(super) const DUP2: c_long = 63;
    pub(super) const READLINK: c_long = 85;
    pub(super) const STATFS: c_long = 99;
    pub(super) const SOCKETCALL: c_long = 102;
    pub(super) const STAT: c_long = 106;
    pub(super) const LSTAT: c_long = 107;
    pub(super) const WRITEV: c_long = 146;
    pub(super) const SENDFILE: c_long = 187;
    pub(super) const STAT64: c_long = 195;
    pub(super) const LSTAT64: c_long = 196;
    pub(super) const FSTAT64: c_long = 197;
    pub(super) const PIVOT_ROOT: c_long = 217;
    pub(super) const GETDENTS64: c_long = 220;
    pub(super) const FCNTL64: c_long = 221;
    pub(super) const SENDFILE64: c_long = 239;
    pub(super) const STATFS64: c_long = 268;
    pub(super) const OPENAT: c_long = 295;
    pub(super) const FSTATAT64: c_long = 300;
    pub(super) const READLINKAT: c_long = 305;
    pub(super) const FACCESSAT: c_long = 307;
    pub(super) const DUP3: c_long = 330;
    pub(super) const SENDMMSG: c_long = 345;
    pub(super) const SETNS: c_long = 346;
    pub(super) const SOCKET: c_long = 359;
    pub(super) const BIND: c_long = 361;
    pub(super) const CONNECT: c_long = 362;
    pub(super) const GETSOCKOPT: c_long = 365;
    pub(super) const SETSOCKOPT: c_long = 366;
    pub(super) const GETSOCKNAME: c_long = 367;
    pub(super) const GETPEERNAME: c_long = 368;
    pub(super) const SENDTO: c_long = 369;
    pub(super) const SENDMSG: c_long = 370;
    pub(super) const PWRITEV2: c_long = 379;
    pub(super) const STATX: c_long = 383;
    pub(super) const IO_URING_SETUP: c_long = 425;
    pub(super) const MOVE_MOUNT: c_long = 429;
    pub(super) const OPENAT2: c_long = 437;
    pub(super) const FACCESSAT2: c_long = 439;
}

/// Intercepted operations of `socketcall` (`<linux/net.h>`).
mod operation {
    pub(super) const SOCKET: i32 = 1;
    pub(super) const BIND: i32 = 2;
    pub(super) const CONNECT: i32 = 3;
    pub(super) const GETSOCKNAME: i32 = 6;
    pub(super) const GETPEERNAME: i32 = 7;
    pub(super) const SEND: i32 = 9;
    pub(super) const SENDTO: i32 = 11;
    pub(super) const SETSOCKOPT: i32 = 14;
    pub(super) const GETSOCKOPT: i32 = 15;
    pub(super) const SENDMSG: i32 = 16;
    pub(super) const SENDMMSG: i32 = 20;
}

/// The intercepted operations of `socketcall`, with the native call and the number of arguments.
const SOCKET_OPERATIONS: &[(i32, c_long, usize)] = &[
    (operation::SOCKET, libc::SYS_socket, 3),
    (operation::BIND, libc::SYS_bind, 3),
    (operation::CONNECT, libc::SYS_connect, 3),
    (operation::GETSOCKNAME, libc::SYS_getsockname, 3),
    (operation::GETPEERNAME, libc::SYS_getpeername, 3),
    (operation::SEND, libc::SYS_sendto, 4),
    (operation::SENDTO, libc::SYS_sendto, 6),
    (operation::SETSOCKOPT, libc::SYS_setsockopt, 5),
    (operation::GETSOCKOPT, libc::SYS_getsockopt, 5),
    (operation::SENDMSG, libc::SYS_sendmsg, 3),
    (operation::SENDMMSG, libc::SYS_sendmmsg, 4),
];

/// The operations of [`SOCKET_OPERATIONS`].
const SOCKET_OPERATION_NUMBERS: &[i32] = &[
    operation::SOCKET,
    operation::BIND,
    operation::CONNECT,
    operation::GETSOCKNAME,
    operation::GETPEERNAME,
    operation::SEND,
    operation::SENDTO,
    operation::SETSOCKOPT,
    operation::GETSOCKOPT,
    operation::SENDMSG,
    operation::SENDMMSG,
];

/// Calls on native sockets, and calls that are intercepted in any case.
pub(super) const SOCKET_CALLS: CallRules = &[
    (FilterRule::Fd(0), &[nr::WRITE, nr::WRITEV, nr::PWRITEV2, nr::SENDTO, nr::SENDMMSG]),
    (FilterRule::NotControl, &[nr::SENDMSG]),
    (FilterRule::Fd(0), &[nr::SENDFILE, nr::SENDFILE64]),
    (FilterRule::Connector, &[nr::SOCKET]),
    (FilterRule::FirstIsOneOf(SOCKET_OPERATION_NUMBERS), &[nr::SOCKETCALL]),
    (FilterRule::Fd(0), &[nr::BIND, nr::CONNECT, nr::GETSOCKNAME, nr::GETPEERNAME]),
    (FilterRule::Fd(0), &[nr::SETSOCKOPT, nr::GETSOCKOPT, nr::IOCTL, nr::DUP, nr::DUP2, nr::DUP3]),
    (FilterRule::FdAndRequest(&[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC]), &[nr::FCNTL, nr::FCNTL64]),
    (FilterRule::Always, &[nr::KILL]),
    (FilterRule::Unsupported, &[nr::IO_URING_SETUP]),
];

/// Calls that may refer to a file in `/proc`.
pub(super) const PATH_CALLS: CallRules = &[
    (FilterRule::Always, &[nr::OPEN, nr::OPENAT, nr::OPENAT2, nr::CREAT, nr::STATX]),
    (FilterRule::Always, &[nr::STAT64, nr::LSTAT64, nr::FSTAT64, nr::FSTATAT64, nr::STAT, nr::LSTAT]),
    (FilterRule::Always, &[nr::ACCESS, nr::FACCESSAT, nr::FACCESSAT2, nr::READLINK, nr::READLINKAT]),
    (FilterRule::Always, &[nr::GETDENTS64, nr::CHDIR, nr::STATFS, nr::STATFS64]),
    (FilterRule::Always, &[nr::CHROOT, nr::PIVOT_ROOT, nr::MOUNT, nr::UMOUNT2, nr::MOVE_MOUNT, nr::SETNS]),
];

/// Translates an intercepted call into a native one; returns `None` if the kernel has to execute
/// it.
pub(crate) fn translate(notification: &Notification, reserved: &ReservedFds) -> Option<Notification> {
    let mut translated = *notification;
    let data = &mut translated.data;
    if c_long::from(data.nr) != nr::SOCKETCALL {
        let nr = native_number(data.nr.into())?;
        if nr == libc::SYS_pwritev2 {
            // The lower and the upper half of the offset.
            data.args[3] |= data.args[4] << 32;
        }
        data.nr = nr as i32;
        return Some(translated);
    }
    let operation = data.args[0] as i32;
    let (_, nr, count) = *SOCKET_OPERATIONS.iter().find(|&&(number, ..)| number == operation)?;
    let mut words = [0; 6 * size_of::<u32>()];
    let memory = TraceeMemory::with_abi(notification.pid, Abi::I386);
    memory.read(data.args[1], &mut words[..count * size_of::<u32>()]).ok()?;
    data.nr = nr as i32;
    data.args = std::array::from_fn(|at| u32_at(&words, at * size_of::<u32>()).into());
    let [first, _, third, ..] = data.args.map(|arg| arg as u32);
    let is_ours = match nr {
        libc::SYS_socket => [first, third] == [libc::AF_NETLINK as u32, NETLINK_CONNECTOR],
        // Can pass a socket to another process.
        libc::SYS_sendmsg => true,
        _ => reserved.contains(first),
    };
    is_ours.then_some(translated)
}

/// Returns the native call with the same arguments, and with the same structs except for their
/// layout.
fn native_number(number: c_long) -> Option<c_long> {
    Some(match number {
        nr::WRITE => libc::SYS_write,
        nr::WRITEV => libc::SYS_writev,
        nr::PWRITEV2 => libc::SYS_pwritev2,
        nr::SENDTO => libc::SYS_sendto,
        nr::SENDMSG => libc::SYS_sendmsg,
        nr::SENDMMSG => libc::SYS_sendmmsg,
        nr::SENDFILE | nr::SENDFILE64 => libc::SYS_sendfile,
        nr::SOCKET => libc::SYS_socket,
        nr::BIND => libc::SYS_bind,
        nr::CONNECT => libc::SYS_connect,
        nr::GETSOCKNAME => libc::SYS_getsockname,
        nr::GETPEERNAME => libc::SYS_getpeername,
        nr::SETSOCKOPT => libc::SYS_setsockopt,
        nr::GETSOCKOPT => libc::SYS_getsockopt,
        nr::IOCTL => libc::SYS_ioctl,
        nr::DUP => libc::SYS_dup,
        nr::DUP2 => libc::SYS_dup2,
        nr::DUP3 => libc::SYS_dup3,
        nr::FCNTL | nr::FCNTL64 => libc::SYS_fcntl,
        nr::KILL => libc::SYS_kill,
        nr::OPEN => libc::SYS_open,
        nr::OPENAT => libc::SYS_openat,
        nr::OPENAT2 => libc::SYS_openat2,
        nr::CREAT => libc::SYS_creat,
        nr::STATX => libc::SYS_statx,
        nr::STAT64 => libc::SYS_stat,
        nr::LSTAT64 => libc::SYS_lstat,
        nr::FSTAT64 => libc::SYS_fstat,
        nr::FSTATAT64 => libc::SYS_newfstatat,
        nr::FACCESSAT => libc::SYS_faccessat,
        nr::FACCESSAT2 => libc::SYS_faccessat2,
        nr::READLINK => libc::SYS_readlink,
        nr::READLINKAT => libc::SYS_readlinkat,
        nr::GETDENTS64 => libc::SYS_getdents64,
        nr::CHDIR => libc::SYS_chdir,
        nr::CHROOT => libc::SYS_chroot,
        nr::PIVOT_ROOT => libc::SYS_pivot_root,
        nr::MOUNT => libc::SYS_mount,
        nr::UMOUNT2 => libc::SYS_umount2,
        nr::MOVE_MOUNT => libc::SYS_move_mount,
        nr::SETNS => libc::SYS_setns,
        // The kernel returns these structs: only the file has to be brought up to date, as for
        // `access`.
        nr::ACCESS | nr::STAT | nr::LSTAT | nr::STATFS | nr::STATFS64 => libc::SYS_access,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(nr: c_long, args: [u64; 6]) -> Option<(c_long, [u64; 6])> {
        let data = libc::seccomp_data { nr: nr as i32, arch: ARCH, instruction_pointer: 0, args };
        let notification = Notification { id: 1, pid: std::process::id(), flags: 0, data };
        let reserved = ReservedFds { ranges: vec![960..1024, 224..248] };
        translate(&notification, &reserved).map(|call| (call.data.nr.into(), call.data.args))
    }

    #[test]
    fn each_intercepted_call_has_a_native_one() {
        for &(rule, calls) in SOCKET_CALLS.iter().chain(PATH_CALLS) {
            for &nr in calls.iter().filter(|&&nr| nr != nr::SOCKETCALL) {
                let is_handled = !matches!(rule, FilterRule::Unsupported);
                assert_eq!(call(nr, [970, 0, 0, 0, 0, 0]).is_some(), is_handled, "call {nr}");
            }
        }
        let operations: Vec<i32> = SOCKET_OPERATIONS.iter().map(|&(operation, ..)| operation).collect();
        assert_eq!(operations, SOCKET_OPERATION_NUMBERS);
        assert_eq!(call(3, [970; 6]), None, "read");
    }

    #[test]
    fn the_offset_of_pwritev2_has_two_halves() {
        let all = u64::from(u32::MAX);
        let (nr, args) = call(nr::PWRITEV2, [970, 1, 2, all, all, 5]).unwrap();
        assert_eq!((nr, args[3], args[5]), (libc::SYS_pwritev2, u64::MAX, 5));
    }

    #[test]
    fn a_socketcall_with_unreadable_arguments_is_executed() {
        assert_eq!(call(nr::SOCKETCALL, [operation::BIND as u64, 8, 0, 0, 0, 0]), None);
    }
}
