//! Native netlink sockets: the tracee receives from a socket of the kernel, without interception.
//!
//! No user may emit process events, but a process with rights in a private network namespace may
//! let the kernel broadcast a datagram there: `NETLINK_KOBJECT_UEVENT` repeats what user space
//! sends as the kernel's own. The tracee's socket is of that protocol. A filter of its own selects
//! the datagrams for this socket and cuts off what the kernel appends, so that the tracee receives
//! the event as the proc connector sends it, from port 0, in group 1, at the same charge of receive
//! buffer. The [layer below](pmon_fake::native_socket) sends, filters and forces overruns.
//!
//! The fake kernel's model stays the authority: it decides what each socket receives, and
//! [`FlowControl`](flow_control::FlowControl) transfers its datagrams to the native socket. Calls
//! that send, bind and configure are intercepted; calls that receive and wait are not.

pub(crate) mod activity;
pub(crate) mod backlog;
pub(crate) mod channel;
pub(crate) mod flow_control;
pub(crate) mod namespace;
pub(crate) mod schedule;
pub(crate) mod self_test;
#[allow(unsafe_code, reason = "these system calls have no safe wrapper")]
pub(crate) mod sys;
