//! The system calls of the model's processes, and the events that they emit.

use pmon_core::wire::{Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid, Tid};

use super::Kernel;
use super::task_table::{CredentialIds, FakeProcess};
use crate::faults::place::EventProcess;
use crate::netlink::connector::lock;

/// The exit signal of a process's first thread.
const SIGCHLD: u32 = 17;
/// The exit signal (-1) of all other threads.
const NO_SIGNAL: u32 = u32::MAX;
/// The bit of a wait status that reports a core dump.
const WCOREFLAG: u32 = 0x80;

/// System calls of processes.
impl Kernel {
    /// Adds a process that already runs, as a child of `init`, without an event.
    pub fn add_process(&mut self, comm: &str) -> Task {
        self.tasks.add_process(comm)
    }

    /// Starts a new process (`fork`).
    pub fn fork(&mut self, parent: Task) -> Task {
        let child = self.tasks.fork(parent);
        self.forks += 1;
        self.emit(EventBody::Fork { parent, child });
        child
    }

    /// Starts a new thread in the process of `creator` (`clone(CLONE_THREAD)`).
    ///
    /// The event's parent is the thread that forked the process, not `creator`.
    pub fn clone_thread(&mut self, creator: Task) -> Task {
        let child = self.tasks.clone_thread(creator);
        self.forks += 1;
        let parent = self.tasks.process_of(creator).real_parent();
        self.emit(EventBody::Fork { parent, child });
        child
    }

    /// Returns the number of processes and threads started so far, including those without a fork
    /// event (`processes` in `/proc/stat`).
    pub fn forks(&self) -> u64 {
        self.forks
    }

    /// Executes a program (`execve`), from any thread; returns the only task that the process then
    /// has.
    ///
    /// The other threads end with code 0, the first thread last.
    pub fn exec(&mut self, task: Task, path: &str, args: &[&str]) -> Task {
        let process = self.tasks.process_of(task);
        let parent = process.real_parent();
        let others: Vec<_> = process.threads().filter(|&tid| tid != task.tid).collect();
        let (first, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|tid| tid.0 == task.tgid.0);
        for tid in others.into_iter().chain(first) {
            let other = Task { tid, tgid: task.tgid };
            // The event of the first thread looks like the end of the process, although the process
            // lives on.
            let (signal, parent) = exit_signal_and_parent(other, parent);
            self.emit(EventBody::Exit { task: other, code: 0, signal, parent: Some(parent) });
        }
        self.tasks.exec(task, path, args);
        let task = leader(task.tgid);
        self.emit(EventBody::Exec { task });
        task
    }

    /// Ends one thread (`pthread_exit`, or `exit` of a process with one thread).
    ///
    /// With its last thread, the process ends; `code` is then its exit code.
    pub fn exit(&mut self, task: Task, code: u8) {
        self.end_thread(task, u32::from(code) << 8);
    }

    /// Ends the process with all its threads, the first thread first (`exit_group`).
    pub fn exit_group(&mut self, tgid: Tgid, code: u8) {
        self.end_process(tgid, u32::from(code) << 8);
    }

    /// Ends the process by a signal.
    ///
    /// A signal that dumps core (`SIGABRT`, `SIGSEGV` and others) always emits a core-dump event;
    /// `core` decides whether a core is written, which the exit code reports.
    pub fn kill(&mut self, tgid: Tgid, signal: u8, core: bool) {
        let code = u32::from(signal);
        let mut threads = self.threads(tgid);
        // The first thread takes the signal, or after its end the oldest one.
        let task = Task { tid: threads[0], tgid };
        if dumps_core(signal) {
            let parent = self.tasks.process_of(task).real_parent();
            self.emit(EventBody::Coredump { task, parent: Some(parent) });
        }
        if core && dumps_core(signal) {
            // The other threads end before the core is written; only the dumping thread's code
            // reports it.
            threads.drain(1..).for_each(|tid| self.end_thread(Task { tid, tgid }, code));
            self.end_thread(task, code | WCOREFLAG);
        } else {
            self.end_process(tgid, code);
        }
    }

    /// Renames the thread (`prctl(PR_SET_NAME)`); the name is truncated to 15 bytes.
    pub fn rename(&mut self, task: Task, comm: &str) {
        let comm = self.tasks.rename(task, comm);
        self.emit(EventBody::Comm { task, comm });
    }

