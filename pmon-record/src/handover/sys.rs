//! Descriptors that this process was started with, its environment, and `execve(2)`.

use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs, io, iter, ptr};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Takes the open ones of these descriptors, which this process was started with, sets them to be
/// closed by an exec, and removes the variables that name them. Another call takes none.
pub(super) fn take_descriptors(named: Vec<(String, RawFd)>, variables: &[&str]) -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    if fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1) {
        for variable in variables {
            // SAFETY: no other thread exists that could read the environment.
            unsafe { env::remove_var(variable) };
        }
    }
    let mut taken: Vec<RawFd> = Vec::new();
    let own = |(name, number): (String, RawFd)| {
        // SAFETY: the call fails if the descriptor is not open, and has no other effect.
        let is_open = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok();
        if !is_open || taken.contains(&number) {
            return None;
        }
        taken.push(number);
        // SAFETY: the descriptor is open, and this process was started with it, so no other value
        // owns it. It is taken once.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        fcntl_setfd(&fd, FdFlags::CLOEXEC).ok()?;
        Some((name, fd))
    };
    named.into_iter().filter_map(own).collect()
}

/// Replaces this process's program.
///
/// # Errors
/// As `execve(2)`. Nothing has changed then.
pub(super) fn execute(path: &CStr, arguments: &[CString], variables: &[CString]) -> io::Result<()> {
    let pointers = |strings: &[CString]| -> Vec<_> {
        strings.iter().map(|string| string.as_ptr()).chain(iter::once(ptr::null())).collect()
    };
    let (arguments, variables) = (pointers(arguments), pointers(variables));
    // SAFETY: the strings and both arrays, which end with a null pointer, are borrowed until the
    // call returns.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), variables.as_ptr()) };
    Err(io::Error::last_os_error())
}
