//! An existing process, with everything that the capture shows about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pmon_core::capture::{Details, MissReason, ProcessContext, Usage};
use pmon_core::{MonoNs, Tgid, Tid};

use crate::process::limits::MAX_NAME;

/// A running process or a zombie, as of the current record. Unknown fields are `None`.
///
/// Two values describe the same process if their process IDs and starts are equal.
#[derive(Clone, Debug, Default)]
pub struct LiveProcess {
    /// Process ID.
    pub pid: Tgid,
    /// Number that differs between processes, and changes whenever the process changes.
    pub version: u64,
    /// Time of the fork; `None` if the fork was lost or happened before the capture.
    pub start: Option<MonoNs>,
    /// Start time in clock ticks since boot, from the kernel if it is recorded. Otherwise the time
    /// of the fork event, which is slightly later.
    pub start_ticks: Option<u64>,
    /// Current parent. When a parent ends, its children get parent 1, unless an event names another
    /// one.
    pub ppid: Option<Tgid>,
    /// Process that traces this one (`ptrace(2)`).
    pub tracer: Option<Tgid>,
    /// Name of the first thread.
    pub name: Option<Arc<[u8]>>,
    /// Details from the last exec or from a scan, or those of the parent if the process has not
    /// called exec since its fork. If the details of the last exec are missing, the earlier ones
    /// remain as far as an exec preserves them: working directory, cgroup and process context.
    pub details: Option<Arc<Details>>,
    /// Real and effective user ID of the first thread.
    pub uid: Option<(u32, u32)>,
    /// Real and effective group ID of the first thread.
    pub gid: Option<(u32, u32)>,
    /// Session ID.
    pub session: Option<u32>,
    /// Process group ID, as of the last exec, `setsid(2)` or scan. `setpgid(2)` causes no event.
    pub group: Option<u32>,
    /// Time of the exec of the current program, by the process itself or by the ancestor it was
    /// forked from. `None` if the exec happened before the capture.
    pub exec: Option<MonoNs>,
    /// Known threads other than the first. Threads from before the capture are added by their first
    /// event.
    pub threads: BTreeMap<Tid, Thread>,
    /// Raw wait status of the process if it has ended, or of its first thread if only that has
    /// exited.
    pub exit: Option<u32>,
    /// Resource usage as of the exit of the first thread.
    pub usage: Option<Box<Usage>>,
    /// Process ID in the innermost PID namespace of the process.
    pub namespace_pid: Option<u32>,
    /// Whether the process had already exited when the recorder read the details of its exec. No
    /// other reader of `/proc` would have found it either.
    pub gone_at_exec: bool,
    /// Whether unknown threads still run after the exit of the first one.
    pub(super) has_unknown_threads: bool,
    /// Whether `start_ticks` is from the kernel.
    pub(super) has_kernel_start: bool,
    /// Whether the process is known only from a scan.
    pub(super) is_only_scanned: bool,
    /// Time of the latest event of the process.
    pub(super) last_event: MonoNs,
    /// Number of the last scan that found the process.
    pub(super) last_scan: u64,
}

/// A thread other than the first one of its process.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    /// Name of the thread.
    pub name: Option<Arc<[u8]>>,
    /// Time of the fork event, in clock ticks since boot.
    pub start_ticks: Option<u64>,
}

/// Whether a process is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    /// The first thread is running.
    Running,
    /// The first thread has exited, and other threads are running.
    Leaderless,
    /// All threads have exited, and the parent has not waited for the process yet.
    Zombie,
}

impl LiveProcess {
    /// Returns whether the process is running.
    pub fn state(&self) -> RunState {
        match (self.exit, self.threads.is_empty() && !self.has_unknown_threads) {
            (None, _) => RunState::Running,
            (Some(_), false) => RunState::Leaderless,
            (Some(_), true) => RunState::Zombie,
        }
    }

    /// Returns whether this is a kernel thread: `kthreadd`, or a child of it without a program.
    pub fn is_kernel_thread(&self) -> bool {
        let is_child = self.pid == Tgid(2) || self.ppid == Some(Tgid(2));
        let details = self.details.as_deref();
        let has_program = details.is_some_and(|details| {
            details.exe.is_some() || details.args.as_ref().is_some_and(|args| !args.is_empty())
        });
        is_child && self.exec.is_none() && !has_program
    }

