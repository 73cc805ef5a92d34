//! System calls without a safe wrapper: `fexecve(3)`, `PR_SET_MM_MAP` of `prctl(2)`, and exits of a
//! thread or a process that run no destructors.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;

/// Executes a file as a program of that name, without environment. Returns only if that fails.
pub(crate) fn fexecve(file: &File, name: &OsStr, args: &[OsString]) -> io::Error {
    let words = std::iter::once(name).chain(args.iter().map(OsString::as_os_str));
    let words: Result<Vec<_>, _> = words.map(|word| CString::new(word.as_bytes())).collect();
    let Ok(words) = words else { return io::ErrorKind::InvalidInput.into() };
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let nothing = [std::ptr::null()];
    // SAFETY: both lists end with a null pointer, and point to strings that end with a zero byte.
    // All of them outlive the call.
    unsafe { libc::fexecve(file.as_raw_fd(), pointers.as_ptr(), nothing.as_ptr()) };
    io::Error::last_os_error()
}

/// Declares `len` zero bytes as this process's arguments, which any user may do.
pub(crate) fn declare_arguments(len: usize) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: this creates a new mapping, at an address that the kernel chooses.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Read the values that must not change; `proc_pid_stat(5)` numbers the fields.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .into_iter()
        .flat_map(str::split_whitespace)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let start = memory as u64;
    // SAFETY: the call returns the program break and changes nothing.
    let brk = unsafe { libc::sbrk(0) } as u64;
    // `struct prctl_mm_map` (`linux/prctl.h`): code, data, break, stack, arguments, environment,
    // auxiliary vector, and in the last 8 bytes the vector's size and the descriptor of the
    // executable (-1 for none).
    let map = [
        field(26),
        field(27),
        field(45),
        field(46),
        field(47),
        brk,
        field(28),
        start,
        start + len as u64,
        field(50),
        field(51),
        0,
        u64::from_ne_bytes([[0; 4], (-1_i32).to_ne_bytes()].concat().try_into().unwrap_or_default()),
    ];
    // SAFETY: the kernel reads `size_of_val(&map)` bytes of `map` and checks the addresses.
    let done = unsafe { libc::prctl(libc::PR_SET_MM, 14, map.as_ptr(), size_of_val(&map), 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Exits only this thread, as `pthread_exit(3)` does, with `code`.
pub(crate) fn end_thread(code: libc::c_long) -> ! {
    // SAFETY: nothing uses this thread's data after the call, and its resources are leaked.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("_exit(2) returned")
}

/// Exits this process without regard to its other threads.
pub(crate) fn end_process(code: libc::c_int) -> ! {
    // SAFETY: nothing uses this process's data after the call.
    unsafe { libc::_exit(code) }
}

/// Ends this process by a segmentation fault.
pub(crate) fn fault() {
    // SAFETY: the first call removes the handler of the Rust runtime, so that the signal ends the
    // process when it reads a page that it may not read.
    unsafe {
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), 1, libc::PROT_NONE, flags, -1, 0);
        page.cast::<u8>().read_volatile();
    }
}
