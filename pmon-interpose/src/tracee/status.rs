//! The status of a task, from the `/proc` of this process.

use std::fmt::Display;

use rustix::io::Errno;

/// Returns the fields of `/proc/PID/stat` after the name: state, parent, group, and so on. The name
/// itself may contain any character.
pub(crate) fn stat_fields(process: impl Display) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    String::from_utf8_lossy(&stat).rsplit(") ").next().map(str::to_owned)
}

/// Returns the process of a task; `ESRCH` if the task has ended.
pub(crate) fn tgid_of(task: u32) -> Result<u32, Errno> {
    let status = read_status(task)?;
    let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    tgid.and_then(|tgid| tgid.trim().parse().ok()).ok_or(Errno::SRCH)
}

/// Returns the process group of a process, as an id of this process's PID namespace.
pub(crate) fn group_of(process: u32) -> Result<u32, Errno> {
    stat_fields(process).and_then(|stat| stat.split(' ').nth(2)?.parse().ok()).ok_or(Errno::SRCH)
}

/// The task that makes a call, by its ids in the tracee's PID namespace.
pub(crate) struct Caller {
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    /// Whether the task has `CAP_NET_ADMIN` in its user namespace.
    pub(crate) has_net_admin: bool,
}

impl Caller {
    pub(crate) fn of(task: u32) -> Result<Self, Errno> {
        /// Number of the capability.
        const CAP_NET_ADMIN: u32 = 12;
        let status = read_status(task)?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        // The last id is that of the innermost namespace.
        let id = |name| field(name).and_then(|ids| ids.split_whitespace().last()?.parse().ok());
        let caps = field("CapEff:").and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok());
        Ok(Self {
            tgid: id("NStgid:").unwrap_or(task),
            tid: id("NSpid:").unwrap_or(task),
            has_net_admin: caps.is_some_and(|caps| caps >> CAP_NET_ADMIN & 1 == 1),
        })
    }
}

fn read_status(task: u32) -> Result<String, Errno> {
    std::fs::read_to_string(format!("/proc/{task}/status")).map_err(|_gone| Errno::SRCH)
}
