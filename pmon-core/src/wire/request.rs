//! What a listener sends to the kernel: `PROC_CN_MCAST_LISTEN` and `PROC_CN_MCAST_IGNORE`.

use super::cursor::{ByteOrder, Cursor, WireError};
use super::{CN_IDX_PROC, CN_MSG_LEN, CN_VAL_PROC, NLMSG_DONE, NLMSGHDR_LEN};

/// Bytes of a request without a mask.
pub const REQUEST_DATAGRAM_LEN: usize = NLMSGHDR_LEN + CN_MSG_LEN + 4;

/// `enum proc_cn_mcast_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscribeOp {
    /// Begin to receive events.
    Listen,
    /// Stop.
    Ignore,
}

/// A subscription request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscribeRequest {
    /// What the listener wants.
    pub operation: SubscribeOp,
    /// `cn_msg.ack`; the kernel's answer carries this plus 1.
    pub ack: u32,
    /// The kinds wanted, as the bits of `proc_event.what` (`struct proc_input`, Linux >= 6.6). The kernel then
    /// sends no ack, and what it filters out still consumes sequence numbers.
    pub mask: Option<u32>,
}

impl SubscribeRequest {
    /// A request for all events.
    pub fn new(operation: SubscribeOp, ack: u32) -> Self {
        Self { operation, ack, mask: None }
    }

    /// The datagram to send, from the socket bound to `port`.
    pub fn encode(&self, port: u32, order: ByteOrder) -> Vec<u8> {
        let payload = if self.mask.is_some() { 8 } else { 4 };
        let mut frame = vec![0; NLMSGHDR_LEN + CN_MSG_LEN + payload];
        let len = frame.len() as u32;
        let mut put = |at: usize, value: u32| order.put_u32(&mut frame[at..at + 4], value);
        put(0, len);
        put(12, port);
        put(16, CN_IDX_PROC);
        put(20, CN_VAL_PROC);
        put(28, self.ack);
        put(36, if self.operation == SubscribeOp::Listen { 1 } else { 2 });
        if let Some(mask) = self.mask {
            put(40, mask);
        }
        order.put_u16(&mut frame[4..6], NLMSG_DONE);
        order.put_u16(&mut frame[32..34], payload as u16);
        frame
    }

    /// Whether a `cn_msg` payload of `len` bytes is a request: the kernel takes these two sizes, and no event is
    /// as short.
    pub(super) fn is_payload(len: usize) -> bool {
        matches!(len, 4 | 8)
    }

    /// Reads a `cn_msg` payload.
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
