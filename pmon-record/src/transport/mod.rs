//! How events come from the kernel: the netlink socket, the BPF ring, and both merged.

mod kallsyms;
pub(crate) mod live_source;
pub(crate) mod merge;
pub(crate) mod netlink;
pub(crate) mod ring;
pub(crate) mod subscribe;
