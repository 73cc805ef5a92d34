//! A last word of every CPU: an event of our own, so that a loss before it shows as a gap in that CPU's numbers.

use std::ffi::CStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_name};

/// Lets each CPU that this thread may run on emit a COMM event of this thread, which keeps its `name`. A CPU that it
/// may not run on (`cpuset(7)`) stays silent.
pub(crate) fn raise(name: &CStr) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)) {
        let mut only = CpuSet::new();
        only.set(cpu);
        // It fails for a CPU that went offline meanwhile: that one has nothing more to say.
        if sched_setaffinity(None, &only).is_ok() {
            let _ = set_name(name);
        }
    }
    let _ = sched_setaffinity(None, &allowed);
}
