//! The wire format of the netlink *proc connector*, in both directions.
//!
//! A datagram holds one or more netlink messages. A message with a process event consists of three
//! structs, in the byte order of the kernel that sent it; [`layout`] has the offset of each field.
//!
//! | bytes | struct | source |
//! | --- | --- | --- |
//! | 16 | `nlmsghdr` | `include/uapi/linux/netlink.h` |
//! | 20 | `cn_msg` | `include/uapi/linux/connector.h` |
//! | 40 | `proc_event` | `include/uapi/linux/cn_proc.h` |
//!
//! [`Event::decode`] reads what kernels send in practice: one message with one event. [`messages`]
//! reads every message of any datagram.

pub mod layout;

mod byte_order;
mod cursor;
mod decode;
mod encode;
mod event;
mod kind;
mod message;
mod request;

pub use byte_order::{ByteOrder, u16_at, u32_at, u64_at};
pub use cursor::WireError;
pub use event::{Comm, Event, EventBody};
pub use kind::EventKind;
pub use layout::{CN_MSG_LEN, EVENT_DATAGRAM_LEN, NLMSGHDR_LEN, PROC_EVENT_LEN, REQUEST_DATAGRAM_LEN};
pub use message::{Message, Messages, messages};
pub use request::{SubscribeOp, SubscribeRequest};

pub(crate) const NLMSG_NOOP: u16 = 1;
pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const NLMSG_OVERRUN: u16 = 4;

/// `cn_msg.id.idx` of the proc connector, and the number of its multicast group.
pub const CN_IDX_PROC: u32 = 1;
/// `cn_msg.id.val` of the proc connector.
pub const CN_VAL_PROC: u32 = 1;
