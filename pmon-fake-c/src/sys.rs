//! Pointers of the caller, and signals of a thread.

use std::ffi::{CStr, c_char};

use crate::call_error::CallError;

/// Returns what a pointer of the caller refers to.
///
/// # Safety
/// The pointer is null, or refers to a valid value that lives and is not changed while the result
/// is used.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, CallError> {
    // SAFETY: as required of the caller.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// Writes a result through a pointer of the caller.
///
/// # Safety
/// The pointer is null, or valid for writes.
pub(crate) unsafe fn write<T>(pointer: *mut T, value: T, name: &str) -> Result<(), CallError> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: as required of the caller.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Returns a text of the caller.
///
/// # Safety
/// The pointer is null, or refers to a text that ends with a zero byte, and lives and is not
/// changed while the result is used.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, CallError> {
    if text.is_null() {
        return Err(null(name));
    }
    // SAFETY: as required of the caller.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| CallError::invalid(format_args!("`{name}` is not UTF-8: {error}")))
}

/// Returns the texts of an array of the caller that ends with a null pointer.
///
/// # Safety
/// The pointer is null, or refers to such an array of texts as [`text`] requires.
pub(crate) unsafe fn texts<'a>(texts: *const *const c_char, name: &str) -> Result<Vec<&'a str>, CallError> {
    if texts.is_null() {
        return Err(null(name));
    }
    let mut result = Vec::new();
    loop {
        // SAFETY: the array has an element after each that is not null.
        let element = unsafe { *texts.add(result.len()) };
        if element.is_null() {
            return Ok(result);
        }
        // SAFETY: as required of the caller.
        result.push(unsafe { text(element, name)? });
    }
}

fn null(name: &str) -> CallError {
    CallError::invalid(format_args!("`{name}` is a null pointer"))
}

/// Runs `act` and leaves `errno` as it was.
pub(crate) fn preserving_errno<R>(act: impl FnOnce() -> R) -> R {
    // SAFETY: the location is valid for the life of the thread.
    let before = unsafe { *libc::__errno_location() };
    let result = act();
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = before };
    result
}
