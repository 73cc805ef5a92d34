//! Datagrams to events.

use super::body::{self, CnMsg};
use super::byte_order::ByteOrder;
use super::cursor::{Cursor, WireError};
use super::event::Event;
use super::layout::{self, EVENT_DATAGRAM_LEN, NLMSGHDR_LEN, PAYLOAD, PROC_EVENT_LEN};
use super::message::{Message, messages};
use super::{CN_IDX_PROC, CN_VAL_PROC, NLMSG_DONE};
use crate::ids::Seq;

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
        body::decode(Cursor::new(&usual[PAYLOAD..], PAYLOAD, order), msg)
    }

    #[cold]
    fn decode_first(datagram: &[u8], order: ByteOrder) -> Result<Self, WireError> {
        match messages(datagram, order).next() {
            Some(Ok(Message::Event(event))) => Ok(event),
            Some(Err(error)) => Err(error),
            Some(Ok(Message::Request(_) | Message::Other { .. } | Message::Noop | Message::Overrun))
            | Some(Ok(Message::Error { .. })) => Err(WireError::Value {
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
        (event.encode(order)?.as_slice() == datagram).then_some(event)
    }
}
