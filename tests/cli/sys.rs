//! What a program is started with that only system calls without a safe wrapper can set up.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// A system call that a program may not make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Denied {
    /// Its number.
    pub(crate) call: libc::c_long,
    /// Only with this value of the argument of that number.
    pub(crate) argument: Option<(u32, u32)>,
    /// The error that it gets.
    pub(crate) errno: i32,
}

/// Has a seccomp filter in the program answer that call.
pub(crate) fn deny(command: &mut Command, denied: Denied) {
    let statement = |code, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let give = |action| statement(libc::BPF_RET | libc::BPF_K, action);
    // Equal: the next one. Else: over so many.
    let is = |k, jf| libc::sock_filter { jf, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k) };
    // `struct seccomp_data`: the number, the architecture, an address, and six arguments of eight bytes, of which the lower half is looked at.
    let half = if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut filter = vec![load(0), is(denied.call as u32, 1 + 2 * u8::from(denied.argument.is_some()))];
    if let Some((number, value)) = denied.argument {
        filter.extend([load(16 + 8 * number + half), is(value, 1)]);
    }
    filter.push(give(libc::SECCOMP_RET_ERRNO | denied.errno as u32));
    filter.push(give(libc::SECCOMP_RET_ALLOW));
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: both take numbers, and the second the address of a program that lives until the call returns.
        let results = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            ]
        };
        if results == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec, it makes two system calls, and allocates nothing.
    unsafe {
        command.pre_exec(install);
    }
}

/// Has the program, if it is started by root, run without these capabilities.
pub(crate) fn drop_capabilities(command: &mut Command, capabilities: &'static [libc::c_ulong]) {
    let drop = move || {
        for &capability in capabilities {
            // SAFETY: it takes numbers.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec, it makes system calls, and allocates nothing.
    unsafe {
        command.pre_exec(drop);
    }
}

/// Has the program see a kernel release of 2.6 (`UNAME26` of `personality(2)`).
pub(crate) fn pretend_old_kernel(command: &mut Command) {
    const UNAME26: libc::c_ulong = 0x0002_0000;
    let pretend = || {
        // SAFETY: it takes a number.
        let result = unsafe { libc::personality(UNAME26) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec, it makes one system call, and allocates nothing.
    unsafe {
        command.pre_exec(pretend);
    }
}

/// Has the program run with so many bytes of address space.
pub(crate) fn limit_address_space(command: &mut Command, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    let set = move || {
        // SAFETY: it reads a limit that outlives the call.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec, it makes one system call, and allocates nothing.
    unsafe {
        command.pre_exec(set);
    }
}
