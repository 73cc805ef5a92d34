//! Lost events, and fault scripts.

use std::ffi::{c_char, c_int};

use fake::{EventPlace, FaultScript};

use super::call;
use super::kernel::Kernel;
use crate::call_error::CallError;
use crate::sys;

/// The next `events` events are lost: they happen, but each socket drops them as if its receive
/// buffer were full. Their sequence numbers are missing, and the next `recv` returns `ENOBUFS`,
/// before the events that are still in the buffer. Until a receive call leaves the buffer empty,
/// the socket drops everything, as after any overrun.
///
/// The functions for overruns report `ENOBUFS` on netlink sockets only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_lose(kernel: *const Kernel, events: u64) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            state.kernel.lose(events);
            Ok(0)
        })
    }
}

/// Loses the next events, as `pmon_kernel_lose()` does, up to but not including the one that
/// `place` names, such as `{ kind = "exec", pid = 5071 }`: docs/fake-kernel.md lists the
/// conditions.
///
/// Returns `-EINVAL` if the place is invalid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_lose_until(kernel: *const Kernel, place: *const c_char) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let place: EventPlace = sys::text(place, "place")?.parse().map_err(CallError::invalid)?;
            state.kernel.lose_until(place);
            Ok(0)
        })
    }
}

/// `events` events of CPU `cpu` happen at once, and are dropped as if all receive buffers were
/// full: their sequence numbers are missing, and the next `recv` returns `ENOBUFS`, before the
/// events that are still in the buffer. They are events of no process, and no other event is
/// dropped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_overrun(kernel: *const Kernel, cpu: u32, events: u64) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let cpu = state.cpu(cpu)?;
            state.kernel.overrun(cpu, events);
            Ok(0)
        })
    }
}

/// `events` events of CPU `cpu` happen at once, for which the kernel has no memory: their sequence
/// numbers are missing, without an error. They are events of no process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_no_memory(kernel: *const Kernel, cpu: u32, events: u64) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let cpu = state.cpu(cpu)?;
            state.kernel.no_memory(cpu, events);
            Ok(0)
        })
    }
}

/// Starts a fault script, the text of a TOML file as docs/fake-kernel.md describes it. It replaces
/// the previous one. `seed` selects its random numbers.
///
/// Returns `-EINVAL` if the script is invalid; `pmon_last_error()` then names the line.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_inject(
    kernel: *const Kernel,
    script: *const c_char,
    seed: u64,
) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let script = sys::text(script, "script")?;
            let script: FaultScript = script.parse().map_err(CallError::invalid)?;
            state.kernel.inject(script, seed);
            Ok(0)
        })
    }
}
