//! Typed process events.

use super::kind::EventKind;
use crate::ids::{Cpu, MonoNs, Seq, Task};

/// One process event as the kernel sent it (`struct proc_event`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time of the event according to the kernel.
    pub time: MonoNs,
    /// Sequence number of the event on its CPU.
    pub seq: Seq,
    /// CPU that emitted the event.
    pub cpu: Cpu,
    /// Kind of the event, with the fields of that kind.
    pub body: EventBody,
}

/// What an event reports, with the fields that the kernel sends for its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventBody {
    /// The kernel replied to a subscription request (`PROC_EVENT_NONE`). Every listener receives
    /// the reply, whichever of them sent the request.
    Ack {
        /// `cn_msg.ack`: the request's value plus 1.
        ack: u32,
        /// 0, or an errno.
        err: u32,
    },
    /// A task created a new process, or a new thread if the child is not the leader of its process.
    Fork {
        /// The child's real parent. For a thread, this is the parent of its process, not the thread
        /// that created it.
        parent: Task,
        /// The new task.
        child: Task,
    },
    /// A process replaced its program (`execve(2)`).
    Exec {
        /// The task after the exec.
        task: Task,
    },
    /// A task changed its real or effective user id.
    Uid {
        /// The task.
        task: Task,
        /// Real user id in the initial user namespace.
        real: u32,
        /// Effective user id in the initial user namespace.
        effective: u32,
    },
    /// A task changed its real or effective group id.
    Gid {
        /// The task.
        task: Task,
        /// Real group id in the initial user namespace.
        real: u32,
        /// Effective group id in the initial user namespace.
        effective: u32,
    },
    /// A process became the leader of a new session (`setsid(2)`).
    Sid {
        /// The task.
        task: Task,
    },
    /// A tracer attached to a task, or detached from it if `tracer` is 0.
    Ptrace {
        /// The traced task.
        task: Task,
        /// The tracer; both ids are 0 after a detach.
        tracer: Task,
    },
    /// A thread changed its own name.
    Comm {
        /// The thread.
        task: Task,
        /// The new name.
        comm: Comm,
    },
    /// A task is dumping core.
    Coredump {
        /// The task.
        task: Task,
        /// The real parent; `None` if the kernel does not send it (before Linux 4.18).
        parent: Option<Task>,
    },
    /// A task exited.
    Exit {
        /// The task.
        task: Task,
        /// Raw wait status, as `waitpid(2)` returns it.
        code: u32,
        /// Signal sent to the parent: usually `SIGCHLD`, `u32::MAX` for a thread.
        signal: u32,
        /// The real parent; `None` if the kernel does not send it (before Linux 4.18).
        parent: Option<Task>,
    },
    /// An event of a kind that this version does not support. Its data are only in the datagram.
    Unknown {
        /// `proc_event.what`.
        what: u32,
    },
}

/// A thread's name: up to 15 bytes of any value, padded with zeros (`TASK_COMM_LEN` is 16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// Returns the bytes of the name before the first zero.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        &self.0[..len]
    }
}

impl Event {
    /// Returns the event's kind.
    pub fn kind(&self) -> EventKind {
        match self.body {
            EventBody::Ack { .. } => EventKind::Ack,
            EventBody::Fork { .. } => EventKind::Fork,
            EventBody::Exec { .. } => EventKind::Exec,
            EventBody::Uid { .. } => EventKind::Uid,
            EventBody::Gid { .. } => EventKind::Gid,
            EventBody::Sid { .. } => EventKind::Sid,
            EventBody::Ptrace { .. } => EventKind::Ptrace,
            EventBody::Comm { .. } => EventKind::Comm,
            EventBody::Coredump { .. } => EventKind::Coredump,
            EventBody::Exit { .. } => EventKind::Exit,
            EventBody::Unknown { .. } => EventKind::Unknown,
        }
    }

    /// Returns the task that the event is about; for a fork, the child. `None` for acknowledgements
    /// and unknown kinds.
    pub fn task(&self) -> Option<Task> {
        match self.body {
            EventBody::Ack { .. } | EventBody::Unknown { .. } => None,
            EventBody::Fork { child: task, .. }
            | EventBody::Exec { task }
            | EventBody::Uid { task, .. }
            | EventBody::Gid { task, .. }
            | EventBody::Sid { task }
            | EventBody::Ptrace { task, .. }
            | EventBody::Comm { task, .. }
            | EventBody::Coredump { task, .. }
            | EventBody::Exit { task, .. } => Some(task),
        }
    }
}
