//! `proc_event`, typed.

use std::fmt;

use super::cursor::{ByteOrder, Cursor, WireError};
use super::message::{CnMsg, Message, messages};
use super::{CN_IDX_PROC, CN_MSG_LEN, CN_VAL_PROC, NLMSG_DONE, NLMSGHDR_LEN, PROC_EVENT_LEN};
use crate::ids::{Cpu, MonoNs, Seq, Task, Tgid, Tid};

/// Bytes of the datagram in which a kernel since 3.2 sends one event.
pub const EVENT_DATAGRAM_LEN: usize = NLMSGHDR_LEN + CN_MSG_LEN + PROC_EVENT_LEN;

/// One process event as the kernel sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened, to the kernel.
    pub time: MonoNs,
    /// Its number among the events of its CPU.
    pub seq: Seq,
    /// The CPU that emitted it.
    pub cpu: Cpu,
    /// What happened, to whom.
    pub body: EventBody,
}

/// What happened, with the fields that the kernel gives for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventBody {
    /// The answer to somebody's subscription request (`PROC_EVENT_NONE`); every listener sees it.
    Ack {
        /// `cn_msg.ack`: that of the request, plus 1.
        ack: u32,
        /// 0, or an errno.
        err: u32,
    },
    /// A new process, or a new thread if the child is not the leader of its process.
    Fork {
        /// The child's real parent. For a thread that is its *process's* parent, not the thread that created it.
        parent: Task,
        /// The new task.
        child: Task,
    },
    /// A process now runs another program.
    Exec {
        /// Who.
        task: Task,
    },
    /// Real or effective user id changed.
    Uid {
        /// Who.
        task: Task,
        /// Real user id, in the initial user namespace.
        real: u32,
        /// Effective user id, in the initial user namespace.
        effective: u32,
    },
    /// Real or effective group id changed.
    Gid {
        /// Who.
        task: Task,
        /// Real group id, in the initial user namespace.
        real: u32,
        /// Effective group id, in the initial user namespace.
        effective: u32,
    },
    /// A process became the leader of a new session.
    Sid {
        /// Who.
        task: Task,
    },
    /// A tracer attached, or detached if `tracer` is 0.
    Ptrace {
        /// The traced task.
        task: Task,
        /// The tracer.
        tracer: Task,
    },
    /// A thread changed its own name.
    Comm {
        /// Who.
        task: Task,
        /// The new name.
        comm: Comm,
    },
    /// A task is dumping core.
    Coredump {
        /// Who.
        task: Task,
        /// Its real parent; `None` from a kernel that does not say (< 4.18).
        parent: Option<Task>,
    },
    /// A task has ended.
    Exit {
        /// Who.
        task: Task,
        /// The raw wait status, as `waitpid(2)` returns it.
        code: u32,
        /// The signal its parent gets: `SIGCHLD` as a rule, `u32::MAX` for a thread.
        signal: u32,
        /// Its real parent; `None` from a kernel that does not say (< 4.18).
        parent: Option<Task>,
    },
    /// A kind that this version does not know. Its data stay in the frame.
    Unknown {
        /// `proc_event.what`.
        what: u32,
    },
}

/// The kinds of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// See [`EventBody::Ack`].
    Ack,
    /// See [`EventBody::Fork`].
    Fork,
    /// See [`EventBody::Exec`].
    Exec,
    /// See [`EventBody::Uid`].
    Uid,
    /// See [`EventBody::Gid`].
    Gid,
    /// See [`EventBody::Sid`].
    Sid,
    /// See [`EventBody::Ptrace`].
    Ptrace,
    /// See [`EventBody::Comm`].
    Comm,
    /// See [`EventBody::Coredump`].
    Coredump,
    /// See [`EventBody::Exit`].
    Exit,
    /// See [`EventBody::Unknown`].
    Unknown,
}

impl EventKind {
    /// All kinds, in the order of their declaration: `ALL[kind as usize] == kind`.
    pub const ALL: [Self; 11] = [
        Self::Ack,
        Self::Fork,
        Self::Exec,
        Self::Uid,
        Self::Gid,
        Self::Sid,
        Self::Ptrace,
        Self::Comm,
        Self::Coredump,
        Self::Exit,
        Self::Unknown,
    ];

    /// Its name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Uid => "uid",
            Self::Gid => "gid",
            Self::Sid => "sid",
            Self::Ptrace => "ptrace",
            Self::Comm => "comm",
            Self::Coredump => "coredump",
            Self::Exit => "exit",
            Self::Unknown => "unknown",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// `proc_event.what` of this kind (`enum proc_cn_event`); `None` for [`EventKind::Unknown`].
    pub fn what(self) -> Option<u32> {
        Some(match self {
            Self::Ack => 0,
            Self::Fork => 1,
            Self::Exec => 2,
            Self::Uid => 4,
            Self::Gid => 0x40,
            Self::Sid => 0x80,
            Self::Ptrace => 0x100,
            Self::Comm => 0x200,
            Self::Coredump => 0x4000_0000,
            Self::Exit => 0x8000_0000,
            Self::Unknown => return None,
        })
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A thread's name: up to 15 bytes of any value, then zeros (`TASK_COMM_LEN` is 16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The name's bytes, without the zeros.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        &self.0[..len]
    }
}

