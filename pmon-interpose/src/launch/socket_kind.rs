//! The kinds of sockets from which the tracee receives events.

use pmon_fake::native_socket::NativeSocketError;
use thiserror::Error;

/// The requested kind of proc connector sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketRequest {
    /// Native sockets, or emulated ones if this system or the run rules out native ones.
    #[default]
    Auto,
    /// Native sockets, or an error.
    Native,
    /// Emulated sockets.
    Seccomp,
}

/// The kind of a program's proc connector sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// The program receives from netlink sockets of the kernel. Receiving and waiting calls are not
    /// intercepted.
    Native,
    /// All calls on the sockets are intercepted and emulated (`seccomp_unotify(2)`).
    Seccomp {
        /// The reason why the sockets are not native.
        why: FallbackReason,
    },
}

/// The reason why sockets are emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FallbackReason {
    /// It was requested.
    #[error("as requested")]
    Requested,
    /// A fault script interrupts receiving calls, truncates datagrams, or ends the input, which a
    /// native socket does not do.
    #[error("the fault script interrupts, truncates or ends receiving calls")]
    FaultScript,
    /// The program's receiving calls return 0 at the end, which those of a native socket never do.
    #[error("--at-end eof")]
    EndOfFile,
    /// This system does not support native sockets.
    #[error("cannot {}: {}", .0.step, .0.errno)]
    Unsupported(NativeSocketError),
}

impl FallbackReason {
    /// Returns the stable name of the reason, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::FaultScript => "fault_script",
            Self::EndOfFile => "end_of_file",
            Self::Unsupported(_) => "unsupported",
        }
    }
}
