//! What a listener sends to the kernel, read as the kernel reads it.

use std::ops::Range;

use pmon_core::wire::{CN_IDX_PROC, CN_MSG_LEN, CN_VAL_PROC, NLMSGHDR_LEN, layout};

/// `CONNECTOR_MAX_MSG_SIZE`.
const LONGEST: usize = 16_384;

/// A request that gets as far as the proc connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// `proc_input.mcast_op`: any value.
    pub(crate) operation: u32,
    /// `proc_input.event_type`, if there is one.
    pub(crate) mask: Option<u32>,
    /// `cn_msg.ack`.
    pub(crate) ack: u32,
}

/// The request in a datagram. The kernel looks at the first message only, and at no field of its header but the length
/// (`cn_rx_skb`, `cn_call_callback`).
pub(crate) fn parse(datagram: &[u8]) -> Option<Request> {
    let field = |at: Range<usize>| Some(u32::from_ne_bytes(*datagram.get(at)?.first_chunk()?));
    let message = field(layout::NLMSG_LEN)? as usize;
    let payload = message.checked_sub(NLMSGHDR_LEN)?;
    if message > datagram.len() || !(CN_MSG_LEN..=LONGEST).contains(&payload) {
        return None;
    }
    if (field(layout::CN_IDX)?, field(layout::CN_VAL)?) != (CN_IDX_PROC, CN_VAL_PROC) {
        return None;
    }
    let len = usize::from(u16::from_ne_bytes(*datagram.get(layout::CN_LEN)?.first_chunk()?));
    if len > payload - CN_MSG_LEN {
        return None;
    }
    let operation = field(layout::MCAST_OP);
    let mask = match len {
        4 => None,
        8 => Some(field(layout::EVENT_TYPE)?),
        _ => return None,
    };
    Some(Request { operation: operation?, mask, ack: field(layout::CN_ACK)? })
}
