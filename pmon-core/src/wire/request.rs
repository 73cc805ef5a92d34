//! Subscription requests, which a listener sends to the kernel.

use super::byte_order::ByteOrder;
use super::cursor::{Cursor, WireError};
use super::layout::{self, MASKED_REQUEST_DATAGRAM_LEN, PAYLOAD, REQUEST_DATAGRAM_LEN};
use super::{CN_IDX_PROC, CN_VAL_PROC, NLMSG_DONE};

/// What a listener requests (`enum proc_cn_mcast_op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscribeOp {
    /// Start receiving events (`PROC_CN_MCAST_LISTEN`).
    Listen = 1,
    /// Stop receiving events (`PROC_CN_MCAST_IGNORE`).
    Ignore = 2,
}

/// A subscription request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscribeRequest {
    /// The operation.
    pub operation: SubscribeOp,
    /// `cn_msg.ack`; the kernel's acknowledgement carries this value plus 1.
    pub ack: u32,
    /// The kinds to receive, as the bits of `proc_event.what` (`struct proc_input`, Linux 6.6);
    /// `None` for all kinds.
    ///
    /// The kernel sends no acknowledgement of a request with a mask, and the events that the mask
    /// removes still consume sequence numbers.
    pub mask: Option<u32>,
}

impl SubscribeRequest {
    /// Creates a request for all events.
    pub fn new(operation: SubscribeOp, ack: u32) -> Self {
        Self { operation, ack, mask: None }
    }

    /// Returns the datagram to send from the socket that is bound to netlink port `port`.
    pub fn encode(&self, port: u32, order: ByteOrder) -> Vec<u8> {
        let len = if self.mask.is_some() { MASKED_REQUEST_DATAGRAM_LEN } else { REQUEST_DATAGRAM_LEN };
        let mut datagram = vec![0; len];
        order.put_u32(&mut datagram[layout::NLMSG_LEN], len as u32);
        order.put_u16(&mut datagram[layout::NLMSG_TYPE], NLMSG_DONE);
        order.put_u32(&mut datagram[layout::NLMSG_PID], port);
        order.put_u32(&mut datagram[layout::CN_IDX], CN_IDX_PROC);
        order.put_u32(&mut datagram[layout::CN_VAL], CN_VAL_PROC);
        order.put_u32(&mut datagram[layout::CN_ACK], self.ack);
        order.put_u16(&mut datagram[layout::CN_LEN], (len - PAYLOAD) as u16);
        order.put_u32(&mut datagram[layout::MCAST_OP], self.operation as u32);
        if let Some(mask) = self.mask {
            order.put_u32(&mut datagram[layout::EVENT_TYPE], mask);
        }
        datagram
    }

    /// Returns whether a `cn_msg` payload of `len` bytes is a request. The kernel accepts requests
    /// of these two lengths only, and no event is as short.
    pub(super) fn is_payload(len: usize) -> bool {
        len == REQUEST_DATAGRAM_LEN - PAYLOAD || len == MASKED_REQUEST_DATAGRAM_LEN - PAYLOAD
    }

    /// Reads the payload of a `cn_msg`.
    pub(super) fn decode_payload(mut at: Cursor<'_>, ack: u32) -> Result<Self, WireError> {
        let offset = at.offset();
        let operation = match at.u32("proc_input.mcast_op")? {
            1 => SubscribeOp::Listen,
            2 => SubscribeOp::Ignore,
            value => {
                let why = "neither PROC_CN_MCAST_LISTEN nor PROC_CN_MCAST_IGNORE";
                return Err(WireError::Value { field: "proc_input.mcast_op", offset, value, why });
            }
        };
        let mask = if at.rest().is_empty() { None } else { Some(at.u32("proc_input.event_type")?) };
        Ok(Self { operation, ack, mask })
    }
}
