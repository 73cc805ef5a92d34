//! Constants that several groups of calls share.

/// `SOL_NETLINK`.
pub(crate) const SOL_NETLINK: u64 = 270;
/// `NETLINK_PKTINFO`: the option, and the type of its control message.
pub(crate) const NETLINK_PKTINFO: u64 = 3;
/// The offset with which `preadv2` and `pwritev2` are `readv` and `writev`.
pub(crate) const NO_OFFSET: u64 = u64::MAX;
/// Maximum bytes of a datagram in either direction.
pub(crate) const MAX_DATAGRAM: usize = 1 << 18;
