//! A process that is there, in detail.

use std::collections::BTreeMap;
use std::sync::Arc;

use pmon_core::capture::{Details, MissReason, ProcessContext, Usage};
use pmon_core::{MonoNs, Tgid, Tid};

use crate::process::limits::MAX_NAME;

/// A process at a moment. What is not known is `None`.
///
/// It is the same process as long as its id and its start are the same.
#[derive(Clone, Debug, Default)]
pub struct LiveProcess {
    /// Its id.
    pub pid: Tgid,
    /// Another number after each change, and for each process.
    pub version: u64,
    /// When it was forked; `None` if that was before the capture, or lost.
    pub start: Option<MonoNs>,
    /// When it began, in clock ticks since boot: as the kernel said it, else by the time of its fork event, which comes a little after the
    /// begin.
    pub start_ticks: Option<u64>,
    /// The process that it is a child of now: when a parent ends, that is 1, unless an event says who else adopted it.
    pub ppid: Option<Tgid>,
    /// Who traces it.
    pub tracer: Option<Tgid>,
    /// Name of its first thread.
    pub name: Option<Arc<[u8]>>,
    /// What was read of it after its last exec, or by a scan; of a parent, if it has not had an exec since. After an exec of which
    /// nothing could be had, what an exec leaves as it is: working directory, cgroup, membership.
    pub details: Option<Arc<Details>>,
    /// Real and effective user id of its first thread.
    pub uid: Option<(u32, u32)>,
    /// Real and effective group id of its first thread.
    pub gid: Option<(u32, u32)>,
    /// Its session, by its leader.
    pub session: Option<u32>,
    /// Its process group, by its leader. `setpgid(2)` makes no event: this is as of the last exec or `setsid(2)`, before these as of a scan.
    pub group: Option<u32>,
    /// When it became the program that it is, be it by an exec of a parent. `None` if that was before the capture.
    pub exec: Option<MonoNs>,
    /// Its threads beside the first, as far as they are known: those that were there before the capture show with their first event.
    pub threads: BTreeMap<Tid, Thread>,
    /// Raw wait status of the process if it has ended, or of its first thread if only that has
    /// exited.
    pub exit: Option<u32>,
    /// What it had used when its first thread ended.
    pub usage: Option<Box<Usage>>,
    /// Its id in its own PID namespace, if that is known.
    pub inner_pid: Option<u32>,
    /// Whether the recorder, when it looked at what an exec had made of it, found it gone: who looks then finds nothing.
    pub gone: bool,
    /// Whether unknown threads run on after the exit of the first one.
    pub(super) goes_on: bool,
    /// `start_ticks` is the kernel's.
    pub(super) is_exact: bool,
    /// Nothing but a scan has told of it yet.
    pub(super) unborn: bool,
    /// When it was last heard of.
    pub(super) heard: MonoNs,
    /// The last scan that saw it.
    pub(super) scan: u64,
}

/// A thread beside the first.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    /// Its name.
    pub name: Option<Arc<[u8]>>,
    /// When it began, in clock ticks since boot, by the time of its fork event.
    pub start_ticks: Option<u64>,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    /// It does.
    Running,
    /// Its first thread has ended, others go on.
    Leaderless,
    /// All its threads have ended, and its parent has not waited for it yet.
    Zombie,
}

impl LiveProcess {
    /// Whether it runs.
    pub fn state(&self) -> RunState {
        match (self.exit, self.threads.is_empty() && !self.goes_on) {
            (None, _) => RunState::Running,
            (Some(_), false) => RunState::Leaderless,
            (Some(_), true) => RunState::Zombie,
        }
    }

    /// Whether it is a thread of the kernel's own: a child of `kthreadd`, or that itself, without a program.
    pub fn is_kernel_thread(&self) -> bool {
        let is_child = self.pid == Tgid(2) || self.ppid == Some(Tgid(2));
        let details = self.details.as_deref();
        let has_program = details.is_some_and(|details| {
            details.exe.is_some() || details.args.as_ref().is_some_and(|args| !args.is_empty())
        });
        is_child && self.exec.is_none() && !has_program
    }

    /// Where it belongs, as of its last exec or a scan; the id that stands there is [`LiveProcess::inner_pid`].
    pub fn context(&self) -> Option<ProcessContext> {
        self.details.as_deref()?.context
    }

    /// Takes what `details` know and it does not.
    pub(super) fn fill(&mut self, details: &Details) {
        self.gone |= details.miss == Some(MissReason::Gone);
        self.uid = self.uid.or(details.ids.map(|ids| (ids.uid, ids.euid)));
        self.gid = self.gid.or(details.ids.map(|ids| (ids.gid, ids.egid)));
        self.session = self.session.or(details.context.map(|of| of.session));
        self.group = self.group.or(details.context.map(|of| of.group));
        self.inner_pid = self.inner_pid.or(details.context.map(|of| of.pid));
        self.name = self.name.take().or_else(|| name_of(details));
        if let (Some(ticks), false) = (details.start_ticks, self.is_exact) {
            (self.start_ticks, self.is_exact) = (Some(ticks), true);
        }
    }

    /// Forgets what an exec changes; what `details` say of the rest counts from now on.
    pub(super) fn exec(&mut self, time: MonoNs, details: Option<&Details>) {
        (self.name, self.exit, self.exec) = (None, None, Some(time));
        (self.gone, self.goes_on) = (false, false);
        if details.is_some_and(|details| details.ids.is_some()) {
            (self.uid, self.gid) = (None, None);
        }
        if details.is_some_and(|details| details.context.is_some()) {
            (self.session, self.group, self.inner_pid) = (None, None, None);
        }
    }

    /// Whether a process that began at these ticks, as the kernel says, is another one.
    pub(super) fn is_other(&self, start_ticks: Option<u64>) -> bool {
        match (self.start_ticks, start_ticks) {
            (Some(known), Some(ticks)) if self.is_exact => known != ticks,
            // The event comes after the begin, and the offset between the clocks is itself measured.
            (Some(known), Some(ticks)) => ticks > known + 1,
            _ => false,
        }
    }
}

/// The name by its details: a kernel names a process after the file that it was given.
fn name_of(details: &Details) -> Option<Arc<[u8]>> {
    /// `TASK_COMM_LEN`, without the final zero.
    const LEN: usize = 15;
    if let Some(comm) = details.comm.as_deref() {
        return Some(comm[..comm.len().min(MAX_NAME)].into());
    }
    let base = details.filename.as_deref()?.rsplit(|&byte| byte == b'/').next()?;
    (!base.is_empty()).then(|| base[..base.len().min(LEN)].into())
}

/// What both know together; where they differ, as `first` has it.
pub(super) fn merged(first: &Details, second: &Details) -> Details {
    let mut all = first.clone();
    let fill = |place: &mut Option<Vec<u8>>, bytes: &Option<Vec<u8>>| {
        if place.is_none() {
            place.clone_from(bytes);
        }
    };
    fill(&mut all.comm, &second.comm);
    fill(&mut all.exe, &second.exe);
    fill(&mut all.filename, &second.filename);
    fill(&mut all.cwd, &second.cwd);
    fill(&mut all.cgroup, &second.cgroup);
    if all.args.is_none() {
        (all.args, all.args_len) = (second.args.clone(), second.args_len);
    }
    all.ids = all.ids.or(second.ids);
    all.context = all.context.or(second.context);
    all
}

/// What an exec leaves as it is.
pub(super) fn lasting(details: &Details) -> Details {
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
