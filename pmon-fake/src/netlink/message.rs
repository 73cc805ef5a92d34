//! Netlink control messages, and the sequence number of an event's datagram.

use pmon_core::Seq;
use pmon_core::wire::{NLMSGHDR_LEN, layout};

/// The multicast group of process events, as a bit of `sockaddr_nl.nl_groups`.
pub(crate) const PROC_GROUP: u32 = 1;

/// Message type `NLMSG_NOOP`.
pub(super) const NLMSG_NOOP: u16 = 1;
/// Message type `NLMSG_ERROR`.
pub(super) const NLMSG_ERROR: u16 = 2;
/// Message type `NLMSG_DONE`, which the connector uses for its messages.
pub(super) const NLMSG_DONE: u16 = 3;
/// Message type `NLMSG_OVERRUN`.
pub(crate) const NLMSG_OVERRUN: u16 = 4;

/// Encodes a netlink message of type `nlmsg_type`; flags, sequence number and port are 0.
pub(crate) fn message(nlmsg_type: u16, payload: &[u8]) -> Vec<u8> {
    let len = (NLMSGHDR_LEN + payload.len()) as u32;
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(nlmsg_type.to_ne_bytes());
    bytes.resize(NLMSGHDR_LEN, 0);
    bytes.extend(payload);
    bytes
}

/// Replaces the sequence number of an event's datagram.
pub(super) fn set_seq(datagram: &mut [u8], seq: Seq) {
    for field in [layout::NLMSG_SEQ, layout::CN_SEQ] {
        if let Some(bytes) = datagram.get_mut(field) {
            bytes.copy_from_slice(&seq.0.to_ne_bytes());
        }
    }
}
