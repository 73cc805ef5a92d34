//! The numbers of execs and exits, which have the same names in JSON and CSV.

use pmon_analysis::{ProcessExit, ProcessTable, TimelineItem};
use pmon_core::Task;
use pmon_core::capture::{Details, ProcessState, Usage};
use pmon_core::wire::EventBody;

/// The names of the numbers that [`of_exec`] returns.
pub(super) const EXEC: [&str; 14] = [
    "ppid",
    "uid",
    "euid",
    "gid",
    "egid",
    "start_ticks",
    "parent_start_ticks",
    "args_len",
    "login_uid",
    "session",
    "group",
    "cgroup_id",
    "pid_ns",
    "ns_pid",
];

/// Returns the numbers of a process after an exec.
pub(super) fn of_exec(details: Option<&Details>) -> [Option<u64>; EXEC.len()] {
    let ids = details.and_then(|details| details.ids);
    let member = details.and_then(|details| details.context);
    [
        details.and_then(|details| details.ppid).map(u64::from),
        ids.map(|ids| ids.uid.into()),
        ids.map(|ids| ids.euid.into()),
        ids.map(|ids| ids.gid.into()),
        ids.map(|ids| ids.egid.into()),
        details.and_then(|details| details.start_ticks),
        details.and_then(|details| details.parent_start_ticks),
        details.and_then(|details| details.args_len.or(details.args.as_ref().map(|args| args.len() as u64))),
        member.map(|member| member.login_uid).filter(|&uid| uid != u32::MAX).map(u64::from),
        member.map(|member| member.session.into()),
        member.map(|member| member.group.into()),
        member.map(|member| member.cgroup).filter(|&cgroup| cgroup != 0),
        member.map(|member| member.pid_namespace).filter(|&namespace| namespace != 0).map(u64::from),
        member.map(|member| member.pid.into()),
    ]
}

/// The names of the numbers that [`of_exit`] returns.
pub(super) const EXIT: [&str; 10] = [
    "start_ticks",
    "cpu_us",
    "user_us",
    "system_us",
    "max_rss_kib",
    "minor_faults",
    "major_faults",
    "read_bytes",
    "write_bytes",
    "other_threads",
];

/// Returns the resources that a task used until its exit.
pub(super) fn of_exit(task: Task, usage: Option<&Usage>) -> [Option<u64>; EXIT.len()] {
    let Some(usage) = usage else { return [None; EXIT.len()] };
    let is_of_process = task.is_leader() || matches!(usage.process, ProcessState::Ended { .. });
    [
        Some(usage.start_ticks),
        Some(usage.cpu_us),
        Some(usage.user_us),
        Some(usage.system_us),
        // Every process has used some memory, so 0 means unknown.
        Some(usage.max_rss_kib).filter(|&kib| kib > 0 || !is_of_process),
        Some(usage.minor_faults),
        Some(usage.major_faults),
        Some(usage.read_bytes),
        Some(usage.write_bytes),
        Some(usage.threads.into()),
    ]
}

/// The state of a process after the exit of a task.
pub(super) struct OfProcess {
    /// Whether the process has ended with this exit.
    pub(super) has_ended: bool,
    /// The raw wait status of the ended process.
    pub(super) status: Option<u32>,
    /// The CPU time of all threads of the ended process, if it is known.
    pub(super) cpu_us: Option<u64>,
}

/// Returns the state of the process from the process table, or else from the recorder's
/// observation; `None` if neither is known.
pub(super) fn of_process(item: &TimelineItem, processes: &ProcessTable) -> Option<OfProcess> {
    let usage = item.usage.as_deref();
    let state = || match item.event.as_ref()?.body {
        EventBody::Exit { task, code, .. } => Some(usage?.process_state(task.is_leader(), code)),
        _ => None,
    };
    let exit = processes.last_exit().or_else(|| match state()? {
        ProcessState::Alive => Some(ProcessExit::GoesOn),
        ProcessState::Ended { status } => Some(ProcessExit::Ended { status }),
        _ => None,
    });
    match exit? {
        ProcessExit::GoesOn => Some(OfProcess { has_ended: false, status: None, cpu_us: None }),
        ProcessExit::Ended { status } => {
            let usage = usage.filter(|usage| matches!(usage.process, ProcessState::Ended { .. }));
            Some(OfProcess {
                has_ended: true,
                status: Some(status),
                cpu_us: usage.map(|usage| usage.process_cpu_us),
            })
        }
        ProcessExit::Unknown => None,
    }
}
