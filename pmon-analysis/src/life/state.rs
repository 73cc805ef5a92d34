//! What a [`Life`] has in addition to the process model.

use std::sync::{Arc, OnceLock};

use pmon_core::MonoNs;
use pmon_core::capture::{ProcessState, Usage};

use super::{
    Ancestor, Life, LifeEnd, LifeExec, LifeSignal, LifeUsage, MAX_ANCESTORS, ProcessId, ProcessProgram,
    ProcessStart,
};
use crate::process::{Name, ProcessFacts};
use crate::wait_status::WaitStatus;

/// Maximum number of execs that are kept of one process.
const MAX_EXECS: usize = 64;

/// Maximum number of changes between the forks of one process whose parent is unknown.
const MAX_EARLIER: usize = 64;

/// What the rows of processes have in addition to the process model.
#[derive(Debug, Default)]
pub(super) struct LifeState {
    /// Identity and start, once they are needed.
    pub(super) identity: Option<(ProcessId, ProcessStart)>,
    /// Time of the first record that names the process.
    pub(super) first: Option<MonoNs>,
    pub(super) parent: Option<Arc<Ancestor>>,
    /// Identity of the last known parent, once the process has ended or a row is made of it.
    pub(super) parent_id: Option<ProcessId>,
    pub(super) program: ProcessProgram,
    execs: Vec<LifeExec>,
    omitted_execs: u32,
    pub(super) threads: u32,
    /// Number of processes that the process forked.
    pub(super) children: u32,
    usage: Option<Box<LifeUsage>>,
    end: Option<(MonoNs, Option<WaitStatus>)>,
    pub(super) signal: Option<Box<LifeSignal>>,
    /// The process as the parent of the processes that it forks.
    pub(super) as_parent: Option<Arc<Ancestor>>,
    /// The same before each change, until its own parent is known.
    pub(super) as_earlier_parent: Vec<Arc<Ancestor>>,
}

impl LifeState {
    /// Adds an exec.
    pub(super) fn exec(&mut self, time: MonoNs, program: ProcessProgram) {
        self.program = program.clone();
        (self.end, self.signal) = (None, None);
        self.execs.push(LifeExec { time, program });
        if self.execs.len() > MAX_EXECS {
            self.execs.remove(1);
            self.omitted_execs = self.omitted_execs.saturating_add(1);
        }
    }

    /// Removes the last exec, if it was at this time, and returns its program.
    pub(super) fn take_exec(&mut self, time: MonoNs) -> Option<ProcessProgram> {
        let exec = self.execs.pop_if(|exec| exec.time == time)?;
        self.program = self.execs.last().map(|exec| exec.program.clone()).unwrap_or_default();
        Some(exec.program)
    }

    /// Notes the end of the process. `status` is `None` if only its first thread is known to have
    /// exited.
    pub(super) fn end(&mut self, time: MonoNs, status: Option<u32>) {
        let is_known = self.end.is_some_and(|(_, status)| status.is_some());
        if !is_known {
            self.end = Some((time, status.map(WaitStatus::from_raw)));
        }
    }

    /// Returns the time of the end.
    pub(super) fn end_time(&self) -> Option<MonoNs> {
        self.end.map(|(time, _)| time)
    }

    /// Adds the usage at the exit of the first thread, or of the last one.
    pub(super) fn add_usage(&mut self, usage: &Usage, is_leader: bool) {
        let has_ended = matches!(usage.process, ProcessState::Ended { .. });
        if is_leader {
            self.usage = Some(Box::new(LifeUsage {
                cpu_ns: usage.cpu_us.saturating_mul(1000),
                user_ns: usage.user_us.saturating_mul(1000),
                system_ns: usage.system_us.saturating_mul(1000),
                max_rss_bytes: (usage.max_rss_kib > 0).then(|| usage.max_rss_kib.saturating_mul(1024)),
                minor_faults: usage.minor_faults,
                major_faults: usage.major_faults,
                read_bytes: usage.read_bytes,
                write_bytes: usage.write_bytes,
                at_least: usage.at_least || usage.threads > 0,
            }));
        } else if has_ended && let Some(own) = &mut self.usage {
            // The last thread only reports the CPU time and the peak memory of the process.
            own.cpu_ns = own.cpu_ns.max(usage.process_cpu_us.saturating_mul(1000));
            let peak = (usage.max_rss_kib > 0).then(|| usage.max_rss_kib.saturating_mul(1024));
            own.max_rss_bytes = own.max_rss_bytes.max(peak);
        }
    }

