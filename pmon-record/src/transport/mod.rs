//! How events come from the kernel: by the netlink socket, or by a BPF ring with the socket as its
//! overflow.

pub(crate) mod live_source;
pub(crate) mod merge;
pub(crate) mod netlink;
pub(crate) mod ring;
pub(crate) mod select;
pub(crate) mod subscribe;
pub(crate) mod subscribe_error;
