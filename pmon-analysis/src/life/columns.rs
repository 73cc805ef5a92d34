//! The columns of the process table: names, types, meanings and values, for all outputs.

use std::borrow::Cow;
use std::cell::OnceCell;

use pmon_core::MonoNs;
use pmon_core::capture::{ContainerNames, SignalOrigin, SignalSender, argv};

use super::{Life, LifeEnd, LifeUsage, Program};
use crate::cgroup::CgroupIdentity;
use crate::wait_status::WaitStatus;
use crate::wall_clock::WallClock;

/// Type of the values in a column. Every column can be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// 64-bit signed integer.
    Integer,
    /// Truth value.
    Boolean,
    /// Wall-clock time.
    Timestamp,
    /// Byte string, which need not be UTF-8.
    Text,
    /// List of byte strings.
    TextList,
}

/// A value in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnValue<'a> {
    /// The value is unknown, or the process has none.
    Null,
    /// 64-bit signed integer.
    Integer(i64),
    /// Truth value.
    Boolean(bool),
    /// Wall-clock time in ns since 1970-01-01T00:00Z.
    Timestamp(i64),
    /// Byte string, which need not be UTF-8.
    Text(Cow<'a, [u8]>),
    /// Byte strings, each of which ends with a zero byte.
    TextList(&'a [u8]),
}

impl<'a> ColumnValue<'a> {
    /// Returns the strings of a list; none of another value.
    pub fn list(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        argv(if let Self::TextList(bytes) = *self { bytes } else { &[] })
    }
}

/// A process, with what its columns need in addition.
#[derive(Debug)]
pub struct LifeRow<'a> {
    life: &'a Life,
    wall: &'a WallClock,
    host: &'a str,
    identity: OnceCell<CgroupIdentity<'a>>,
}

impl<'a> LifeRow<'a> {
    /// Creates the row of a process that was recorded on `host`. `wall` is the clock of its boot.
    pub fn new(life: &'a Life, wall: &'a WallClock, host: &'a str) -> Self {
        Self { life, wall, host, identity: OnceCell::new() }
    }

    /// Returns the process.
    pub fn life(&self) -> &'a Life {
        self.life
    }

    fn program(&self) -> &'a Program {
        self.life.program.get()
    }

    fn usage(&self) -> Option<&'a LifeUsage> {
        self.life.usage.as_deref()
    }

    fn identity(&self) -> &CgroupIdentity<'a> {
        self.identity
            .get_or_init(|| self.program().cgroup.as_deref().map(CgroupIdentity::of).unwrap_or_default())
    }

    fn names(&self) -> ContainerNames<'a> {
        self.program().container_names()
    }

    fn start_ns(&self) -> Option<i64> {
        self.wall.at(self.life.start?)
    }

    fn end_ns(&self) -> Option<i64> {
        self.wall.at(self.end()?)
    }

    fn end(&self) -> Option<MonoNs> {
        match self.life.end {
            LifeEnd::Ended { time, .. } => Some(time),
            LifeEnd::Running | LifeEnd::Unobserved { .. } => None,
        }
    }

    /// Returns the origin of the signal that killed the process.
    fn origin(&self) -> Option<SignalOrigin> {
        self.signal()?;
        Some(self.life.signal.as_ref()?.signal.origin)
    }

    fn sender(&self) -> Option<SignalSender> {
        match self.origin()? {
            SignalOrigin::Process { sender, .. } => Some(sender),
            SignalOrigin::Unknown | SignalOrigin::Kernel { .. } => None,
        }
    }

    fn signal(&self) -> Option<(u8, bool)> {
        match self.life.status()? {
            WaitStatus::Killed { signal, core } => Some((signal, core)),
            WaitStatus::Exited(_) => None,
        }
    }
}

/// A column of the process table.
#[derive(Clone, Copy, Debug)]
pub struct LifeColumn {
    /// Name in SQL, JSON and exports.
    pub name: &'static str,
    /// Type of the values.
    pub kind: ColumnType,
    /// Meaning, with the unit.
    pub doc: &'static str,
    get: for<'a> fn(&LifeRow<'a>) -> ColumnValue<'a>,
}

impl LifeColumn {
    /// Returns the column with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        LIFE_COLUMNS.iter().find(|column| column.name == name)
    }

    /// Returns the value of the column in a row.
    pub fn get<'a>(&self, row: &LifeRow<'a>) -> ColumnValue<'a> {
        (self.get)(row)
    }
}

/// Returns a number as the value of a column.
pub(crate) fn integer<'a>(number: impl TryInto<i64>) -> ColumnValue<'a> {
    // A sum that does not fit is the largest number, rather than negative.
    ColumnValue::Integer(number.try_into().unwrap_or(i64::MAX))
}