impl Event {
    /// Its kind.
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

    /// The task that it happened to: for a fork the child. `None` for an ack and for unknown kinds.
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

    /// Reads the first event of a datagram. Allocates nothing.
    ///
    /// # Errors
    /// When a field is missing, a length contradicts the bytes, or the first message is not a process event.
    #[inline]
    pub fn decode(datagram: &[u8], order: ByteOrder) -> Result<Self, WireError> {
        // The order as a constant: the compiler then turns each field into one load.
        match order {
            ByteOrder::Little => Self::decode_as(datagram, ByteOrder::Little),
            ByteOrder::Big => Self::decode_as(datagram, ByteOrder::Big),
        }
    }

    #[inline(always)]
    fn decode_as(datagram: &[u8], order: ByteOrder) -> Result<Self, WireError> {
        let Ok(frame) = <&[u8; EVENT_DATAGRAM_LEN]>::try_from(datagram) else {
            return Self::decode_first(datagram, order);
        };
        let u32_at = |at: usize| order.u32([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let is_plain = u32_at(0) == EVENT_DATAGRAM_LEN as u32
            && order.u16([frame[4], frame[5]]) == NLMSG_DONE
            && u32_at(16) == CN_IDX_PROC
            && u32_at(20) == CN_VAL_PROC
            && order.u16([frame[32], frame[33]]) == PROC_EVENT_LEN as u16;
        if !is_plain {
            return Self::decode_first(datagram, order);
        }
        let msg = CnMsg { seq: Seq(u32_at(24)), ack: u32_at(28) };
        Self::decode_body(
            Cursor::new(&frame[NLMSGHDR_LEN + CN_MSG_LEN..], NLMSGHDR_LEN + CN_MSG_LEN, order),
            msg,
        )
    }

    #[cold]
    fn decode_first(datagram: &[u8], order: ByteOrder) -> Result<Self, WireError> {
        match messages(datagram, order).next() {
            Some(Ok(Message::Event(event))) => Ok(event),
            Some(Err(error)) => Err(error),
            Some(Ok(Message::Request(_) | Message::Other { .. } | Message::Noop | Message::Overrun))
            | Some(Ok(Message::Error { .. })) => Err(WireError::Value {
                field: "nlmsghdr.nlmsg_type",
                offset: 4,
                value: datagram.get(4..6).map_or(0, |b| order.u16([b[0], b[1]]).into()),
                why: "not a process event",
            }),
            None => Err(WireError::Short {
                field: "nlmsghdr",
                offset: 0,
                needed: NLMSGHDR_LEN,
                left: datagram.len(),
            }),
        }
    }

    /// Reads a `proc_event`, of whatever length its kernel gave it: only the fields of its kind must be there.
    #[inline(always)]
    pub(super) fn decode_body(mut at: Cursor<'_>, msg: CnMsg) -> Result<Self, WireError> {
        let what = at.u32("proc_event.what")?;
        let cpu = Cpu(at.u32("proc_event.cpu")?);
        let time = MonoNs(at.u64("proc_event.timestamp_ns")?);
        let at = &mut at;
        let body = match what {
            0 => EventBody::Ack { ack: msg.ack, err: at.u32("ack.err")? },
            1 => EventBody::Fork {
                parent: task(at, "fork.parent_pid", "fork.parent_tgid")?,
                child: task(at, "fork.child_pid", "fork.child_tgid")?,
            },
            2 => EventBody::Exec { task: task(at, "exec.process_pid", "exec.process_tgid")? },
            4 => EventBody::Uid {
                task: task(at, "id.process_pid", "id.process_tgid")?,
                real: at.u32("id.r.ruid")?,
                effective: at.u32("id.e.euid")?,
            },
            0x40 => EventBody::Gid {
                task: task(at, "id.process_pid", "id.process_tgid")?,
                real: at.u32("id.r.rgid")?,
                effective: at.u32("id.e.egid")?,
            },
            0x80 => EventBody::Sid { task: task(at, "sid.process_pid", "sid.process_tgid")? },
            0x100 => EventBody::Ptrace {
                task: task(at, "ptrace.process_pid", "ptrace.process_tgid")?,
                tracer: task(at, "ptrace.tracer_pid", "ptrace.tracer_tgid")?,
            },
            0x200 => EventBody::Comm {
                task: task(at, "comm.process_pid", "comm.process_tgid")?,
                comm: Comm(at.array("comm.comm")?),
            },
            0x4000_0000 => EventBody::Coredump {
                task: task(at, "coredump.process_pid", "coredump.process_tgid")?,
                parent: parent(at, "coredump.parent_pid", "coredump.parent_tgid")?,
            },
            0x8000_0000 => EventBody::Exit {
                task: task(at, "exit.process_pid", "exit.process_tgid")?,
                code: at.u32("exit.exit_code")?,
                signal: at.u32("exit.exit_signal")?,
                parent: parent(at, "exit.parent_pid", "exit.parent_tgid")?,
            },
            what => EventBody::Unknown { what },
        };
        Ok(Self { time, seq: msg.seq, cpu, body })
    }

    /// The datagram in which a kernel sends this event; `None` for [`EventBody::Unknown`], whose data are not here.
    /// A parent that is `None` is written as zeros, as kernels of 3.2 to 4.17 do.
    #[inline]
    pub fn encode(&self, order: ByteOrder) -> Option<[u8; EVENT_DATAGRAM_LEN]> {
        let mut frame = [0; EVENT_DATAGRAM_LEN];
        self.encode_into(order, &mut frame).then_some(frame)
    }

    /// The same, into `frame`, which is not read; `false` if it cannot be. Bytes that were just written field by field are best not
    /// copied at once: on most CPUs that takes longer than to write them.
    #[inline]
    pub fn encode_into(&self, order: ByteOrder, frame: &mut [u8; EVENT_DATAGRAM_LEN]) -> bool {
        match order {
            ByteOrder::Little => self.encode_as(ByteOrder::Little, frame),
            ByteOrder::Big => self.encode_as(ByteOrder::Big, frame),
        }
    }

    #[inline(always)]
    fn encode_as(&self, order: ByteOrder, frame: &mut [u8; EVENT_DATAGRAM_LEN]) -> bool {
        let Some(what) = self.kind().what() else { return false };
        frame.fill(0);
        let mut put = |at: usize, value: u32| order.put_u32(&mut frame[at..at + 4], value);
        put(0, EVENT_DATAGRAM_LEN as u32);
        put(8, self.seq.0);
        put(16, CN_IDX_PROC);
        put(20, CN_VAL_PROC);
        put(24, self.seq.0);
        put(36, what);
        put(40, self.cpu.0);
        let mut put_task = |at: usize, task: Task| {
            put(at, task.tid.0);
            put(at + 4, task.tgid.0);
        };
        match self.body {
            EventBody::Ack { ack, err } => {
                put(28, ack);
                put(52, err);
            }
            EventBody::Fork { parent, child } => {
                put_task(52, parent);
                put_task(60, child);
            }
            EventBody::Exec { task } | EventBody::Sid { task } => put_task(52, task),
            EventBody::Uid { task, real, effective } | EventBody::Gid { task, real, effective } => {
                put_task(52, task);
                put(60, real);
                put(64, effective);
            }
            EventBody::Ptrace { task, tracer } => {
                put_task(52, task);
                put_task(60, tracer);
            }
            EventBody::Comm { task, comm } => {
                put_task(52, task);
                frame[60..76].copy_from_slice(&comm.0);
            }
            EventBody::Coredump { task, parent } => {
                put_task(52, task);
                put_task(60, parent.unwrap_or_default());
            }
            EventBody::Exit { task, code, signal, parent } => {
                put_task(52, task);
                put_task(68, parent.unwrap_or_default());
                put(60, code);
                put(64, signal);
            }
            EventBody::Unknown { .. } => {}
        }
        order.put_u16(&mut frame[4..6], NLMSG_DONE);
        order.put_u16(&mut frame[32..34], PROC_EVENT_LEN as u16);
        order.put_u64(&mut frame[44..52], self.time.0);
        true
    }

    /// Reads a datagram that [`Event::encode`] gives back bit for bit; `None` for any other.
    #[inline]
    pub fn from_exact(datagram: &[u8], order: ByteOrder) -> Option<Self> {
        let event = Self::decode(datagram, order).ok()?;
        (event.encode(order)?.as_slice() == datagram).then_some(event)
    }
}

#[inline(always)]
fn task(at: &mut Cursor<'_>, tid: &'static str, tgid: &'static str) -> Result<Task, WireError> {
    Ok(Task { tid: Tid(at.u32(tid)?), tgid: Tgid(at.u32(tgid)?) })
}

/// A task that old kernels do not send: absent when the bytes end before it.
#[inline(always)]
fn parent(at: &mut Cursor<'_>, tid: &'static str, tgid: &'static str) -> Result<Option<Task>, WireError> {
    if at.rest().is_empty() { Ok(None) } else { task(at, tid, tgid).map(Some) }
}
