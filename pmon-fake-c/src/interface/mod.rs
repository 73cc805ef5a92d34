//! The functions of the C interface. Their documentation becomes that of the header.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fake::Errno;

use crate::call_error::CallError;
use crate::state::State;
use crate::sys;

pub mod faults;
pub mod kernel;
pub mod processes;

use kernel::Kernel;

/// Runs the body of a function: returns its result, or a negative errno. No panic leaves it.
fn guard(body: impl FnOnce() -> Result<c_int, CallError>) -> c_int {
    sys::preserving_errno(|| match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result.unwrap_or_else(CallError::report),
        Err(_) => {
            CallError::new(Errno::IO, "an internal error, which is reported on standard error").report()
        }
    })
}

/// Runs the body of a function of a kernel, with the kernel locked.
///
/// # Safety
/// The pointer is null, or refers to a kernel that lives until the call returns.
unsafe fn call(kernel: *const Kernel, body: impl FnOnce(&mut State) -> Result<c_int, CallError>) -> c_int {
    guard(|| {
        // SAFETY: as required of the caller.
        let kernel = unsafe { sys::reference(kernel, "kernel") }?;
        kernel.shared.call(body)
    })
}

/// Returns the id of a task as C has it.
fn pid(id: u32) -> Result<libc::pid_t, CallError> {
    let invalid = |error| CallError::new(Errno::OVERFLOW, format!("{id} is not a process id: {error}"));
    libc::pid_t::try_from(id).map_err(invalid)
}
