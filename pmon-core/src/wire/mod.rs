//! The wire format of the netlink *proc connector*, both ways.
//!
//! One datagram holds one or more netlink messages; one that is a process event is laid out as
//!
//! | bytes | struct | source |
//! | --- | --- | --- |
//! | 16 | `nlmsghdr` | `include/uapi/linux/netlink.h` |
//! | 20 | `cn_msg` | `include/uapi/linux/connector.h` |
//! | 40 | `proc_event` | `include/uapi/linux/cn_proc.h` |
//!
//! in the byte order of the kernel that sent it. [`Event::decode`] reads the datagram that the kernel sends in
//! practice (one message, one event); [`messages`] walks any datagram.

mod cursor;
mod event;
mod message;
mod request;

pub use cursor::{ByteOrder, WireError};
pub use event::{Comm, EVENT_DATAGRAM_LEN, Event, EventBody, EventKind};
pub use message::{Message, Messages, messages};
pub use request::{REQUEST_DATAGRAM_LEN, SubscribeOp, SubscribeRequest};

/// Bytes of an `nlmsghdr`.
pub const NLMSGHDR_LEN: usize = 16;
/// Bytes of a `cn_msg` without its payload.
pub const CN_MSG_LEN: usize = 20;
/// Bytes of a `proc_event` on kernels since 3.2.
pub const PROC_EVENT_LEN: usize = 40;

pub(crate) const NLMSG_NOOP: u16 = 1;
pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const NLMSG_OVERRUN: u16 = 4;

/// `cn_msg.id` of the proc connector: `CN_IDX_PROC`, also its multicast group.
pub const CN_IDX_PROC: u32 = 1;
/// `cn_msg.id.val` of the proc connector.
pub const CN_VAL_PROC: u32 = 1;
