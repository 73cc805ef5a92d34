//! Events to columns, and back: fields that are predicted correctly take almost no space.
//!
//! Writer and reader run the same [`Predictor`] on the events of a block. It knows the process and
//! the parent of each task (from its fork), the task that probably acts next on each CPU, and the
//! tasks that acted although another one was predicted.

use super::column::{Column, ColumnValues, ColumnWriter};
use super::delta::{delta32, delta64, undelta32, undelta64};
use super::recent::{RECENT_TASKS, RecentTasks};
use crate::ids::{Cpu, MonoNs, Seq, Task, Tgid, Tid};
use crate::wire::{Comm, Event, EventBody, EventKind};

/// Kind in the tag of a datagram that is stored as bytes.
pub(crate) const RAW: u64 = 15;

/// Number of tasks that are remembered, by thread id modulo this number.
const TASKS: usize = 4096;
/// Number of CPUs that are distinguished, by CPU number modulo this number.
const CPUS: usize = 256;
/// `SIGCHLD`, the usual signal to the parent of a process.
const SIGCHLD: u32 = 17;

/// A task and its last known parent.
#[derive(Clone, Copy, Default)]
struct KnownTask {
    task: Task,
    parent: Task,
}

/// State of one CPU.
#[derive(Clone, Copy, Default)]
struct CpuState {
    /// Sequence number of the CPU's last event.
    seq: u32,
    /// Thread id of the task that probably acts next.
    actor: u32,
}

/// State of a block from which the next event is predicted.
pub(crate) struct Predictor {
    /// Time of the last event.
    time: u64,
    /// Thread id of the last forked task.
    last_child: u32,
    last_parent: Task,
    /// Whether the last exit of a thread named a parent. Some kernels name none.
    threads_have_parents: bool,
    recent: RecentTasks,
    cpus: Box<[CpuState; CPUS]>,
    tasks: Box<[KnownTask; TASKS]>,
    /// Time of the fork of each task in `tasks`; 0 if it is unknown.
    forked: Box<[u64; TASKS]>,
}

impl Default for Predictor {
    fn default() -> Self {
        Self {
            time: 0,
            last_child: 0,
            last_parent: Task::default(),
            threads_have_parents: false,
            recent: RecentTasks::default(),
            cpus: Box::new([CpuState::default(); CPUS]),
            tasks: Box::new([KnownTask::default(); TASKS]),
            forked: Box::new([0; TASKS]),
        }
    }
}

impl Predictor {
    /// Returns to the initial state, because each block is decoded without any other.
    pub(crate) fn reset(&mut self) {
        self.time = 0;
        self.last_child = 0;
        self.last_parent = Task::default();
        self.threads_have_parents = false;
        self.recent = RecentTasks::default();
        self.cpus.fill(CpuState::default());
        self.tasks.fill(KnownTask::default());
        self.forked.fill(0);
    }

    /// Returns the parent of a task and the time of its fork, if the fork is in this block.
    pub(crate) fn origin(&self, tid: u32) -> Option<(Tgid, MonoNs)> {
        let at = tid as usize % TASKS;
        let known = self.tasks[at];
        (known.task.tid.0 == tid && self.forked[at] != 0)
            .then_some((known.parent.tgid, MonoNs(self.forked[at])))
    }

    #[inline(always)]
    fn cpu(&mut self, cpu: Cpu) -> &mut CpuState {
        &mut self.cpus[cpu.0 as usize % CPUS]
    }

    /// Returns the known properties of a task. An unknown task is assumed to lead its own process
    /// and to have the last parent.
    #[inline(always)]
    fn known(&self, tid: u32) -> KnownTask {
        let known = self.tasks[tid as usize % TASKS];
        if known.task.tid.0 == tid {
            known
        } else {
            KnownTask { task: Task::new(tid, tid), parent: self.last_parent }
        }
    }

