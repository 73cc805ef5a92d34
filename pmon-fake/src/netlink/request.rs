//! Parsing of the requests that listeners send to the proc connector.

use std::ops::Range;

use pmon_core::wire::{CN_IDX_PROC, CN_MSG_LEN, CN_VAL_PROC, NLMSGHDR_LEN, layout};

/// The longest payload that the connector accepts (`CONNECTOR_MAX_MSG_SIZE`).
const MAX_PAYLOAD: usize = 16_384;

/// A request that the proc connector acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParsedRequest {
    /// The operation (`proc_input.mcast_op`), which can be any number.
    pub(crate) operation: u32,
    /// The mask (`proc_input.event_type`), or `None` if the payload is only an operation.
    pub(crate) mask: Option<u32>,
    /// The number to acknowledge (`cn_msg.ack`).
    pub(crate) ack: u32,
}

/// Parses the request in a datagram, or returns `None` where the kernel ignores it.
///
/// The kernel reads only the first message, and only the length from its header (`cn_rx_skb`,
/// `cn_call_callback`).
pub(crate) fn parse(datagram: &[u8]) -> Option<ParsedRequest> {
    let field = |at: Range<usize>| Some(u32::from_ne_bytes(*datagram.get(at)?.first_chunk()?));
    let message = field(layout::NLMSG_LEN)? as usize;
    let payload = message.checked_sub(NLMSGHDR_LEN)?;
    if message > datagram.len() || !(CN_MSG_LEN..=MAX_PAYLOAD).contains(&payload) {
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
    Some(ParsedRequest { operation: operation?, mask, ack: field(layout::CN_ACK)? })
}
