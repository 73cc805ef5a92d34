//! The kernel's side of the proc connector and of the netlink sockets on it.

pub(crate) mod connector;
mod fault_actions;
pub(crate) mod filter;
pub(crate) mod message;
mod multicast;
pub(crate) mod notifier;
pub(crate) mod receive_queue;
mod request;
mod sequence_numbers;
pub(crate) mod socket;
mod socket_state;
