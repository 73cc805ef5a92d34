//! What a listener sends to the kernel, read as the kernel reads it.

use pmon_core::wire::{CN_IDX_PROC, CN_MSG_LEN, CN_VAL_PROC, NLMSGHDR_LEN};

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
    let u32_at = |at: usize| Some(u32::from_ne_bytes(*datagram.get(at..at + 4)?.first_chunk()?));
    let message = u32_at(0)? as usize;
    let payload = message.checked_sub(NLMSGHDR_LEN)?;
    if message > datagram.len() || !(CN_MSG_LEN..=LONGEST).contains(&payload) {
        return None;
    }
    if (u32_at(16)?, u32_at(20)?) != (CN_IDX_PROC, CN_VAL_PROC) {
        return None;
    }
    let len = usize::from(u16::from_ne_bytes(*datagram.get(32..34)?.first_chunk()?));
    if len > payload - CN_MSG_LEN {
        return None;
    }
    let operation = u32_at(36);
    let mask = match len {
        4 => None,
        8 => Some(u32_at(40)?),
        _ => return None,
    };
    Some(Request { operation: operation?, mask, ack: u32_at(28)? })
}
