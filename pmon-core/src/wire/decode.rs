//! Datagrams to events.

use super::byte_order::ByteOrder;
use super::cursor::{Cursor, WireError};
use super::event::{Comm, Event, EventBody};
use super::kind::{
    PROC_EVENT_COMM, PROC_EVENT_COREDUMP, PROC_EVENT_EXEC, PROC_EVENT_EXIT, PROC_EVENT_FORK, PROC_EVENT_GID,
    PROC_EVENT_NONE, PROC_EVENT_PTRACE, PROC_EVENT_SID, PROC_EVENT_UID,
};
use super::layout::{self, EVENT_DATAGRAM_LEN, NLMSGHDR_LEN, PAYLOAD, PROC_EVENT_LEN};
use super::message::{Message, messages};
use super::{CN_IDX_PROC, CN_VAL_PROC, NLMSG_DONE};
use crate::ids::{Cpu, MonoNs, Seq, Task, Tgid, Tid};

impl Event {
    /// Reads the first event of a datagram. Allocates nothing.
    ///
    /// # Errors
    /// Returns an error if a field is missing, a length contradicts the bytes, or the first message
    /// is not a process event.
    #[inline]
    pub fn decode(datagram: &[u8], order: ByteOrder) -> Result<Self, WireError> {
        // With a constant order, the compiler turns each field into one load.
        match order {
            ByteOrder::Little => Self::decode_as(datagram, ByteOrder::Little),
            ByteOrder::Big => Self::decode_as(datagram, ByteOrder::Big),
        }
    }

    #[inline(always)]
    fn decode_as(datagram: &[u8], order: ByteOrder) -> Result<Self, WireError> {
        let Ok(usual) = <&[u8; EVENT_DATAGRAM_LEN]>::try_from(datagram) else {
            return Self::decode_first(datagram, order);
        };
        let u16_at = |at: usize| order.u16([usual[at], usual[at + 1]]);
        let u32_at = |at: usize| order.u32([usual[at], usual[at + 1], usual[at + 2], usual[at + 3]]);
        let is_usual = u32_at(layout::NLMSG_LEN.start) == EVENT_DATAGRAM_LEN as u32
            && u16_at(layout::NLMSG_TYPE.start) == NLMSG_DONE
            && u32_at(layout::CN_IDX.start) == CN_IDX_PROC
            && u32_at(layout::CN_VAL.start) == CN_VAL_PROC
            && u16_at(layout::CN_LEN.start) == PROC_EVENT_LEN as u16;
        if !is_usual {
            return Self::decode_first(datagram, order);
        }
        let msg = CnMsg { seq: Seq(u32_at(layout::CN_SEQ.start)), ack: u32_at(layout::CN_ACK.start) };
        decode_body(Cursor::new(&usual[PAYLOAD..], PAYLOAD, order), msg)
    }

