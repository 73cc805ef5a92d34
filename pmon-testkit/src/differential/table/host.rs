//! What a scenario is played on: a kernel, or a model of one.

use std::fmt;

/// A socket that a host has opened, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Socket(pub(crate) usize);

/// Why a call failed.
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

pub(crate) type Outcome<T> = Result<T, Errno>;

/// What a `recvmsg(2)` gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// What was copied.
    pub(crate) bytes: Vec<u8>,
    /// What the call returned.
    pub(crate) returned: usize,
    /// `msg_flags`.
    pub(crate) flags: i32,
    /// The sender's address.
    pub(crate) port: u32,
    pub(crate) groups: u32,
}

/// Of `SO_MEMINFO`, what tells of received datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) used: u32,
    pub(crate) rcvbuf: u32,
    pub(crate) drops: u32,
}

/// An instruction of a classic filter.
pub(crate) use libc::sock_filter as Instruction;

/// What makes a kernel emit events. The scenario's own thread does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// COMM.
    Rename,
    /// FORK, what it does, EXIT.
    Child { does: &'static [Act], ends: End },
}

/// What a child does before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// SID.
    Session,
    /// GID, to 65534.
    Group,
    /// UID, to 65534.
    User,
}

/// How a child ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By `_exit(2)`.
    Code(u8),
    /// By `SIGKILL`, from itself.
    Killed,
    /// By `SIGABRT`: COREDUMP comes before EXIT.
    Aborted,
}

/// A kernel with a proc connector, and the process whose thread plays on it.
pub(crate) trait Host {
    /// CPUs that a deed can be done on: 0 to one less.
    fn cpus(&self) -> usize;
    /// The number that events have for one of them.
    fn cpu_number(&self, cpu: usize) -> u32;
    /// Process and thread that play.
    fn own(&self) -> (u32, u32);
    /// What `net.core.rmem_max` is.
    fn rmem_max(&self) -> u32;

    /// A raw, non-blocking `NETLINK_CONNECTOR` socket.
    fn open(&mut self) -> Socket;
    fn close(&mut self, socket: Socket);
    /// Whether what we do from now on we do with privileges, as at first.
    fn be_privileged(&mut self, is_privileged: bool);
    fn bind(&mut self, socket: Socket, port: u32, groups: u32) -> Outcome<()>;
    /// `getsockname(2)`: port and groups.
    fn name(&mut self, socket: Socket) -> (u32, u32);
    /// `connect(2)`, to port and groups; `None` is `AF_UNSPEC`.
    fn connect(&mut self, socket: Socket, to: Option<(u32, u32)>) -> Outcome<()>;
    /// `getpeername(2)`: port and groups.
    fn peer(&mut self, socket: Socket) -> (u32, u32);
    /// `NETLINK_ADD_MEMBERSHIP`.
    fn join(&mut self, socket: Socket, group: i32) -> Outcome<()>;
    /// `NETLINK_DROP_MEMBERSHIP`.
    fn leave(&mut self, socket: Socket, group: i32) -> Outcome<()>;
    /// `SO_RCVBUF`.
    fn set_rcvbuf(&mut self, socket: Socket, bytes: i32) -> Outcome<()>;
    /// `SO_RCVBUFFORCE`.
    fn force_rcvbuf(&mut self, socket: Socket, bytes: i32) -> Outcome<()>;
    /// What `SO_RCVBUF` reads.
    fn rcvbuf(&mut self, socket: Socket) -> i32;
    /// `NETLINK_NO_ENOBUFS`.
    fn set_no_enobufs(&mut self, socket: Socket, on: bool) -> Outcome<()>;
    /// `SO_ERROR`.
    fn take_error(&mut self, socket: Socket) -> i32;
    /// `sendto(2)`.
    fn send(&mut self, socket: Socket, bytes: &[u8], port: u32, groups: u32) -> Outcome<usize>;
    /// `send(2)`, without an address.
    fn send_on(&mut self, socket: Socket, bytes: &[u8]) -> Outcome<usize>;
    /// `SO_ATTACH_FILTER`.
    fn attach(&mut self, socket: Socket, program: &[Instruction]) -> Outcome<()>;
    /// `SO_DETACH_FILTER`.
    fn detach(&mut self, socket: Socket) -> Outcome<()>;
    /// `SO_LOCK_FILTER`.
    fn lock(&mut self, socket: Socket, on: bool) -> Outcome<()>;
    /// `recvmsg(2)`, with a buffer of `len` bytes.
    fn recv(&mut self, socket: Socket, len: usize, flags: i32) -> Outcome<Received>;
    fn memory(&mut self, socket: Socket) -> Memory;

    /// Does it, on a CPU.
    fn act(&mut self, cpu: usize, deed: Deed);
    /// Whether a process was made by [`Host::act`].
    fn is_child(&self, tgid: u32) -> bool;
}