    /// Returns the process as the parent of another one, which it forks now; `None` if it has
    /// changed since it forked the last one.
    pub(super) fn known_as_parent(&self, uid: Option<(u32, u32)>, name: &Name) -> Option<Arc<Ancestor>> {
        let known = self.as_parent.as_ref()?;
        let is_same =
            known.program.is_same(&self.program) && known.uid == uid && known.name.get() == name.get();
        is_same.then(|| Arc::clone(known))
    }

    /// Returns the process as the parent of another one, after a change.
    pub(super) fn as_new_parent(
        &mut self,
        facts: ProcessFacts,
        id: ProcessId,
        start: Option<MonoNs>,
    ) -> Arc<Ancestor> {
        let depth = self.parent.as_ref().map_or(0, |parent| parent.depth + 1);
        let ancestor = Arc::new(Ancestor {
            id,
            pid: facts.pid,
            start,
            name: facts.name,
            program: self.program.clone(),
            uid: facts.uid,
            parent: self.parent.clone().filter(|_| depth < MAX_ANCESTORS),
            depth: if depth < MAX_ANCESTORS { depth } else { 0 },
            found: OnceLock::new(),
        });
        let earlier = self.as_parent.replace(Arc::clone(&ancestor)).filter(|_| self.parent.is_none());
        if self.as_earlier_parent.len() < MAX_EARLIER {
            self.as_earlier_parent.extend(earlier);
        }
        ancestor
    }

    /// Returns the row of a process that has ended before `now`, or that is running.
    pub(super) fn into_life(
        self,
        facts: ProcessFacts,
        (id, origin): (ProcessId, ProcessStart),
        start: Option<MonoNs>,
        gone_at: Option<MonoNs>,
    ) -> Life {
        let end = match (self.end, gone_at) {
            (Some((time, status)), _) => LifeEnd::Ended { time, status },
            (None, Some(before)) => LifeEnd::Unobserved { after: facts.last_event, before },
            (None, None) => LifeEnd::Running,
        };
        Life {
            id,
            pid: facts.pid,
            origin,
            start,
            end,
            parent: self.parent,
            ppid: facts.ppid,
            is_parent_assumed: facts.is_parent_assumed,
            parent_id: self.parent_id,
            name: facts.name,
            program: self.program,
            execs: self.execs,
            omitted_execs: self.omitted_execs,
            uid: facts.uid,
            gid: facts.gid,
            session: facts.session,
            group: facts.group,
            namespace_pid: facts.namespace_pid,
            threads: self.threads,
            children: self.children,
            usage: self.usage,
            signal: self.signal,
        }
    }

    /// Returns the row of a process as it is now, with its execs if `has_execs`.
    pub(super) fn life(
        &self,
        facts: ProcessFacts,
        identity: (ProcessId, ProcessStart),
        start: Option<MonoNs>,
        has_execs: bool,
    ) -> Life {
        let copy = Self {
            identity: None,
            first: None,
            parent: self.parent.clone(),
            parent_id: self.parent_id,
            program: self.program.clone(),
            execs: if has_execs { self.execs.clone() } else { Vec::new() },
            omitted_execs: self.omitted_execs,
            threads: self.threads,
            children: self.children,
            usage: self.usage.clone(),
            end: self.end,
            signal: self.signal.clone(),
            as_parent: None,
            as_earlier_parent: Vec::new(),
        };
        copy.into_life(facts, identity, start, None)
    }
}
