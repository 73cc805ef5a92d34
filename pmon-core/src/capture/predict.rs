//! Events to columns: what can be foretold from the events before in the block costs nothing.
//!
//! Writer and reader run the same [`Predictor`]. It knows, of each task, the process it belongs to and its parent
//! (from its fork), and of each CPU, the task that acted there last.

use super::column::{Column, ColumnReader, ColumnWriter, Values, delta32, delta64, undelta32, undelta64};
use crate::ids::{Cpu, MonoNs, Seq, Task, Tid};
use crate::wire::{Body, Comm, Event, Kind};

/// The tag of a datagram that is stored as it is.
pub(super) const RAW: u64 = 15;

const TASKS: usize = 4096;
const CPUS: usize = 256;

#[derive(Clone, Copy, Default)]
struct Known {
    task: Task,
    parent: Task,
}

#[derive(Clone, Copy, Default)]
struct OnCpu {
    seq: u32,
    actor: u32,
}

pub(super) struct Predictor {
    time: u64,
    last_child: u32,
    last_parent: Task,
    cpus: Box<[OnCpu; CPUS]>,
    tasks: Box<[Known; TASKS]>,
}

impl Predictor {
    pub(super) fn new() -> Self {
        Self {
            time: 0,
            last_child: 0,
            last_parent: Task::default(),
            cpus: Box::new([OnCpu::default(); CPUS]),
            tasks: Box::new([Known::default(); TASKS]),
        }
    }

    /// Forgets all: each block stands alone.
    pub(super) fn reset(&mut self) {
        self.time = 0;
        self.last_child = 0;
        self.last_parent = Task::default();
        self.cpus.fill(OnCpu::default());
        self.tasks.fill(Known::default());
    }

    fn cpu(&mut self, cpu: Cpu) -> &mut OnCpu {
        &mut self.cpus[cpu.0 as usize % CPUS]
    }

    /// What is known of a task; else that it leads its own process, and has the parent last seen.
    fn known(&self, tid: u32) -> Known {
        let known = self.tasks[tid as usize % TASKS];
        if known.task.tid.0 == tid {
            known
        } else {
            Known { task: Task::new(tid, tid), parent: self.last_parent }
        }
    }

    fn learn(&mut self, task: Task, parent: Task) {
        self.tasks[task.tid.0 as usize % TASKS] = Known { task, parent };
    }

    /// The parent to expect in the fork of `child`: who acted last on the CPU, or for a thread its process's parent.
    fn fork_parent(&self, child: Task, actor: u32) -> Task {
        if child.is_leader() { self.known(actor).task } else { self.known(child.tgid.0).parent }
    }

    fn forked(&mut self, cpu: Cpu, parent: Task, child: Task) {
        self.learn(child, parent);
        self.last_child = child.tid.0;
        self.cpu(cpu).actor = if child.is_leader() { parent.tid.0 } else { child.tgid.0 };
    }

