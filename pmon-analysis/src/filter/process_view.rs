//! The properties of a process that conditions examine, for any source of processes.

use std::borrow::Cow;

use pmon_core::capture::Details;
use pmon_core::{MonoNs, Tgid};

use crate::life::{Life, LifeTracker};
use crate::process::{LiveProcess, ProcessExit, ProcessRef, ProcessTable};

/// Maximum number of bytes of a command line that are searched. pmon records at most as many.
const MAX_ARGS: usize = 128 << 10;

/// What is known of a process. Unknown properties are `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessView<'a> {
    /// Name of the first thread.
    pub comm: Option<&'a [u8]>,
    /// Path of the executable.
    pub exe: Option<&'a [u8]>,
    /// Arguments, each of which ends with a zero byte.
    pub args: Option<&'a [u8]>,
    /// Content of `/proc/<pid>/cgroup`, or the path of the cgroup.
    pub cgroup: Option<&'a [u8]>,
    /// Names of the container, as in [`Details::container`].
    pub container: Option<&'a [u8]>,
    /// Real and effective user ID.
    pub uid: Option<(u32, u32)>,
    /// Time since the start of the process, in ns.
    pub age_ns: Option<u64>,
    /// Whether the OOM killer killed the process; unknown before its end.
    pub oom_killed: Option<bool>,
}

impl<'a> From<&'a Details> for ProcessView<'a> {
    fn from(details: &'a Details) -> Self {
        Self {
            comm: details.comm.as_deref(),
            exe: details.exe.as_deref(),
            args: details.args.as_deref(),
            cgroup: details.cgroup.as_deref(),
            container: details.container.as_deref(),
            uid: details.ids.map(|ids| (ids.uid, ids.euid)),
            age_ns: None,
            oom_killed: None,
        }
    }
}

impl<'a> From<&'a LiveProcess> for ProcessView<'a> {
    fn from(process: &'a LiveProcess) -> Self {
        let details = process.details.as_deref().map(Self::from).unwrap_or_default();
        Self { comm: process.name.as_deref(), uid: process.uid.or(details.uid), ..details }
    }
}

impl<'a> ProcessView<'a> {
    /// Returns the properties of a process at `time`.
    pub fn of_model(process: ProcessRef<'a>, time: MonoNs) -> Self {
        Self {
            comm: process.comm(),
            exe: process.exe(),
            args: process.args(),
            cgroup: process.cgroup(),
            container: process.container(),
            uid: process.uid(),
            age_ns: process.age_at(time),
            oom_killed: None,
        }
    }

    /// Returns the properties of a process at its end, or at `now`, the end of the recording.
    pub fn of_life(life: &'a Life, now: MonoNs) -> Self {
        let program = life.program.get();
        Self {
            comm: life.comm(),
            exe: program.exe.as_deref(),
            args: program.args.as_deref(),
            cgroup: program.cgroup.as_deref(),
            container: program.container.as_deref(),
            uid: life.uid,
            age_ns: life.observed_ns(now),
            oom_killed: life.oom_killed(),
        }
    }
}

/// The processes at the record that a [`Filter`](super::Filter) examines.
pub trait ProcessLookup {
    /// Returns the effect of the record on its process, if it is an exit.
    fn last_exit(&self) -> Option<ProcessExit>;
    /// Returns what is known of the process that has this ID. For the record of its exit, this is
    /// the process that has ended.
    fn view(&self, pid: Tgid, time: MonoNs) -> ProcessView<'_>;
}

impl ProcessLookup for ProcessTable {
    fn last_exit(&self) -> Option<ProcessExit> {
        self.last_exit()
    }

    fn view(&self, pid: Tgid, time: MonoNs) -> ProcessView<'_> {
        let live = self.live_process(pid);
        ProcessView {
            comm: self.name(pid),
            age_ns: live.and_then(|live| self.age_ns(live, time)),
            oom_killed: self.last_oom_kill(),
            ..live.map(ProcessView::from).unwrap_or_default()
        }
    }
}

impl ProcessLookup for LifeTracker {
    fn last_exit(&self) -> Option<ProcessExit> {
        self.last_exit()
    }

    fn view(&self, pid: Tgid, time: MonoNs) -> ProcessView<'_> {
        let view = self.last_process(pid).map(|process| ProcessView::of_model(process, time));
        ProcessView { oom_killed: self.last_oom_kill(), ..view.unwrap_or_default() }
    }
}

/// Without processes, nothing is known of any.
impl<P: ProcessLookup> ProcessLookup for Option<P> {
    fn last_exit(&self) -> Option<ProcessExit> {
        self.as_ref()?.last_exit()
    }

    fn view(&self, pid: Tgid, time: MonoNs) -> ProcessView<'_> {
        self.as_ref().map(|processes| processes.view(pid, time)).unwrap_or_default()
    }
}

/// Returns the arguments, separated by spaces, as conditions search them: at most the first 128
/// KiB.
pub fn command_line(args: &[u8]) -> Cow<'_, [u8]> {
    let args = &args[..args.len().min(MAX_ARGS)];
    let args = args.strip_suffix(b"\0").unwrap_or(args);
    match args.contains(&0) {
        false => Cow::Borrowed(args),
        true => args.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect::<Vec<_>>().into(),
    }
}
