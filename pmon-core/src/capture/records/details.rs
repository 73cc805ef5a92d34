//! What is known of a process in addition to its events.

use crate::ids::{MonoNs, Tgid};

/// The process that details describe, and the occasion on which they were obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DetailsSubject {
    /// The process after an exec.
    Exec {
        /// The process.
        tgid: Tgid,
        /// Time of the exec event.
        time: MonoNs,
    },
    /// The process as a scan of `/proc` found it.
    Snapshot {
        /// The process.
        tgid: Tgid,
    },
}

impl DetailsSubject {
    /// Returns the process.
    pub fn tgid(self) -> Tgid {
        match self {
            Self::Exec { tgid, .. } | Self::Snapshot { tgid } => tgid,
        }
    }
}

/// Why details, or some of them, are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissReason {
    /// The process had ended, or its id belonged to another process.
    Gone,
    /// The recorder lacked the permission to read them.
    Denied,
    /// Too many processes executed programs at once.
    Busy,
    /// The process had executed another program.
    Superseded,
    /// The memory of the process was not readable at that moment.
    Unreadable,
    /// A value exceeds the recorder's limit.
    TooLong,
}

impl MissReason {
    /// Returns the reason's name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Superseded => "superseded",
            Self::Unreadable => "unreadable",
            Self::TooLong => "too_long",
        }
    }
}

/// What is known of a process in addition to its events.
///
/// A field is `None` if it could not be read; `miss` then has the reason. A kernel thread has
/// neither `exe` nor `args`, without a reason; nor `cwd`, if the recorder may not read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The process, and the occasion.
    pub subject: DetailsSubject,
    /// Why some fields are missing.
    pub miss: Option<MissReason>,
    /// Process id of the parent (`proc_pid_stat(5)`).
    pub ppid: Option<u32>,
    /// Start time in clock ticks since boot (`proc_pid_stat(5)`). Together with the process id, it
    /// identifies a process.
    pub start_ticks: Option<u64>,
    /// Start time of the parent in clock ticks since boot.
    pub parent_start_ticks: Option<u64>,
    /// User and group ids.
    pub ids: Option<Credentials>,
    /// Name of the first thread.
    pub comm: Option<Vec<u8>>,
    /// Path of the executable.
    pub exe: Option<Vec<u8>>,
    /// Path that the caller passed to `execve(2)`; for a script, the path of the script.
    pub filename: Option<Vec<u8>>,
    /// Working directory.
    pub cwd: Option<Vec<u8>>,
    /// Content of `/proc/<pid>/cgroup` without the final newline.
    pub cgroup: Option<Vec<u8>>,
    /// Names of the container, in the order of [`ContainerNames`](super::ContainerNames): each ends
    /// with a zero byte, and is empty if it is unknown.
    pub container: Option<Vec<u8>>,
    /// Arguments in the format of `/proc/<pid>/cmdline`: each ends with a zero byte.
    pub args: Option<Vec<u8>>,
    /// Full length of the arguments in bytes if `args` holds only the first ones; never 0.
    pub args_len: Option<u64>,
    /// Session, cgroup and namespace of the process.
    pub context: Option<ProcessContext>,
    /// Number of threads of the process when a scan found it; never 0.
    pub threads: Option<u32>,
    /// Time of the process's fork event, in the opening of a segment whose recorder received it.
    pub forked: Option<MonoNs>,
}

/// Overhead of one heap allocation, in bytes.
const ALLOCATION: usize = 16;

impl Details {
    /// Creates details in which every field is missing for this reason.
    pub fn missed(subject: DetailsSubject, miss: MissReason) -> Self {
        Self {
            subject,
            miss: Some(miss),
            ppid: None,
            start_ticks: None,
            parent_start_ticks: None,
            ids: None,
            comm: None,
            exe: None,
            filename: None,
            cwd: None,
            cgroup: None,
            container: None,
            args: None,
            args_len: None,
            context: None,
            threads: None,
            forked: None,
        }
    }

    /// Returns the fields that are byte strings.
    pub fn strings(&self) -> [&Option<Vec<u8>>; 7] {
        let Self { comm, exe, filename, cwd, cgroup, container, args, .. } = self;
        [comm, exe, filename, cwd, cgroup, container, args]
    }

    /// Returns the bytes of memory that these details take in a box.
    pub fn memory(&self) -> usize {
        let texts = self.strings().into_iter().flatten().count() * ALLOCATION;
        size_of::<Self>() + ALLOCATION + texts + self.text_capacity()
    }

    /// Returns the capacity of all texts, in bytes.
    pub(crate) fn text_capacity(&self) -> usize {
        self.strings().into_iter().flatten().map(Vec::capacity).sum()
    }

    /// Returns the arguments one by one; none if they are missing.
    pub fn argv(&self) -> impl Iterator<Item = &[u8]> {
        argv(self.args.as_deref().unwrap_or_default())
    }
}

/// Returns the arguments one by one, each of which ends with a zero byte in `args`.
pub fn argv(args: &[u8]) -> impl Iterator<Item = &[u8]> {
    let all = (!args.is_empty()).then(|| args.strip_suffix(b"\0").unwrap_or(args));
    all.into_iter().flat_map(|args| args.split(|&byte| byte == 0))
}

/// The session, group, login, cgroup and PID namespace of a process, according to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessContext {
    /// Process id of the session's leader.
    pub session: u32,
    /// Process id of the process group's leader.
    pub group: u32,
    /// User id of the login session (`/proc/<pid>/loginuid`); `u32::MAX` without a login.
    pub login_uid: u32,
    /// Inode number of the directory of the cgroup (version 2); 0 if unknown.
    pub cgroup: u64,
    /// Inode number of the PID namespace; 0 if unknown.
    pub pid_namespace: u32,
    /// Process id in that PID namespace; 0 if unknown.
    pub pid: u32,
}

/// User and group ids of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
}
