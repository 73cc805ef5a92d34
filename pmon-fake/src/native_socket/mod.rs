//! Real netlink sockets that receive datagrams as if from the kernel, without privileges.
//!
//! In a network namespace of a user namespace of its own, the kernel repeats a message sent to
//! `NETLINK_KOBJECT_UEVENT` as a multicast of its own: the receiver reads `nl_pid` 0. Overruns of
//! such a socket are real, `ENOBUFS` included.
//!
//! [`NetNamespace`] opens sockets in such a namespace, [`KernelSender`] sends to them,
//! [`attach_tag_filter`] selects a socket's datagrams, and [`OverrunInjector`] makes a socket
//! report `ENOBUFS`. [`NativeSocket`] is a socket made of these parts.

mod error;
mod native;
mod net_namespace;
mod overrun;
mod sender;
#[allow(unsafe_code, reason = "system calls without a safe wrapper")]
mod sys;
mod tag_filter;

pub use error::{NativeSocketError, NativeSocketStep};
pub use native::NativeSocket;
pub use net_namespace::NetNamespace;
pub use overrun::OverrunInjector;
pub use sender::{KernelSender, MAX_DATAGRAM};
pub use sys::{memory, no_enobufs, set_no_enobufs};
pub use tag_filter::{Tag, attach_tag_filter};