    /// Sets the real and the effective user id of one thread (`setresuid`). No event is emitted if
    /// neither changes.
    pub fn setuid(&mut self, task: Task, real: u32, effective: u32) {
        let uid = (real, effective);
        if self.change_ids(task, |ids| CredentialIds { uid, ..ids }) {
            self.emit(EventBody::Uid { task, real, effective });
        }
    }

    /// Sets the real and the effective group id of one thread (`setresgid`). No event is emitted if
    /// neither changes.
    pub fn setgid(&mut self, task: Task, real: u32, effective: u32) {
        let gid = (real, effective);
        if self.change_ids(task, |ids| CredentialIds { gid, ..ids }) {
            self.emit(EventBody::Gid { task, real, effective });
        }
    }

    /// Changes the ids of a thread; returns whether they differ from before.
    fn change_ids(&mut self, task: Task, change: impl FnOnce(CredentialIds) -> CredentialIds) -> bool {
        let process = self.tasks.process_of_mut(task);
        let before = process.ids(task.tid);
        let ids = change(before);
        if ids != before {
            process.set_ids(task, ids);
        }
        ids != before
    }

    /// Makes the process the leader of a new session (`setsid`). Nothing happens if it leads one
    /// already.
    pub fn setsid(&mut self, task: Task) {
        let before = std::mem::replace(&mut self.tasks.process_of_mut(task).session, task.tgid);
        if before != task.tgid {
            self.emit(EventBody::Sid { task: leader(task.tgid) });
        }
    }

    /// Attaches a tracer to a task (`ptrace(PTRACE_ATTACH)`).
    pub fn ptrace_attach(&mut self, tracer: Task, task: Task) {
        self.tasks.process_of(task);
        self.emit(EventBody::Ptrace { task, tracer });
    }

    /// Detaches the tracer of a task (`ptrace(PTRACE_DETACH)`).
    pub fn ptrace_detach(&mut self, task: Task) {
        self.tasks.process_of(task);
        self.emit(EventBody::Ptrace { task, tracer: Task::default() });
    }

    /// Returns a running process.
    pub fn process(&self, tgid: Tgid) -> Option<&FakeProcess> {
        self.tasks.get(tgid)
    }

    /// Returns the running processes in the order of their ids.
    pub fn processes(&self) -> impl Iterator<Item = (Tgid, &FakeProcess)> {
        self.tasks.iter()
    }

    fn end_thread(&mut self, task: Task, code: u32) {
        let (signal, parent) = exit_signal_and_parent(task, self.tasks.process_of(task).real_parent());
        // The event first: a place of a fault script can name the process by its name.
        self.emit(EventBody::Exit { task, code, signal, parent: Some(parent) });
        self.tasks.end_thread(task);
    }

    /// Ends all threads of a process, the first one first.
    fn end_process(&mut self, tgid: Tgid, code: u32) {
        self.threads(tgid).into_iter().for_each(|tid| self.end_thread(Task { tid, tgid }, code));
    }

    fn threads(&self, tgid: Tgid) -> Vec<Tid> {
        let process = self.tasks.get(tgid).unwrap_or_else(|| panic!("no such process: {tgid}"));
        process.threads().collect()
    }

    fn emit(&mut self, body: EventBody) {
        let mut connector = lock(&self.connector);
        let mut process = EventProcess::default();
        if connector.faults.uses_processes
            && let Some(known) = task_of(body).and_then(|task| self.tasks.get(task.tgid))
        {
            let args = known.cmdline.as_bytes();
            process = EventProcess { comm: known.name(), args: (!args.is_empty()).then_some(args) };
        }
        connector.emit_own(body, process);
    }
}

/// Returns the task that an event is about.
fn task_of(body: EventBody) -> Option<Task> {
    Event { time: MonoNs(0), seq: Seq(0), cpu: Cpu(0), body }.task()
}

/// Returns the first thread of a process.
fn leader(tgid: Tgid) -> Task {
    Task::new(tgid.0, tgid.0)
}

/// Returns signal and parent as an exit event reports them.
///
/// A thread other than its process's first has no signal, and since Linux 6.18 no parent either.
fn exit_signal_and_parent(task: Task, parent: Task) -> (u32, Task) {
    if task.tid.0 == task.tgid.0 { (SIGCHLD, parent) } else { (NO_SIGNAL, Task::default()) }
}

/// Returns whether the default action of a signal is to dump core.
fn dumps_core(signal: u8) -> bool {
    // QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV, XCPU, XFSZ, SYS.
    matches!(signal, 3..=8 | 11 | 24 | 25 | 31)
}