    /// Returns the process context as of the last exec or scan. Its process ID can be that of a
    /// parent: use [`LiveProcess::namespace_pid`] instead.
    pub fn context(&self) -> Option<ProcessContext> {
        self.details.as_deref()?.context
    }

    /// Returns the state that a child inherits when the thread `tid` forks it.
    pub(super) fn inherited(&self, tid: Tid) -> Self {
        let thread_name = self.threads.get(&tid).and_then(|thread| thread.name.clone());
        Self {
            name: thread_name.or_else(|| self.name.clone()),
            details: self.details.clone(),
            uid: self.uid,
            gid: self.gid,
            session: self.session,
            group: self.group,
            exec: self.exec,
            ..Self::default()
        }
    }

    /// Fills unknown fields from `details`.
    pub(super) fn fill(&mut self, details: &Details) {
        self.gone_at_exec |= details.miss == Some(MissReason::Gone);
        self.uid = self.uid.or(details.ids.map(|ids| (ids.uid, ids.euid)));
        self.gid = self.gid.or(details.ids.map(|ids| (ids.gid, ids.egid)));
        self.session = self.session.or(details.context.map(|of| of.session));
        self.group = self.group.or(details.context.map(|of| of.group));
        self.namespace_pid = self.namespace_pid.or(details.context.map(|of| of.pid).filter(|&pid| pid != 0));
        self.name = self.name.take().or_else(|| name_of(details));
        self.start = self.start.or(details.forked);
        if let (Some(ticks), false) = (details.start_ticks, self.has_kernel_start) {
            (self.start_ticks, self.has_kernel_start) = (Some(ticks), true);
        }
    }

    /// Clears the fields that an exec changes, and those that `details` replace.
    pub(super) fn exec(&mut self, time: MonoNs, details: Option<&Details>) {
        (self.name, self.exit, self.exec) = (None, None, Some(time));
        (self.gone_at_exec, self.has_unknown_threads) = (false, false);
        if details.is_some_and(|details| details.ids.is_some()) {
            (self.uid, self.gid) = (None, None);
        }
        if details.is_some_and(|details| details.context.is_some()) {
            (self.session, self.group, self.namespace_pid) = (None, None, None);
        }
    }

    /// Returns whether a process with this start time from the kernel is a different process.
    pub(super) fn differs_from_start(&self, start_ticks: Option<u64>) -> bool {
        match (self.start_ticks, start_ticks) {
            // The opening of a segment can have the time of the fork event instead.
            (Some(known), Some(ticks)) if self.has_kernel_start => known.abs_diff(ticks) > 1,
            // The fork event is later than the start, and the offset between the clocks is
            // measured.
            (Some(known), Some(ticks)) => ticks.saturating_sub(known) > 1,
            _ => false,
        }
    }
}

/// Returns the name according to `details`. An exec names the process after the base name of the
/// file passed to it.
fn name_of(details: &Details) -> Option<Arc<[u8]>> {
    /// `TASK_COMM_LEN` without the terminating zero.
    const LEN: usize = 15;
    if let Some(comm) = details.comm.as_deref() {
        return Some(comm[..comm.len().min(MAX_NAME)].into());
    }
    let base = details.filename.as_deref()?.rsplit(|&byte| byte == b'/').next()?;
    (!base.is_empty()).then(|| base[..base.len().min(LEN)].into())
}

/// Combines two details. Where they differ, `first` wins.
pub(super) fn merged(first: &Details, second: &Details) -> Details {
    let mut all = first.clone();
    let fill = |field: &mut Option<Vec<u8>>, bytes: &Option<Vec<u8>>| {
        if field.is_none() {
            field.clone_from(bytes);
        }
    };
    fill(&mut all.comm, &second.comm);
    fill(&mut all.exe, &second.exe);
    fill(&mut all.filename, &second.filename);
    fill(&mut all.cwd, &second.cwd);
    if all.cgroup.is_none() || all.cgroup == second.cgroup {
        fill(&mut all.container, &second.container);
    }
    fill(&mut all.cgroup, &second.cgroup);
    if all.args.is_none() {
        (all.args, all.args_len) = (second.args.clone(), second.args_len);
    }
    all.ids = all.ids.or(second.ids);
    all.context = all.context.or(second.context);
    all
}

/// Returns the part of the details that an exec preserves.
pub(super) fn preserved_by_exec(details: &Details) -> Details {
    Details {
        comm: None,
        exe: None,
        filename: None,
        args: None,
        args_len: None,
        ids: None,
        ..details.clone()
    }
}
