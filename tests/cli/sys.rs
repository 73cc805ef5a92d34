//! Sets up conditions for a program that require system calls without a safe wrapper.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// A system call that a program is denied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Denied {
    /// Number of the system call.
    pub(crate) call: libc::c_long,
    /// Index and value of an argument; only calls with this value are denied.
    pub(crate) argument: Option<(u32, u32)>,
    /// Error returned by the denied call.
    pub(crate) errno: i32,
}

/// Installs a seccomp filter in the program that denies a system call.
pub(crate) fn deny(command: &mut Command, denied: Denied) {
    let statement = |code, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let give = |action| statement(libc::BPF_RET | libc::BPF_K, action);
    // Continues if equal; otherwise, skips `jf` statements.
    let is = |k, jf| libc::sock_filter { jf, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k) };
    // `struct seccomp_data`: number, architecture, instruction pointer, and six arguments of eight
    // bytes, of which the filter examines the lower halves.
    let half = if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut filter = vec![load(0), is(denied.call as u32, 1 + 2 * u8::from(denied.argument.is_some()))];
    if let Some((number, value)) = denied.argument {
        filter.extend([load(16 + 8 * number + half), is(value, 1)]);
    }
    filter.push(give(libc::SECCOMP_RET_ERRNO | denied.errno as u32));
    filter.push(give(libc::SECCOMP_RET_ALLOW));
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: both calls take numbers; the second one also takes the address of a program that
        // outlives the call.
        let results = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            ]
        };
        if results == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec, the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(install);
    }
}

/// Makes a program that root starts run without `capabilities`.
pub(crate) fn drop_capabilities(command: &mut Command, capabilities: &'static [libc::c_ulong]) {
    let drop = move || {
        for &capability in capabilities {
            // SAFETY: the call takes numbers.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec, the closure makes system calls and allocates nothing.
    unsafe {
        command.pre_exec(drop);
    }
}

/// Makes the program see a kernel release of 2.6 (`UNAME26` of `personality(2)`).
pub(crate) fn pretend_old_kernel(command: &mut Command) {
    const UNAME26: libc::c_ulong = 0x0002_0000;
    let pretend = || {
        // SAFETY: the call takes a number.
        let result = unsafe { libc::personality(UNAME26) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec, the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(pretend);
    }
}

/// Limits the address space of the program to `bytes`.
pub(crate) fn limit_address_space(command: &mut Command, bytes: u64) {
    limit_resource(command, libc::RLIMIT_AS, bytes);
}

/// Limits the locked memory of the program to `bytes`.
pub(crate) fn limit_locked_memory(command: &mut Command, bytes: u64) {
    limit_resource(command, libc::RLIMIT_MEMLOCK, bytes);
}

fn limit_resource(command: &mut Command, resource: libc::__rlimit_resource_t, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    let set = move || {
        // SAFETY: the call reads a limit that outlives it.
        let result = unsafe { libc::setrlimit(resource, &raw const limit) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec, the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(set);
    }
}
