//! The netlink messages of a datagram.

use super::cursor::{ByteOrder, Cursor, WireError};
use super::event::Event;
use super::request::SubscribeRequest;
use super::{
    CN_IDX_PROC, CN_MSG_LEN, CN_VAL_PROC, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NLMSGHDR_LEN,
};
use crate::ids::Seq;

/// One netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message<'a> {
    /// A process event.
    Event(Event),
    /// A subscription request, as a listener sends it.
    Request(SubscribeRequest),
    /// `NLMSG_NOOP`: to be ignored.
    Noop,
    /// `NLMSG_ERROR`: an errno (positive), or 0 for an acknowledgement.
    Error {
        /// The errno.
        errno: i32,
    },
    /// `NLMSG_OVERRUN`: data were lost.
    Overrun,
    /// A message that is not the proc connector's.
    Other {
        /// `nlmsghdr.nlmsg_type`.
        nlmsg_type: u16,
        /// What follows the `nlmsghdr`.
        payload: &'a [u8],
    },
}

/// The fields of `cn_msg` that an event needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct CnMsg {
    pub(super) seq: Seq,
    pub(super) ack: u32,
}

/// The messages of `datagram`, in order. The first malformed one ends the walk with its error; fewer trailing
/// bytes than a header takes are left alone, as the kernel's `NLMSG_OK` does.
pub fn messages(datagram: &[u8], order: ByteOrder) -> Messages<'_> {
    Messages { at: Cursor::new(datagram, 0, order), order }
}

/// See [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    at: Cursor<'a>,
    order: ByteOrder,
}

impl<'a> Messages<'a> {
    /// The bytes that have not been walked yet; at the end, the trailing bytes that are no message.
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
            // The connector looks at no other type; the kernel itself sends NLMSG_DONE.
            NLMSG_DONE => connector(at, nlmsg_type, payload),
            _ if payload.len() >= CN_MSG_LEN => connector(at, nlmsg_type, payload),
            _ => Ok(Message::Other { nlmsg_type, payload }),
        }
    }
}

/// A `cn_msg`, whose payload is an event from the kernel, or a request on its way there.
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
    let body = at.truncated(len);
    if SubscribeRequest::is_payload(len) {
        SubscribeRequest::decode_payload(body, msg.ack).map(Message::Request)
    } else {
        Event::decode_body(body, msg).map(Message::Event)
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
