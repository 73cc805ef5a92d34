//! Why a native socket cannot be opened.

use std::fmt;

use rustix::io::Errno;
use thiserror::Error;

/// This system does not allow native sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "cannot {step} for a native netlink socket: {errno}; \
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
    /// Creating a user and a network namespace (`clone3`, or `clone`).
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
            Self::Namespaces => "create a network namespace",
            Self::Socket => "open a socket",
            Self::Setup => "set up a socket",
            Self::Send => "send events as the kernel",
            Self::Receive => "receive events",
            Self::Overrun => "cause overruns",
            Self::MessageQueue => "open a message queue",
        })
    }
}

impl From<NativeSocketError> for Errno {
    fn from(error: NativeSocketError) -> Self {
        error.errno
    }
}

impl NativeSocketStep {
    /// Returns a function that adds this step to an error.
    pub(crate) fn failed(self) -> impl Fn(Errno) -> NativeSocketError {
        move |errno| NativeSocketError { step: self, errno }
    }
}
