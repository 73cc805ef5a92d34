//! The arguments of waiting calls that the kernel checks before it waits.

use pmon_core::wire::u64_at;

use crate::seccomp::listener::InterceptedCall;
use crate::sockets::poll::MAX_POLL_FDS;
use crate::tracee::memory::{TraceeMemory, check_range};

const EPOLL_EVENT: u64 = size_of::<libc::epoll_event>() as u64;
/// Size of the kernel's signal set.
const SIGSET: u64 = 8;

/// Returns whether the kernel would wait with these arguments, or refuses the call.
pub(crate) fn are_valid(call: &InterceptedCall<'_>) -> bool {
    let [first, second, third, fourth, fifth, sixth] = call.args();
    let memory = call.memory();
    match call.nr() {
        libc::SYS_ppoll => {
            is_poll_array(first, second) && is_timespec(memory, third) && is_mask(memory, fourth, fifth)
        }
        libc::SYS_epoll_pwait => is_output(second, third) && is_mask(memory, fifth, sixth),
        libc::SYS_epoll_pwait2 => {
            is_output(second, third) && is_timespec(memory, fourth) && is_mask(memory, fifth, sixth)
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => is_output(second, third),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => is_poll_array(first, second),
        _ => true,
    }
}

/// Returns whether the array of `poll` is in the address space, and not longer than any array of
/// which all entries are examined. The kernel limits its length by the limit on open files.
fn is_poll_array(address: u64, count: u64) -> bool {
    u64::from(count as u32) <= MAX_POLL_FDS
        && check_range(address, u64::from(count as u32) * size_of::<libc::pollfd>() as u64).is_ok()
}

/// Returns whether the output of `epoll_wait` has a valid length and address.
fn is_output(address: u64, maximum: u64) -> bool {
    let (maximum, limit) = (maximum as i32, i32::MAX as u64 / EPOLL_EVENT);
    maximum > 0 && maximum as u64 <= limit && check_range(address, maximum as u64 * EPOLL_EVENT).is_ok()
}

/// Returns whether there is no time-out at `address`, or a valid one.
fn is_timespec(memory: TraceeMemory, address: u64) -> bool {
    address == 0
        || memory.bytes::<16>(address).is_ok_and(|time| {
            let (seconds, nanos) = (u64_at(&time, 0) as i64, u64_at(&time, 8));
            seconds >= 0 && nanos < 1_000_000_000
        })
}

/// Returns whether there is no signal mask at `address`, or a valid one.
fn is_mask(memory: TraceeMemory, address: u64, len: u64) -> bool {
    address == 0 || (len == SIGSET && memory.bytes::<{ SIGSET as usize }>(address).is_ok())
}
