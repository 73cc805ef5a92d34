//! Offsets and sizes of the fields of a proc connector datagram: the only table of them.
//!
//! Each constant is a field's byte range, counted from the start of a datagram that holds one
//! message. The names are those of the kernel's structs, with the struct as prefix where the
//! field's name alone would be ambiguous.

use std::ops::Range;

/// Size of an `nlmsghdr` (`include/uapi/linux/netlink.h`), in bytes.
pub const NLMSGHDR_LEN: usize = 16;
/// Size of a `cn_msg` (`include/uapi/linux/connector.h`) without its payload, in bytes.
pub const CN_MSG_LEN: usize = 20;
/// Size of a `proc_event` (`include/uapi/linux/cn_proc.h`) since Linux 3.2, in bytes.
pub const PROC_EVENT_LEN: usize = 40;

/// Size of the datagram that carries one event since Linux 3.2, in bytes.
pub const EVENT_DATAGRAM_LEN: usize = PAYLOAD + PROC_EVENT_LEN;
/// Size of a subscription request without a mask, in bytes.
pub const REQUEST_DATAGRAM_LEN: usize = MCAST_OP.end;
/// Size of a subscription request with a mask (Linux 6.6), in bytes.
pub const MASKED_REQUEST_DATAGRAM_LEN: usize = EVENT_TYPE.end;

/// `nlmsghdr.nlmsg_len`: length of the message in bytes, this header included.
pub const NLMSG_LEN: Range<usize> = field(0, 4);
/// `nlmsghdr.nlmsg_type`: type of the message; the connector sends `NLMSG_DONE`.
pub const NLMSG_TYPE: Range<usize> = field(4, 2);
/// `nlmsghdr.nlmsg_seq`: in events, the same number as [`CN_SEQ`].
pub const NLMSG_SEQ: Range<usize> = field(8, 4);
/// `nlmsghdr.nlmsg_pid`: netlink port of the sender; 0 is the kernel.
pub const NLMSG_PID: Range<usize> = field(12, 4);

/// `cn_msg.id.idx`: [`CN_IDX_PROC`](super::CN_IDX_PROC) for the proc connector.
pub const CN_IDX: Range<usize> = field(NLMSGHDR_LEN, 4);
/// `cn_msg.id.val`: [`CN_VAL_PROC`](super::CN_VAL_PROC) for the proc connector.
pub const CN_VAL: Range<usize> = field(NLMSGHDR_LEN + 4, 4);
/// `cn_msg.seq`: sequence number of the event on its CPU.
pub const CN_SEQ: Range<usize> = field(NLMSGHDR_LEN + 8, 4);
/// `cn_msg.ack`: in an acknowledgement, the request's value plus 1.
pub const CN_ACK: Range<usize> = field(NLMSGHDR_LEN + 12, 4);
/// `cn_msg.len`: length of the payload in bytes.
pub const CN_LEN: Range<usize> = field(NLMSGHDR_LEN + 16, 2);

/// Offset of the payload of `cn_msg`: a `proc_event`, or a request on its way to the kernel.
pub const PAYLOAD: usize = NLMSGHDR_LEN + CN_MSG_LEN;

/// `proc_event.what`: the event's kind as a bit, see [`EventKind::what`](super::EventKind::what).
pub const WHAT: Range<usize> = field(PAYLOAD, 4);
/// `proc_event.cpu`: the CPU that emitted the event.
pub const CPU: Range<usize> = field(PAYLOAD + 4, 4);
/// `proc_event.timestamp_ns`: time of the event, in ns of `CLOCK_MONOTONIC`.
pub const TIMESTAMP_NS: Range<usize> = field(PAYLOAD + 8, 8);
/// Offset of `proc_event.event_data`, a union with one struct per kind.
pub const EVENT_DATA: usize = PAYLOAD + 16;

/// Acknowledgement: `ack.err`, 0 or an errno.
pub const ACK_ERR: Range<usize> = field(EVENT_DATA, 4);
/// Every other kind: pid and tgid of the task (of the parent, for a fork).
pub const TASK: Range<usize> = field(EVENT_DATA, 8);
/// Fork: pid and tgid of the child.
pub const FORK_CHILD: Range<usize> = field(EVENT_DATA + 8, 8);
/// Uid, gid: the real id.
pub const REAL_ID: Range<usize> = field(EVENT_DATA + 8, 4);
/// Uid, gid: the effective id.
pub const EFFECTIVE_ID: Range<usize> = field(EVENT_DATA + 12, 4);
/// Ptrace: pid and tgid of the tracer.
pub const TRACER: Range<usize> = field(EVENT_DATA + 8, 8);
/// Comm: the thread's new name, padded with zeros.
pub const COMM: Range<usize> = field(EVENT_DATA + 8, 16);
/// Coredump: pid and tgid of the parent (Linux 4.18).
pub const COREDUMP_PARENT: Range<usize> = field(EVENT_DATA + 8, 8);
/// Exit: the raw wait status.
pub const EXIT_CODE: Range<usize> = field(EVENT_DATA + 8, 4);
/// Exit: the signal that the parent receives.
pub const EXIT_SIGNAL: Range<usize> = field(EVENT_DATA + 12, 4);
/// Exit: pid and tgid of the parent (Linux 4.18).
pub const EXIT_PARENT: Range<usize> = field(EVENT_DATA + 16, 8);

/// Request: `PROC_CN_MCAST_LISTEN` or `PROC_CN_MCAST_IGNORE` (`proc_input.mcast_op`).
pub const MCAST_OP: Range<usize> = field(PAYLOAD, 4);
/// Request with a mask: the kinds to receive (`proc_input.event_type`, Linux 6.6).
pub const EVENT_TYPE: Range<usize> = field(PAYLOAD + 4, 4);

const fn field(offset: usize, len: usize) -> Range<usize> {
    offset..offset + len
}