    pub(super) fn encode(&mut self, event: &Event, out: &mut ColumnWriter, comm: impl FnOnce(&Comm) -> u64) {
        out.put(Column::Tag, event.kind() as u64 | u64::from(event.cpu.0) << 4);
        out.put(Column::Time, delta64(event.time.0, self.time));
        self.time = event.time.0;
        let on = self.cpu(event.cpu);
        out.put(Column::Seq, delta32(event.seq.0, on.seq.wrapping_add(1)));
        on.seq = event.seq.0;
        match event.body {
            Body::Ack { ack, err } => {
                out.put(Column::First, ack.into());
                out.put(Column::Second, err.into());
            }
            Body::Fork { parent, child } => {
                let actor = self.cpu(event.cpu).actor;
                out.put(Column::Child, delta32(child.tid.0, self.last_child.wrapping_add(1)));
                out.put(
                    Column::ChildTgid,
                    if child.is_leader() {
                        0
                    } else if child.tgid == self.known(actor).task.tgid {
                        1
                    } else {
                        2 + delta32(child.tgid.0, child.tid.0)
                    },
                );
                self.encode_task(parent, self.fork_parent(child, actor), out);
                self.forked(event.cpu, parent, child);
            }
            Body::Exec { task } | Body::Sid { task } => {
                self.encode_actor(event.cpu, task, out);
            }
            Body::Uid { task, real, effective } | Body::Gid { task, real, effective } => {
                self.encode_actor(event.cpu, task, out);
                out.put(Column::First, real.into());
                out.put(Column::Second, effective.into());
            }
            Body::Ptrace { task, tracer } => {
                self.encode_actor(event.cpu, task, out);
                out.put(Column::First, tracer.tid.0.into());
                out.put(Column::Second, tracer.tgid.0.into());
            }
            Body::Comm { task, comm: name } => {
                self.encode_actor(event.cpu, task, out);
                out.put(Column::Comm, comm(&name));
            }
            Body::Coredump { task, parent } => {
                let known = self.encode_actor(event.cpu, task, out);
                self.encode_parent(task, parent.unwrap_or_default(), known, out);
            }
            Body::Exit { task, code, signal, parent } => {
                let known = self.encode_actor(event.cpu, task, out);
                out.put(Column::First, code.into());
                out.put(Column::Second, signal.into());
                self.encode_parent(task, parent.unwrap_or_default(), known, out);
            }
            // Such an event does not encode to its datagram, so that its datagram is raw.
            Body::Unknown { .. } => {}
        }
    }

    /// A task, of which `expected` is the most likely.
    fn encode_task(&self, task: Task, expected: Task, out: &mut ColumnWriter) {
        let tid = task.tid.0;
        let expected_tgid = if tid == expected.tid.0 {
            out.put(Column::Actor, 0);
            expected.tgid
        } else {
            let code = if tid == self.last_child { 1 } else { 2 + delta32(tid, expected.tid.0) };
            out.put(Column::Actor, code);
            self.known(tid).task.tgid
        };
        out.put(Column::ActorTgid, delta32(task.tgid.0, expected_tgid.0));
    }

    fn encode_actor(&mut self, cpu: Cpu, task: Task, out: &mut ColumnWriter) -> Known {
        let actor = self.cpu(cpu).actor;
        let expected = self.known(actor).task;
        self.encode_task(task, expected, out);
        self.acted(cpu, task)
    }

    fn encode_parent(&mut self, task: Task, parent: Task, known: Known, out: &mut ColumnWriter) {
        out.put(Column::Parent, delta32(parent.tid.0, known.parent.tid.0));
        let expected = self.parent_tgid(parent.tid, known);
        out.put(Column::ParentTgid, delta32(parent.tgid.0, expected));
        self.has_parent(task, parent);
    }

    fn acted(&mut self, cpu: Cpu, task: Task) -> Known {
        self.cpu(cpu).actor = task.tid.0;
        let known = Known { task, ..self.known(task.tid.0) };
        self.learn(task, known.parent);
        known
    }

    fn parent_tgid(&self, parent: Tid, known: Known) -> u32 {
        if parent == known.parent.tid { known.parent.tgid.0 } else { self.known(parent.0).task.tgid.0 }
    }

    fn has_parent(&mut self, task: Task, parent: Task) {
        self.learn(task, parent);
        self.last_parent = parent;
    }