    #[inline(always)]
    fn learn(&mut self, task: Task, parent: Task) {
        let at = task.tid.0 as usize % TASKS;
        if self.tasks[at].task.tid != task.tid {
            self.forked[at] = 0;
        }
        self.tasks[at] = KnownTask { task, parent };
    }

    /// Predicts the parent in the fork of `child`: the task that acts on the CPU, or for a thread
    /// the parent of its process.
    fn fork_parent(&self, child: Task, actor: u32) -> Task {
        if child.is_leader() { self.known(actor).task } else { self.known(child.tgid.0).parent }
    }

    fn forked(&mut self, cpu: Cpu, parent: Task, child: Task) {
        self.learn(child, parent);
        self.forked[child.tid.0 as usize % TASKS] = self.time;
        self.last_child = child.tid.0;
        self.recent.insert(child.tid.0);
        self.cpu(cpu).actor = if child.is_leader() { parent.tid.0 } else { child.tgid.0 };
    }

    pub(crate) fn encode(&mut self, event: &Event, out: &mut ColumnWriter, comm: impl FnOnce(&Comm) -> u64) {
        let cpu = event.cpu;
        out.put(Column::Tag, event.kind() as u64 | u64::from(cpu.0) << 4);
        out.put(Column::Time, delta64(event.time.0, self.time));
        self.time = event.time.0;
        let on = self.cpu(cpu);
        out.put(Column::Seq, delta32(event.seq.0, on.seq.wrapping_add(1)));
        on.seq = event.seq.0;
        let actor = on.actor;
        match event.body {
            EventBody::Ack { ack, err } => {
                out.put(Column::First, ack.into());
                out.put(Column::Second, err.into());
            }
            EventBody::Fork { parent, child } => {
                out.put(Column::Child, delta32(child.tid.0, self.last_child.wrapping_add(1)));
                out.put(
                    Column::ChildTgid,
                    if child.is_leader() {
                        0
                    } else if child.tgid == self.known(actor).task.tgid {
                        1
                    } else if let Some(index) =
                        self.recent.index(|tid| self.known(tid).task.tgid == child.tgid)
                    {
                        2 + index as u64
                    } else {
                        2 + RECENT_TASKS as u64 + delta32(child.tgid.0, child.tid.0)
                    },
                );
                self.encode_task(parent, self.fork_parent(child, actor), Column::Forker, out);
                self.forked(cpu, parent, child);
            }
            EventBody::Exec { task } => {
                let expected = self.known(self.last_child).task;
                self.encode_task(task, expected, Column::Actor, out);
                self.acted(cpu, task);
            }
            EventBody::Sid { task } => {
                self.encode_actor(cpu, actor, task, out);
            }
            EventBody::Uid { task, real, effective } | EventBody::Gid { task, real, effective } => {
                self.encode_actor(cpu, actor, task, out);
                out.put(Column::First, real.into());
                out.put(Column::Second, effective.into());
            }
            EventBody::Ptrace { task, tracer } => {
                self.encode_actor(cpu, actor, task, out);
                out.put(Column::First, tracer.tid.0.into());
                out.put(Column::Second, tracer.tgid.0.into());
            }
            EventBody::Comm { task, comm: name } => {
                self.encode_actor(cpu, actor, task, out);
                out.put(Column::Comm, comm(&name));
            }
            EventBody::Coredump { task, parent } => {
                let known = self.encode_actor(cpu, actor, task, out);
                let parent = parent.unwrap_or_default();
                self.encode_parent(parent, known.parent, out);
                self.has_parent(task, parent);
            }
            EventBody::Exit { task, code, signal, parent } => {
                let expected = self.known(actor).task;
                self.encode_task(task, expected, Column::Exiter, out);
                let known = self.acted(cpu, task);
                out.put(Column::First, code.into());
                out.put(Column::Second, delta32(signal, exit_signal(task)));
                let parent = parent.unwrap_or_default();
                self.encode_parent(parent, self.exit_parent(known), out);
                self.exited(cpu, task, parent);
            }
            // The datagram of such an event is stored as raw bytes.
            EventBody::Unknown { .. } => {}
        }
    }

