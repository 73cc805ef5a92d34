//! The reason of a failed call: an errno, and a text for `pmon_last_error`.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt::Display;
use std::io;

use fake::Errno;

/// Why a call fails.
#[derive(Debug)]
pub(crate) struct CallError {
    errno: Errno,
    text: String,
}

impl CallError {
    pub(crate) fn new(errno: Errno, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }

    /// Adds what failed to an error of the system.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self::new(Errno::from_io_error(error).unwrap_or(Errno::IO), format!("{what}: {error}"))
    }

    pub(crate) fn invalid(text: impl Display) -> Self {
        Self::new(Errno::INVAL, text.to_string())
    }

    /// Stores the text for [`last_error`], and returns the negative errno.
    pub(crate) fn report(self) -> c_int {
        // A text has a zero byte only if it quotes one.
        let text = CString::new(self.text.replace('\0', "\\0")).unwrap_or_default();
        LAST_ERROR.replace(text);
        -self.errno.raw_os_error()
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Returns the text of this thread's last failed call, which the next one replaces.
pub(crate) fn last_error() -> *const c_char {
    LAST_ERROR.try_with(|text| text.borrow().as_ptr()).unwrap_or(CStr::as_ptr(c""))
}
