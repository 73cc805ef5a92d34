//! System calls that take the id of a process.

use std::fs;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::processes::pidfd::PidFdTable;
use crate::procfs::tree::ProcfsTree;
use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::tracee::memory::TraceeMemory;
use crate::tracee::processes::{TraceeProcesses, group_of};
use crate::world::ProcessView;

/// `IOPRIO_WHO_PROCESS`.
const IOPRIO_WHO_PROCESS: u64 = 1;
/// The result of the system call `getpriority` for the nice value 0.
const DEFAULT_PRIORITY: i64 = 20;

/// Answers a call that refers to a recorded process; the kernel executes the others.
///
/// A signal to a recorded process has no effect. Values that are not recorded are the defaults of a
/// new process.
pub(crate) fn answer(
    call: &mut InterceptedCall<'_>,
    view: &dyn ProcessView,
    tracee: TraceeProcesses,
    procfs: Option<&ProcfsTree>,
    pidfds: &mut PidFdTable,
) -> Reply {
    let [first, second, third, fourth, ..] = call.args();
    let nr = call.nr();
    if (nr, first as i32) == (libc::SYS_kill, 0) {
        return Reply::Return(signal_group(tracee, call.task(), second as i32));
    }
    if nr == libc::SYS_pidfd_send_signal
        && let Some(exists) = pidfds.process_exists(call, first as u32)
    {
        return Reply::Return(if exists { Ok(0) } else { Err(Errno::SRCH) });
    }
    let Some(tree) = procfs else { return Reply::Continue };
    let id = match nr {
        libc::SYS_getpriority if first == u64::from(libc::PRIO_PROCESS) => second as i32,
        libc::SYS_ioprio_get if first == IOPRIO_WHO_PROCESS => second as i32,
        libc::SYS_getpriority | libc::SYS_ioprio_get => return Reply::Continue,
        libc::SYS_pidfd_send_signal => id_of_directory(tree, call, first as u32).unwrap_or(0) as i32,
        _ => first as i32,
    };
    if id <= 0 {
        return Reply::Continue;
    }
    let info = view.task(id as u32);
    // The kernel finds an own process or none. Only id 1 is never an own one.
    if info.is_none() && id != 1 && nr != libc::SYS_pidfd_send_signal || tree.is_own(id as u32) {
        return Reply::Continue;
    }
    let Some(info) = info else { return Errno::SRCH.into() };
    if nr == libc::SYS_pidfd_open {
        return pidfds.open(call, view, &info);
    }
    let memory = call.memory();
    let result = match nr {
        libc::SYS_getpgid => Ok(info.group.into()),
        libc::SYS_getsid => Ok(info.session.into()),
        libc::SYS_getpriority => Ok(DEFAULT_PRIORITY),
        libc::SYS_sched_getparam => memory.write(second, &[0; 4]).map(|()| 0),
        libc::SYS_sched_getaffinity => write_all_cpus(memory, third, second as usize),
        // Both limits are RLIM_INFINITY.
        libc::SYS_prlimit64 if fourth != 0 => memory.write(fourth, &[0xFF; 16]).map(|()| 0),
        _ => Ok(0),
    };
    Reply::Return(result)
}

/// Sends a signal to the tracee's processes in a task's process group.
fn signal_group(tracee: TraceeProcesses, task: u32, signal: i32) -> Result<i64, Errno> {
    if signal == 0 {
        return Ok(0);
    }
    let signal = Signal::from_named_raw(signal).ok_or(Errno::INVAL)?;
    let group = group_of(task)?;
    let members = tracee.pids().into_iter().filter(|&process| group_of(process) == Ok(group)).collect();
    tracee.signal(signal, members).map(|()| 0)
}

/// Returns the process whose directory in `/proc` is open as `fd`: `pidfd_send_signal` accepts it
/// like a pidfd.
fn id_of_directory(tree: &ProcfsTree, call: &mut InterceptedCall<'_>, fd: u32) -> Option<u32> {
    if call.stat(fd).ok()?.st_dev != tree.device {
        return None;
    }
    let path = String::from_utf8(call.tasks.path(call.notification.pid, fd).ok()?).ok()?;
    path.strip_prefix("/proc/")?.parse().ok()
}

/// Writes a mask of all possible CPUs to a buffer of `len` bytes; returns the size of the mask.
fn write_all_cpus(memory: TraceeMemory, at: u64, len: usize) -> Result<i64, Errno> {
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = possible.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    let count = last.unwrap_or(0) + 1;
    let mut mask = vec![0_u8; count.div_ceil(64) * 8];
    (0..count).for_each(|cpu| mask[cpu / 8] |= 1 << (cpu % 8));
    if len < mask.len() {
        return Err(Errno::INVAL);
    }
    memory.write(at, &mask)?;
    Ok(mask.len() as i64)
}