    /// Writes a task, relative to the predicted one and to the recent ones.
    fn encode_task(&mut self, task: Task, expected: Task, column: Column, out: &mut ColumnWriter) {
        let tid = task.tid.0;
        let expected_tgid = if tid == expected.tid.0 {
            out.put(column, 0);
            expected.tgid
        } else {
            let index = self.recent.index(|other| other == tid).map(|index| index as u64);
            let index = index.unwrap_or_else(|| RECENT_TASKS as u64 + delta32(tid, expected.tid.0));
            out.put(column, 1 + index);
            self.recent.bring_forward(tid, index);
            self.known(tid).task.tgid
        };
        out.put(Column::Tgid, delta32(task.tgid.0, expected_tgid.0));
    }

    fn encode_actor(&mut self, cpu: Cpu, actor: u32, task: Task, out: &mut ColumnWriter) -> KnownTask {
        let expected = self.known(actor).task;
        self.encode_task(task, expected, Column::Actor, out);
        self.acted(cpu, task)
    }

    fn encode_parent(&self, parent: Task, expected: Task, out: &mut ColumnWriter) {
        out.put(Column::Parent, delta32(parent.tid.0, expected.tid.0));
        let expected = self.parent_tgid(parent.tid, expected);
        out.put(Column::ParentTgid, delta32(parent.tgid.0, expected));
    }

    #[inline(always)]
    fn acted(&mut self, cpu: Cpu, task: Task) -> KnownTask {
        self.cpu(cpu).actor = task.tid.0;
        let known = KnownTask { task, ..self.known(task.tid.0) };
        self.learn(task, known.parent);
        known
    }

    /// Predicts the parent in a task's exit.
    #[inline(always)]
    fn exit_parent(&self, known: KnownTask) -> Task {
        if known.task.is_leader() || self.threads_have_parents { known.parent } else { Task::default() }
    }

    /// Updates the state after an exit. The next task on the CPU is probably the waiting parent, or
    /// after the exit of a thread, its process.
    #[inline(always)]
    fn exited(&mut self, cpu: Cpu, task: Task, parent: Task) {
        self.recent.remove(task.tid.0);
        if task.is_leader() {
            self.has_parent(task, parent);
            self.cpu(cpu).actor = parent.tid.0;
        } else {
            self.threads_have_parents = parent != Task::default();
            self.cpu(cpu).actor = task.tgid.0;
        }
    }

    fn parent_tgid(&self, parent: Tid, expected: Task) -> u32 {
        if parent == expected.tid { expected.tgid.0 } else { self.known(parent.0).task.tgid.0 }
    }

    #[inline(always)]
    fn has_parent(&mut self, task: Task, parent: Task) {
        self.learn(task, parent);
        self.last_parent = parent;
    }

