//! The system call without a safe wrapper: `execveat(2)` with nothing but a descriptor.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;

/// Becomes the program in that file, under that name, with no environment. Returns only if it fails.
pub(crate) fn fexecve(file: &File, name: &OsStr, args: &[OsString]) -> io::Error {
    let words = std::iter::once(name).chain(args.iter().map(OsString::as_os_str));
    let words: Result<Vec<_>, _> = words.map(|word| CString::new(word.as_bytes())).collect();
    let Ok(words) = words else { return io::ErrorKind::InvalidInput.into() };
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let nothing = [std::ptr::null()];
    // SAFETY: both lists end with a null pointer, and point to strings that end with a zero byte; all of them outlive the call.
    unsafe { libc::fexecve(file.as_raw_fd(), pointers.as_ptr(), nothing.as_ptr()) };
    io::Error::last_os_error()
}