    #[cold]
    fn decode_first(datagram: &[u8], order: ByteOrder) -> Result<Self, WireError> {
        match messages(datagram, order).next() {
            Some(Ok(Message::Event(event))) => Ok(event),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) => Err(WireError::Value {
                field: "nlmsghdr.nlmsg_type",
                offset: layout::NLMSG_TYPE.start,
                value: datagram.get(layout::NLMSG_TYPE).map_or(0, |b| order.u16([b[0], b[1]]).into()),
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

    /// Reads a datagram that [`Event::encode`] reproduces bit for bit; `None` for any other.
    #[inline]
    pub fn from_exact(datagram: &[u8], order: ByteOrder) -> Option<Self> {
        let event = Self::decode(datagram, order).ok()?;
        is_equal(&event.encode(order)?, datagram).then_some(event)
    }
}

/// Compares a datagram word by word. `memcmp(3)` loads vectors, and stalls the processor until the
/// fields that were just stored one by one have reached its cache.
#[inline]
fn is_equal(encoded: &[u8; EVENT_DATAGRAM_LEN], datagram: &[u8]) -> bool {
    const { assert!(EVENT_DATAGRAM_LEN.is_multiple_of(4)) };
    let Ok(datagram) = <&[u8; EVENT_DATAGRAM_LEN]>::try_from(datagram) else { return false };
    let words = encoded.as_chunks::<4>().0.iter().zip(datagram.as_chunks::<4>().0);
    words.into_iter().all(|(one, other)| u32::from_ne_bytes(*one) == u32::from_ne_bytes(*other))
}

/// The fields of a `cn_msg` that belong to an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct CnMsg {
    pub(super) seq: Seq,
    pub(super) ack: u32,
}

/// Reads a `proc_event` of whatever length its kernel sends: only the fields of its kind must be
/// present.
#[inline(always)]
pub(super) fn decode_body(mut at: Cursor<'_>, msg: CnMsg) -> Result<Event, WireError> {
    let what = at.u32("proc_event.what")?;
    let cpu = Cpu(at.u32("proc_event.cpu")?);
    let time = MonoNs(at.u64("proc_event.timestamp_ns")?);
    let at = &mut at;
    let body = match what {
        PROC_EVENT_NONE => EventBody::Ack { ack: msg.ack, err: at.u32("ack.err")? },
        PROC_EVENT_FORK => EventBody::Fork {
            parent: task(at, "fork.parent_pid", "fork.parent_tgid")?,
            child: task(at, "fork.child_pid", "fork.child_tgid")?,
        },
        PROC_EVENT_EXEC => EventBody::Exec { task: task(at, "exec.process_pid", "exec.process_tgid")? },
        PROC_EVENT_UID => EventBody::Uid {
            task: task(at, "id.process_pid", "id.process_tgid")?,
            real: at.u32("id.r.ruid")?,
            effective: at.u32("id.e.euid")?,
        },
        PROC_EVENT_GID => EventBody::Gid {
            task: task(at, "id.process_pid", "id.process_tgid")?,
            real: at.u32("id.r.rgid")?,
            effective: at.u32("id.e.egid")?,
        },
        PROC_EVENT_SID => EventBody::Sid { task: task(at, "sid.process_pid", "sid.process_tgid")? },
        PROC_EVENT_PTRACE => EventBody::Ptrace {
            task: task(at, "ptrace.process_pid", "ptrace.process_tgid")?,
            tracer: task(at, "ptrace.tracer_pid", "ptrace.tracer_tgid")?,
        },
        PROC_EVENT_COMM => EventBody::Comm {
            task: task(at, "comm.process_pid", "comm.process_tgid")?,
            comm: Comm(at.array("comm.comm")?),
        },
        PROC_EVENT_COREDUMP => EventBody::Coredump {
            task: task(at, "coredump.process_pid", "coredump.process_tgid")?,
            parent: parent(at, "coredump.parent_pid", "coredump.parent_tgid")?,
        },
        PROC_EVENT_EXIT => EventBody::Exit {
            task: task(at, "exit.process_pid", "exit.process_tgid")?,
            code: at.u32("exit.exit_code")?,
            signal: at.u32("exit.exit_signal")?,
            parent: parent(at, "exit.parent_pid", "exit.parent_tgid")?,
        },
        what => EventBody::Unknown { what },
    };
    Ok(Event { time, seq: msg.seq, cpu, body })
}

#[inline(always)]
fn task(at: &mut Cursor<'_>, tid: &'static str, tgid: &'static str) -> Result<Task, WireError> {
    Ok(Task { tid: Tid(at.u32(tid)?), tgid: Tgid(at.u32(tgid)?) })
}

/// Reads a task that old kernels do not send; `None` if the bytes end before it.
#[inline(always)]
fn parent(at: &mut Cursor<'_>, tid: &'static str, tgid: &'static str) -> Result<Option<Task>, WireError> {
    if at.rest().is_empty() { Ok(None) } else { task(at, tid, tgid).map(Some) }
}
