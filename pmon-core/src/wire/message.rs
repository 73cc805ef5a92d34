//! The netlink messages of a datagram.

use super::byte_order::ByteOrder;
use super::cursor::{Cursor, WireError};
use super::decode::{CnMsg, decode_body};
use super::event::Event;
use super::layout::{CN_MSG_LEN, NLMSGHDR_LEN};
use super::request::SubscribeRequest;
use super::{CN_IDX_PROC, CN_VAL_PROC, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN};
use crate::ids::Seq;

/// A netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message<'a> {
    /// A process event.
    Event(Event),
    /// A subscription request, as a listener sends it.
    Request(SubscribeRequest),
    /// `NLMSG_NOOP`: the receiver ignores it.
    Noop,
    /// `NLMSG_ERROR`: the request failed, or was acknowledged.
    Error {
        /// A positive errno, or 0 for an acknowledgement.
        errno: i32,
    },
    /// `NLMSG_OVERRUN`: messages were lost.
    Overrun,
    /// A message of something other than the proc connector.
    Other {
        /// `nlmsghdr.nlmsg_type`.
        nlmsg_type: u16,
        /// The bytes after the `nlmsghdr`.
        payload: &'a [u8],
    },
}

/// Returns the messages of `datagram`, in order.
///
/// The first malformed message ends the iteration with its error. Trailing bytes that are fewer
/// than a header are ignored, as by the kernel's `NLMSG_OK`.
pub fn messages(datagram: &[u8], order: ByteOrder) -> Messages<'_> {
    Messages { at: Cursor::new(datagram, 0, order), order }
}

/// Iterator over the messages of a datagram, returned by [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    at: Cursor<'a>,
    order: ByteOrder,
}

impl<'a> Messages<'a> {
    /// Returns the bytes that were not read yet; at the end, the trailing bytes that are no
    /// message.
    pub fn rest(&self) -> &'a [u8] {
        self.at.rest()
    }

    fn message(&mut self) -> Result<Message<'a>, WireError> {
        let start = self.at.offset();
        let whole = self.at.rest();
        let len = self.at.u32("nlmsghdr.nlmsg_len")? as usize;
        let wrong = |why| WireError::Length { field: "nlmsghdr.nlmsg_len", offset: start, value: len, why };
        if len < NLMSGHDR_LEN {
            return Err(wrong("less than a header"));
        }
        if len > whole.len() {
            return Err(wrong("more than there is"));
        }
        let payload = &whole[NLMSGHDR_LEN..len];
        let nlmsg_type = self.at.u16("nlmsghdr.nlmsg_type")?;
        // The next message begins at the next multiple of four (NLMSG_ALIGN).
        let aligned = len.next_multiple_of(4).min(whole.len());
        self.at = Cursor::new(&whole[aligned..], start + aligned, self.order);

        let mut at = Cursor::new(payload, start + NLMSGHDR_LEN, self.order);
        match nlmsg_type {
            NLMSG_NOOP => Ok(Message::Noop),
            NLMSG_ERROR => Ok(Message::Error { errno: (at.u32("nlmsgerr.error")? as i32).wrapping_neg() }),
            NLMSG_OVERRUN => Ok(Message::Overrun),
            // The kernel sends NLMSG_DONE. As a receiver, it does not examine the type.
            NLMSG_DONE => connector(at, nlmsg_type, payload),
            _ if payload.len() >= CN_MSG_LEN => connector(at, nlmsg_type, payload),
            _ => Ok(Message::Other { nlmsg_type, payload }),
        }
    }
}

/// Reads a `cn_msg`, whose payload is an event from the kernel or a request to the kernel.
fn connector<'a>(mut at: Cursor<'a>, nlmsg_type: u16, payload: &'a [u8]) -> Result<Message<'a>, WireError> {
    let id = (at.u32("cn_msg.id.idx")?, at.u32("cn_msg.id.val")?);
    if id != (CN_IDX_PROC, CN_VAL_PROC) {
        return Ok(Message::Other { nlmsg_type, payload });
    }
    let msg = CnMsg { seq: Seq(at.u32("cn_msg.seq")?), ack: at.u32("cn_msg.ack")? };
    let len_at = at.offset();
    let len = usize::from(at.u16("cn_msg.len")?);
    at.u16("cn_msg.flags")?;
    if len > at.rest().len() {
        return Err(WireError::Length {
            field: "cn_msg.len",
            offset: len_at,
            value: len,
            why: "more than the message holds",
        });
    }
    let payload = at.truncated(len);
    if SubscribeRequest::is_payload(len) {
        SubscribeRequest::decode_payload(payload, msg.ack).map(Message::Request)
    } else {
        decode_body(payload, msg).map(Message::Event)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at.rest().len() < NLMSGHDR_LEN {
            return None;
        }
        let message = self.message();
        if message.is_err() {
            self.at = Cursor::new(&[], self.at.offset(), self.order);
        }
        Some(message)
    }
}
