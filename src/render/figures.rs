//! The numbers that are known of an exec and of an exit, under the same names in JSON and in CSV.

use pmon_core::capture::{Details, Usage};

/// What [`of_exec`] gives, by name.
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

/// What is known of a process after an exec.
pub(super) fn of_exec(details: Option<&Details>) -> [Option<u64>; EXEC.len()] {
    let ids = details.and_then(|details| details.ids);
    let member = details.and_then(|details| details.membership);
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

/// What [`of_exit`] gives, by name.
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

/// What was used until an exit.
pub(super) fn of_exit(usage: Option<&Usage>) -> [Option<u64>; EXIT.len()] {
    let Some(usage) = usage else { return [None; EXIT.len()] };
    [
        usage.start_ticks,
        usage.cpu_us,
        usage.user_us,
        usage.system_us,
        usage.max_rss_kib,
        usage.minor_faults,
        usage.major_faults,
        usage.read_bytes,
        usage.write_bytes,
        usage.threads.into(),
    ]
    .map(Some)
}
