//! Why a native socket cannot be opened.

use std::fmt;

use rustix::io::Errno;
use thiserror::Error;

/// This system does not allow native sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "cannot open a netlink socket in a private network namespace: {step}: {errno}; \
     it needs unprivileged user namespaces and POSIX message queues"
)]
pub struct NativeSocketError {
    /// The step that failed.
    pub step: NativeSocketStep,
    /// Its error.
    #[source]
    pub errno: Errno,
}

/// A step of opening a native socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NativeSocketStep {
    /// Creating a user and a network namespace (`clone3`).
    Namespaces,
    /// Opening a netlink socket in the namespace.
    Socket,
    /// Binding a socket to its port, and setting its options.
    Setup,
    /// Sending a datagram as the kernel does.
    Send,
    /// Receiving a datagram as it was sent; `EPROTO` if it differs.
    Receive,
    /// Forcing an overrun; `EPROTO` if it is not reported as it should be.
    Overrun,
    /// Opening a POSIX message queue, which forced overruns need.
    MessageQueue,
}

impl fmt::Display for NativeSocketStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "creating the namespaces",
            Self::Socket => "opening a socket",
            Self::Setup => "setting up a socket",
            Self::Send => "sending a datagram",
            Self::Receive => "receiving a datagram",
            Self::Overrun => "forcing an overrun",
            Self::MessageQueue => "opening a message queue",
        })
    }
}

impl NativeSocketStep {
    /// Returns a function that adds this step to an error.
    pub(crate) fn failed(self) -> impl Fn(Errno) -> NativeSocketError {
        move |errno| NativeSocketError { step: self, errno }
    }
}