/// Returns bytes as the value of a column.
pub(crate) fn text<'a>(text: impl Into<Cow<'a, [u8]>>) -> ColumnValue<'a> {
    ColumnValue::Text(text.into())
}

/// Returns columns of this type. A value is an `Option`, and `None` is null.
macro_rules! columns {
    ($column:ident; $($name:ident: $kind:ident, $doc:literal, |$row:pat_param| $value:expr;)*) => {
        &[$($column {
            name: stringify!($name),
            kind: $crate::life::ColumnType::$kind,
            doc: $doc,
            get: |$row| $value.map_or($crate::life::ColumnValue::Null, $crate::life::columns!(@$kind)),
        }),*]
    };
    (@Integer) => { $crate::life::integer };
    (@Boolean) => { $crate::life::ColumnValue::Boolean };
    (@Timestamp) => { $crate::life::ColumnValue::Timestamp };
    (@Text) => { $crate::life::text };
    (@TextList) => { $crate::life::ColumnValue::TextList };
}
pub(crate) use columns;

/// The columns of the process table, in their order. A null is unknown, unless the column says
/// otherwise.
pub const LIFE_COLUMNS: &[LifeColumn] = columns! { LifeColumn;
    process_id: Integer,
        "Number of the process, unique among all machines and boots.",
        |row| Some(row.life.id.0);
    parent_process_id: Integer,
        "`process_id` of the last known parent, which `ppid` names.",
        |row| row.life.parent_id.map(|id| id.0);
    creator_process_id: Integer,
        "`process_id` of the process that forked this one, or of the parent of the one that did so with `CLONE_PARENT`; for a process older than the recording, of its parent when it was first seen.",
        |row| row.life.parent.as_ref().map(|parent| parent.id.0);
    host: Text,
        "Name of the machine.",
        |row| Some(row.host.as_bytes()).filter(|host| !host.is_empty());
    pid: Integer,
        "Process ID, which another process can reuse after the end.",
        |row| Some(row.life.pid);
    ppid: Integer,
        "Process ID of the last known parent: 1 after the end of the original one, unless an event names another.",
        |row| row.life.ppid;
    ppid_assumed: Boolean,
        "Whether `ppid` is only assumed to be 1: the parent has ended, and no event has named the new one, which can be a subreaper; null without `ppid`.",
        |row| row.life.ppid.map(|_| row.life.is_parent_assumed);
    comm: Text,
        "Name of the first thread.",
        |row| row.life.comm();
    exe: Text,
        "Path of the executable; null also for a kernel thread.",
        |row| row.program().exe.as_deref();
    filename: Text,
        "Path that was passed to `execve(2)`; for a script, the script.",
        |row| row.program().filename.as_deref();
    cwd: Text,
        "Working directory at the exec.",
        |row| row.program().cwd.as_deref();
    args: TextList,
        "Arguments of the last program, beginning with its name.",
        |row| row.program().args.as_deref();
    args_truncated: Boolean,
        "Whether `args` lacks the end of the command line.",
        |row| row.program().args.as_ref().map(|args| {
            row.program().args_len.is_some_and(|len| len > args.len() as u64)
        });
    uid: Integer,
        "Real user ID.",
        |row| row.life.uid.map(|(real, _)| real);
    euid: Integer,
        "Effective user ID.",
        |row| row.life.uid.map(|(_, effective)| effective);
    gid: Integer,
        "Real group ID.",
        |row| row.life.gid.map(|(real, _)| real);
    egid: Integer,
        "Effective group ID.",
        |row| row.life.gid.map(|(_, effective)| effective);
    login_uid: Integer,
        "User ID of the login, even after `su` and `sudo`; null also without a login.",
        |row| row.program().login_uid.filter(|&uid| uid != u32::MAX);
    session: Integer,
        "Process ID of the session's leader.",
        |row| row.life.session;
    process_group: Integer,
        "Process ID of the process group's leader, as of the last exec or `setsid(2)`: no event reports `setpgid(2)`.",
        |row| row.life.group;
    cgroup: Text,
        "Cgroup, as in `/proc/PID/cgroup`: `0::` and its path.",
        |row| row.program().cgroup.as_deref();
    unit: Text,
        "Unit of systemd: a service or a scope; null also without one.",
        |row| row.identity().unit;
    container_id: Text,
        "Identifier of the container; null also without one.",
        |row| row.identity().container_id.clone();
    pod_uid: Text,
        "UID of the Kubernetes pod; null also without one.",
        |row| row.identity().pod_uid.clone();
    container: Text,
        "Name of the container; null also without one.",
        |row| row.names().container;
    pod: Text,
        "Name of the Kubernetes pod; null also without one.",
        |row| row.names().pod;
    namespace: Text,
        "Namespace of the pod or of the container; null also without one.",
        |row| row.names().namespace;
    image: Text,
        "Name of the container's image; null also without one.",
        |row| row.names().image;
    pid_ns: Integer,
        "Inode number of the PID namespace.",
        |row| row.program().pid_namespace;
    ns_pid: Integer,
        "Process ID in the PID namespace.",
        |row| row.life.namespace_pid;
    start_time: Timestamp,
        "Start of the process; exact to a clock tick if it is older than the recording.",
        |row| row.start_ns();
    start_time_ns: Integer,
        "`start_time` in ns since 1970.",
        |row| row.start_ns();
    end_time: Timestamp,
        "End of the process; null also while it runs.",
        |row| row.end_ns();
    end_time_ns: Integer,
        "`end_time` in ns since 1970; null also while the process runs.",
        |row| row.end_ns();
    ended: Boolean,
        "Whether the process had ended by the end of the recording; `end_time` is null if that was not observed.",
        |row| Some(row.life.end != LifeEnd::Running);
    duration_ns: Integer,
        "Time from start to end in ns, without suspend, to 10 ms for a process older than the recording; null also while the process runs.",
        |row| row.life.duration_ns();
    exit_code: Integer,
        "Exit code, 0 to 255; null also if a signal killed the process, and while it runs.",
        |row| match row.life.status() {
            Some(WaitStatus::Exited(code)) => Some(code),
            _ => None,
        };
    term_signal: Integer,
        "Number of the signal that killed the process; null also if none did.",
        |row| row.signal().map(|(signal, _)| signal);
    core_dumped: Boolean,
        "Whether the process dumped core; null also while it runs.",
        |row| row.life.status().map(|_| row.signal().is_some_and(|(_, core)| core));
    oom_killed: Boolean,
        "Whether the OOM killer killed the process; null also while it runs.",
        |row| row.life.oom_killed();
    signal_origin: Text,
        "Who sent the signal that killed the process: `process` or `kernel`; null also if no signal did.",
        |row| match row.origin() {
            Some(SignalOrigin::Process { .. }) => Some(&b"process"[..]),
            Some(SignalOrigin::Kernel { .. }) => Some(&b"kernel"[..]),
            Some(SignalOrigin::Unknown) | None => None,
        };
    signal_code: Integer,
        "Cause of that signal: `si_code` in `sigaction(2)`; null also if no signal killed the process.",
        |row| match row.origin() {
            Some(SignalOrigin::Process { code, .. } | SignalOrigin::Kernel { code }) => Some(code),
            Some(SignalOrigin::Unknown) | None => None,
        };
    signal_sender_process_id: Integer,
        "`process_id` of the process that sent that signal; null also if the kernel did.",
        |row| row.sender().and(row.life.signal.as_ref()).and_then(|of| of.sender_id).map(|id| id.0);
    signal_sender_pid: Integer,
        "Process ID of the sender; null also if the kernel sent the signal.",
        |row| row.sender().map(|sender| sender.pid);
    signal_sender_comm: Text,
        "Name of the sender; null also if the kernel sent the signal.",
        |row| row.sender().map(|sender| sender.comm.as_bytes().to_vec());
    signal_sender_uid: Integer,
        "Real user ID of the sender; null also if the kernel sent the signal.",
        |row| row.sender().map(|sender| sender.uid);
    wait_status: Integer,
        "Status that `wait(2)` returned to the parent; null also while the process runs.",
        |row| row.life.status().map(WaitStatus::raw);
    cpu_ns: Integer,
        "CPU time until the end in ns.",
        |row| row.usage().map(|usage| usage.cpu_ns);
    user_ns: Integer,
        "CPU time in user mode in ns, as sampled by the clock tick.",
        |row| row.usage().map(|usage| usage.user_ns);
    system_ns: Integer,
        "CPU time in kernel mode in ns, as sampled by the clock tick.",
        |row| row.usage().map(|usage| usage.system_ns);
    max_rss_bytes: Integer,
        "Peak resident memory since the last exec in bytes.",
        |row| row.usage().and_then(|usage| usage.max_rss_bytes);
    minor_faults: Integer,
        "Page faults served without storage.",
        |row| row.usage().map(|usage| usage.minor_faults);
    major_faults: Integer,
        "Page faults served from storage.",
        |row| row.usage().map(|usage| usage.major_faults);
    read_bytes: Integer,
        "Bytes read from storage.",
        |row| row.usage().map(|usage| usage.read_bytes);
    write_bytes: Integer,
        "Bytes written to storage.",
        |row| row.usage().map(|usage| usage.write_bytes);
    threads: Integer,
        "Number of threads that the process is known to have had, including the first one.",
        |row| Some(u64::from(row.life.threads) + 1);
    missed: Text,
        "Why properties of the program are unknown: `gone`, `denied`, `busy`, `superseded`, `unreadable`, `too_long`; null if none is missed.",
        |row| row.program().miss.map(|miss| miss.name().as_bytes());
};

#[cfg(test)]
mod tests;