    /// The next event; `None` if it is raw. `comm` gives the string of a number.
    #[inline]
    pub(super) fn decode(
        &mut self,
        from: &mut EventColumns<'_>,
        comm: impl FnOnce(u64) -> Comm,
    ) -> Option<Event> {
        let tag = from.tag.take();
        let kind = Kind::ALL.get((tag & 15) as usize).copied().filter(|&kind| kind != Kind::Unknown)?;
        let cpu = Cpu((tag >> 4) as u32);
        self.time = undelta64(from.time.take(), self.time);
        let time = MonoNs(self.time);
        let on = self.cpu(cpu);
        on.seq = undelta32(from.seq.take(), on.seq.wrapping_add(1));
        let seq = Seq(on.seq);
        let body = match kind {
            Kind::Ack => Body::Ack { ack: from.first.take() as u32, err: from.second.take() as u32 },
            Kind::Fork => {
                let actor = self.cpu(cpu).actor;
                let tid = undelta32(from.child.take(), self.last_child.wrapping_add(1));
                let tgid = match from.child_tgid.take() {
                    0 => tid,
                    1 => self.known(actor).task.tgid.0,
                    code => undelta32(code - 2, tid),
                };
                let child = Task::new(tid, tgid);
                let parent = self.decode_task(self.fork_parent(child, actor), from);
                self.forked(cpu, parent, child);
                Body::Fork { parent, child }
            }
            Kind::Exec => Body::Exec { task: self.decode_actor(cpu, from).task },
            Kind::Sid => Body::Sid { task: self.decode_actor(cpu, from).task },
            Kind::Uid => Body::Uid {
                task: self.decode_actor(cpu, from).task,
                real: from.first.take() as u32,
                effective: from.second.take() as u32,
            },
            Kind::Gid => Body::Gid {
                task: self.decode_actor(cpu, from).task,
                real: from.first.take() as u32,
                effective: from.second.take() as u32,
            },
            Kind::Ptrace => Body::Ptrace {
                task: self.decode_actor(cpu, from).task,
                tracer: Task::new(from.first.take() as u32, from.second.take() as u32),
            },
            Kind::Comm => {
                Body::Comm { task: self.decode_actor(cpu, from).task, comm: comm(from.comm.take()) }
            }
            Kind::Coredump => {
                let known = self.decode_actor(cpu, from);
                Body::Coredump { task: known.task, parent: Some(self.decode_parent(known, from)) }
            }
            Kind::Exit => {
                let known = self.decode_actor(cpu, from);
                Body::Exit {
                    task: known.task,
                    code: from.first.take() as u32,
                    signal: from.second.take() as u32,
                    parent: Some(self.decode_parent(known, from)),
                }
            }
            Kind::Unknown => return None,
        };
        Some(Event { time, seq, cpu, body })
    }

    fn decode_task(&self, expected: Task, from: &mut EventColumns<'_>) -> Task {
        let (tid, expected_tgid) = match from.actor.take() {
            0 => (expected.tid.0, expected.tgid.0),
            code => {
                let tid = if code == 1 { self.last_child } else { undelta32(code - 2, expected.tid.0) };
                (tid, self.known(tid).task.tgid.0)
            }
        };
        Task::new(tid, undelta32(from.actor_tgid.take(), expected_tgid))
    }

    fn decode_actor(&mut self, cpu: Cpu, from: &mut EventColumns<'_>) -> Known {
        let actor = self.cpu(cpu).actor;
        let expected = self.known(actor).task;
        let task = self.decode_task(expected, from);
        self.acted(cpu, task)
    }

    fn decode_parent(&mut self, known: Known, from: &mut EventColumns<'_>) -> Task {
        let tid = undelta32(from.parent.take(), known.parent.tid.0);
        let expected = self.parent_tgid(Tid(tid), known);
        let parent = Task::new(tid, undelta32(from.parent_tgid.take(), expected));
        self.has_parent(known.task, parent);
        parent
    }
}

/// The columns of events that are being read.
pub(super) struct EventColumns<'a> {
    tag: Values<'a>,
    time: Values<'a>,
    seq: Values<'a>,
    actor: Values<'a>,
    actor_tgid: Values<'a>,
    child: Values<'a>,
    child_tgid: Values<'a>,
    parent: Values<'a>,
    parent_tgid: Values<'a>,
    first: Values<'a>,
    second: Values<'a>,
    comm: Values<'a>,
}

impl<'a> EventColumns<'a> {
    pub(super) fn new(columns: &'a ColumnReader) -> Self {
        let numbers = |column| columns.numbers(column);
        Self {
            tag: numbers(Column::Tag),
            time: numbers(Column::Time),
            seq: numbers(Column::Seq),
            actor: numbers(Column::Actor),
            actor_tgid: numbers(Column::ActorTgid),
            child: numbers(Column::Child),
            child_tgid: numbers(Column::ChildTgid),
            parent: numbers(Column::Parent),
            parent_tgid: numbers(Column::ParentTgid),
            first: numbers(Column::First),
            second: numbers(Column::Second),
            comm: numbers(Column::Comm),
        }
    }
}
