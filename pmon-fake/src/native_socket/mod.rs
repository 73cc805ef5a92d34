//! Real netlink sockets that receive datagrams as if from the kernel, without privileges.
//!
//! In a network namespace of a user namespace of its own, the kernel repeats a message sent to
//! `NETLINK_KOBJECT_UEVENT` as a multicast of its own: the receiver reads `nl_pid` 0. Overruns of
//! such a socket are real, `ENOBUFS` included.
//!
//! [`Kernel::netlink_fd_socket`](crate::Kernel::netlink_fd_socket) opens such a socket. This module
//! has its error, and options that a test reads or sets and that have no other safe wrapper.

mod error;
mod native;
mod net_namespace;
mod overrun;
mod sender;
#[allow(unsafe_code, reason = "system calls without a safe wrapper")]
mod sys;
mod tag_filter;

pub use error::{NativeSocketError, NativeSocketStep};
pub(crate) use native::NativeSocket;
pub use sys::{memory, no_enobufs, set_no_enobufs};
