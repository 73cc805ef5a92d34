//! The seccomp filter: a classic BPF program that decides by the number and arguments of each call
//! whether the call is intercepted (`seccomp(2)`).
//!
//! The fake kernel's file descriptors have reserved numbers. The filter recognizes them by their
//! numbers, so that calls on all other files run at full speed.

use libc::{c_long, seccomp_data, sock_filter};
use pmon_core::wire::u32_at;

use crate::seccomp::calls::{
    CLOCK_CALLS, CallRules, EMULATED_SOCKET_CALLS, FilterRule, NATIVE_SOCKET_CALLS, PATH_CALLS,
    PRIORITY_CALLS, PROCESS_CALLS, SOCKET_CALLS, USER_CALLS, WAITING_CALLS,
};
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
mod tests;