    /// Reads the next event; `None` if it is stored as raw bytes. `comm` returns the name of a
    /// code.
    #[inline]
    pub(crate) fn decode(
        &mut self,
        from: &mut ColumnValues<'_>,
        comm: impl FnOnce(u64) -> Comm,
    ) -> Option<Event> {
        let tag = from.take(Column::Tag);
        let kind =
            EventKind::ALL.get((tag & 15) as usize).copied().filter(|&kind| kind != EventKind::Unknown)?;
        let cpu = Cpu((tag >> 4) as u32);
        self.time = undelta64(from.take(Column::Time), self.time);
        let time = MonoNs(self.time);
        let on = self.cpu(cpu);
        on.seq = undelta32(from.take(Column::Seq), on.seq.wrapping_add(1));
        let (seq, actor) = (Seq(on.seq), on.actor);
        let body = match kind {
            EventKind::Ack => {
                EventBody::Ack { ack: from.take(Column::First) as u32, err: from.take(Column::Second) as u32 }
            }
            EventKind::Fork => {
                let tid = undelta32(from.take(Column::Child), self.last_child.wrapping_add(1));
                let tgid = match from.take(Column::ChildTgid) {
                    0 => tid,
                    1 => self.known(actor).task.tgid.0,
                    code => match self.recent.at(code - 2) {
                        Some(tid) => self.known(tid).task.tgid.0,
                        None => undelta32(code - 2 - RECENT_TASKS as u64, tid),
                    },
                };
                let child = Task::new(tid, tgid);
                let expected = self.fork_parent(child, actor);
                let parent = self.decode_task(expected, from.take(Column::Forker), from);
                self.forked(cpu, parent, child);
                EventBody::Fork { parent, child }
            }
            EventKind::Exec => {
                let expected = self.known(self.last_child).task;
                let task = self.decode_task(expected, from.take(Column::Actor), from);
                EventBody::Exec { task: self.acted(cpu, task).task }
            }
            EventKind::Sid => EventBody::Sid { task: self.decode_actor(cpu, actor, from).task },
            EventKind::Uid => EventBody::Uid {
                task: self.decode_actor(cpu, actor, from).task,
                real: from.take(Column::First) as u32,
                effective: from.take(Column::Second) as u32,
            },
            EventKind::Gid => EventBody::Gid {
                task: self.decode_actor(cpu, actor, from).task,
                real: from.take(Column::First) as u32,
                effective: from.take(Column::Second) as u32,
            },
            EventKind::Ptrace => EventBody::Ptrace {
                task: self.decode_actor(cpu, actor, from).task,
                tracer: Task::new(from.take(Column::First) as u32, from.take(Column::Second) as u32),
            },
            EventKind::Comm => EventBody::Comm {
                task: self.decode_actor(cpu, actor, from).task,
                comm: comm(from.take(Column::Comm)),
            },
            EventKind::Coredump => {
                let known = self.decode_actor(cpu, actor, from);
                let parent = self.decode_parent(known.parent, from);
                self.has_parent(known.task, parent);
                EventBody::Coredump { task: known.task, parent: Some(parent) }
            }
            EventKind::Exit => {
                let expected = self.known(actor).task;
                let task = self.decode_task(expected, from.take(Column::Exiter), from);
                let known = self.acted(cpu, task);
                let code = from.take(Column::First) as u32;
                let signal = undelta32(from.take(Column::Second), exit_signal(task));
                let parent = self.decode_parent(self.exit_parent(known), from);
                self.exited(cpu, task, parent);
                EventBody::Exit { task, code, signal, parent: Some(parent) }
            }
            EventKind::Unknown => return None,
        };
        Some(Event { time, seq, cpu, body })
    }

    #[inline(always)]
    fn decode_task(&mut self, expected: Task, code: u64, from: &mut ColumnValues<'_>) -> Task {
        let expected = if code == 0 { expected } else { self.decode_unexpected(expected.tid.0, code) };
        Task::new(expected.tid.0, undelta32(from.take(Column::Tgid), expected.tgid.0))
    }

    fn decode_unexpected(&mut self, expected: u32, code: u64) -> Task {
        let tid =
            self.recent.at(code - 1).unwrap_or_else(|| undelta32(code - 1 - RECENT_TASKS as u64, expected));
        self.recent.bring_forward(tid, code - 1);
        self.known(tid).task
    }

    fn decode_actor(&mut self, cpu: Cpu, actor: u32, from: &mut ColumnValues<'_>) -> KnownTask {
        let expected = self.known(actor).task;
        let task = self.decode_task(expected, from.take(Column::Actor), from);
        self.acted(cpu, task)
    }

    fn decode_parent(&self, expected: Task, from: &mut ColumnValues<'_>) -> Task {
        let tid = undelta32(from.take(Column::Parent), expected.tid.0);
        let tgid = self.parent_tgid(Tid(tid), expected);
        Task::new(tid, undelta32(from.take(Column::ParentTgid), tgid))
    }
}

/// Predicts the signal of an exit: none for a thread.
fn exit_signal(task: Task) -> u32 {
    if task.is_leader() { SIGCHLD } else { u32::MAX }
}
