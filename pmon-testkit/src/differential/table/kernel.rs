//! The interface on which scenarios run: the running kernel, or a model of it.

use std::fmt;

/// Index of a socket that a kernel under test has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SocketId(pub(crate) usize);

/// The error of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            libc::EPERM => f.write_str("EPERM"),
            libc::EAGAIN => f.write_str("EAGAIN"),
            libc::ENOENT => f.write_str("ENOENT"),
            libc::EINVAL => f.write_str("EINVAL"),
            libc::ENODATA => f.write_str("ENODATA"),
            libc::EMSGSIZE => f.write_str("EMSGSIZE"),
            libc::EOPNOTSUPP => f.write_str("EOPNOTSUPP"),
            libc::EADDRINUSE => f.write_str("EADDRINUSE"),
            libc::ENOBUFS => f.write_str("ENOBUFS"),
            libc::ECONNREFUSED => f.write_str("ECONNREFUSED"),
            other => write!(f, "errno {other}"),
        }
    }
}

pub(crate) type CallResult<T> = Result<T, Errno>;

/// The result of `recvmsg(2)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedMessage {
    /// The bytes that were copied.
    pub(crate) bytes: Vec<u8>,
    /// The value that the call returned.
    pub(crate) returned: usize,
    /// `msg_flags`.
    pub(crate) flags: i32,
    /// Port of the sender.
    pub(crate) port: u32,
    /// Groups in the sender's address.
    pub(crate) groups: u32,
}

/// The values of `SO_MEMINFO` that concern received datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketMemory {
    pub(crate) used: u32,
    pub(crate) rcvbuf: u32,
    pub(crate) drops: u32,
}

/// An instruction of a classic filter.
pub(crate) use libc::sock_filter as Instruction;

/// An action of the scenario's own thread that makes the kernel emit events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmitAction {
    /// The thread renames itself: COMM.
    Rename,
    /// The thread starts a child that performs actions and exits: FORK, the events of the actions,
    /// EXIT.
    Child { actions: &'static [ChildAction], end: ChildEnd },
}

/// An action of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildAction {
    /// `setsid(2)`: SID.
    Session,
    /// `setresgid(2)` to 65534: GID.
    Group,
    /// `setresuid(2)` to 65534: UID.
    User,
}

/// How a child exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildEnd {
    /// By `_exit(2)`.
    Code(u8),
    /// By `SIGKILL`, which it sends to itself.
    Killed,
    /// By `SIGABRT`: COREDUMP comes before EXIT.
    Aborted,
}

/// A kernel with a proc connector, and the thread that runs the scenarios.
pub(crate) trait KernelUnderTest {
    /// Returns the number of CPUs on which events can be emitted.
    fn cpus(&self) -> usize;
    /// Returns the CPU number in the events of one of these CPUs.
    fn cpu_number(&self, cpu: usize) -> u32;
    /// Returns the IDs of the process and the thread that run the scenarios.
    fn own(&self) -> (u32, u32);
    /// Returns the value of `net.core.rmem_max`.
    fn rmem_max(&self) -> u32;

    /// Opens a raw, non-blocking `NETLINK_CONNECTOR` socket.
    fn open(&mut self) -> SocketId;
    fn close(&mut self, socket: SocketId);
    /// Drops or restores the privileges of the thread.
    fn set_privileged(&mut self, is_privileged: bool);
    fn bind(&mut self, socket: SocketId, port: u32, groups: u32) -> CallResult<()>;
    /// Returns the port and the groups of `getsockname(2)`.
    fn name(&mut self, socket: SocketId) -> (u32, u32);
    /// Calls `connect(2)` with a port and groups; `None` is `AF_UNSPEC`.
    fn connect(&mut self, socket: SocketId, to: Option<(u32, u32)>) -> CallResult<()>;
    /// Returns the port and the groups of `getpeername(2)`.
    fn peer(&mut self, socket: SocketId) -> (u32, u32);
    /// Sets `NETLINK_ADD_MEMBERSHIP`.
    fn join(&mut self, socket: SocketId, group: i32) -> CallResult<()>;
    /// Sets `NETLINK_DROP_MEMBERSHIP`.
    fn leave(&mut self, socket: SocketId, group: i32) -> CallResult<()>;
    /// Sets `SO_RCVBUF`.
    fn set_rcvbuf(&mut self, socket: SocketId, bytes: i32) -> CallResult<()>;
    /// Sets `SO_RCVBUFFORCE`.
    fn force_rcvbuf(&mut self, socket: SocketId, bytes: i32) -> CallResult<()>;
    /// Reads `SO_RCVBUF`.
    fn rcvbuf(&mut self, socket: SocketId) -> i32;
    /// Sets `NETLINK_NO_ENOBUFS`.
    fn set_no_enobufs(&mut self, socket: SocketId, on: bool) -> CallResult<()>;
    /// Reads and clears `SO_ERROR`.
    fn take_error(&mut self, socket: SocketId) -> i32;
    /// Calls `sendto(2)`.
    fn send(&mut self, socket: SocketId, bytes: &[u8], port: u32, groups: u32) -> CallResult<usize>;
    /// Calls `send(2)`, without an address.
    fn send_on(&mut self, socket: SocketId, bytes: &[u8]) -> CallResult<usize>;
    /// Sets `SO_ATTACH_FILTER`.
    fn attach(&mut self, socket: SocketId, program: &[Instruction]) -> CallResult<()>;
    /// Sets `SO_DETACH_FILTER`.
    fn detach(&mut self, socket: SocketId) -> CallResult<()>;
    /// Sets `SO_LOCK_FILTER`.
    fn lock(&mut self, socket: SocketId, on: bool) -> CallResult<()>;
    /// Calls `recvmsg(2)` with a buffer of `len` bytes.
    fn recv(&mut self, socket: SocketId, len: usize, flags: i32) -> CallResult<ReceivedMessage>;
    /// Reads `SO_MEMINFO`.
    fn memory(&mut self, socket: SocketId) -> SocketMemory;

    /// Performs an action on a CPU.
    fn emit(&mut self, cpu: usize, action: EmitAction);
    /// Returns whether [`KernelUnderTest::emit`] has started that process.
    fn is_child(&self, tgid: u32) -> bool;
}
