//! Real netlink sockets that receive datagrams as if from the kernel, without privileges.
//!
//! In a network namespace of a user namespace of its own, the kernel repeats a message sent to
//! `NETLINK_KOBJECT_UEVENT` as a multicast of its own: the receiver reads `nl_pid` 0. Overruns of
//! such a socket are real, `ENOBUFS` included.
//!
//! [`Kernel::netlink_fd_socket`](crate::Kernel::netlink_fd_socket) opens such a socket. This module
//! has its error, and options that a test reads or sets and that have no other safe wrapper.

mod error;
mod frame;
mod native;
mod net_namespace;
mod overrun;
mod self_test;
mod sender;
#[allow(unsafe_code, reason = "system calls without a safe wrapper")]
mod sys;

pub use error::{NativeSocketError, NativeSocketStep};
pub(crate) use native::NativeSocket;
pub use sys::{memory, no_enobufs, set_no_enobufs};

/// The layer that pmon-interpose and pmon-fake-c share, without a stable interface.
#[doc(hidden)]
pub mod transport {
    pub use super::frame::{MAX_DATAGRAM, attach_filter};
    pub use super::net_namespace::NetNamespace;
    pub use super::overrun::{OverrunInjector, end_congestion, set_rcvbuf};
    pub use super::self_test::{measure_charge, test_overrun};
    pub use super::sender::{KernelSender, UserSender};
    pub use super::sys::with_blocked_signals;
}
