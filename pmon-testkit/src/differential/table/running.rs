//! Scenarios on the running kernel.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::io::IoSliceMut;
use std::os::fd::{AsFd as _, BorrowedFd};

use pmon_core::wire::CN_IDX_PROC;
use rustix::fd::OwnedFd;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect,
    connect_unspec, getpeername, getsockname, recvmsg, send, sendto, socket_with,
};
use rustix::process::{Pid, getpgid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, CpuSet, capabilities, gettid, sched_getaffinity, sched_setaffinity,
    set_capabilities, set_name,
};

use super::kernel::{
    CallResult, EmitAction, Errno, Instruction, KernelUnderTest, ReceivedMessage, SocketId, SocketMemory,
};
use super::request::{IGNORE, LISTEN, RawRequest};
use super::scenario_world::WorldRequest;
use super::sys;

/// The name that the thread takes to emit COMM events.
const NAME: &CStr = c"differential";

/// The running kernel. CPU 0 is the first CPU that this process may use.
pub struct RunningKernel {
    sockets: Vec<Option<OwnedFd>>,
    cpus: Vec<usize>,
    /// The thread's CPUs before it was bound to one.
    before: CpuSet,
    /// The thread's privileges at the start.
    privileges: CapabilitySets,
    children: HashSet<u32>,
    rmem_max: u32,
    /// The process whose events the world of a replay emits, if this process runs under replay.
    replayed: Option<u32>,
}

/// Why this kernel cannot be compared with the model.
#[derive(Debug, thiserror::Error)]
pub enum NotComparable {
    /// The kernel is older than the one that the model follows.
    #[error("the model is of Linux {}.{} and later, this is {found}", SINCE.0, SINCE.1)]
    Release {
        /// The running release.
        found: String,
    },
    /// The user lacks a privilege.
    #[error("messages to the group and SO_RCVBUFFORCE take CAP_NET_ADMIN")]
    Privilege,
    /// The kernel does not acknowledge a subscription.
    #[error(
        "the kernel acknowledges no subscription: this is another namespace, or the count of listeners is wrong"
    )]
    NoAck,
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The release that the model follows. Before Linux 6.6, there are no event masks; in a later
/// release, the rule for a full buffer changed.
const SINCE: (u32, u32) = (6, 18);

impl RunningKernel {
    /// Binds the calling thread to one CPU until the value is dropped.
    ///
    /// # Errors
    /// [`NotComparable`], if the scenarios cannot run here.
    pub fn new() -> Result<Self, NotComparable> {
        let found = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let mut parts = found.split(|byte: char| !byte.is_ascii_digit()).map_while(|part| part.parse().ok());
        if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < SINCE {
            return Err(NotComparable::Release { found: found.trim().into() });
        }
        Self::of_any_release()
    }

    /// The fake kernel, for a process that runs under replay in a
    /// [`ScenarioWorld`](super::ScenarioWorld).
    ///
    /// # Errors
    /// [`NotComparable`], if the scenarios cannot run here.
    pub fn under_replay() -> Result<Self, NotComparable> {
        let mut this = Self::of_any_release()?;
        this.replayed = Some(request(&WorldRequest::Begin { cpu: this.cpu_number(0) })?);
        Ok(this)
    }

    fn of_any_release() -> Result<Self, NotComparable> {
        let before = sched_getaffinity(None).map_err(io::Error::from)?;
        let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&cpu| before.is_set(cpu)).collect();
        let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max")?;
        let rmem_max = limit.trim().parse().map_err(io::Error::other)?;
        let privileges = capabilities(None).map_err(io::Error::from)?;
        let mut this = Self {
            sockets: Vec::new(),
            cpus,
            before,
            privileges,
            children: HashSet::new(),
            rmem_max,
            replayed: None,
        };
        this.move_to(0)?;
        this.probe()?;
        Ok(this)
    }

    fn probe(&mut self) -> Result<(), NotComparable> {
        let socket = self.open();
        let as_io = |errno: Errno| NotComparable::Io(io::Error::from_raw_os_error(errno.0));
        self.bind(socket, 0, CN_IDX_PROC).map_err(as_io)?;
        // The datagram goes to the kernel and to a group without members.
        match self.send(socket, &RawRequest::new(LISTEN).bytes(), 0, 1 << 31) {
            Err(Errno(libc::EPERM)) => return Err(NotComparable::Privilege),
            sent => sent.map_err(as_io)?,
        };
        let is_acknowledged = self.recv(socket, 128, 0).is_ok();
        self.send(socket, &RawRequest::new(IGNORE).bytes(), 0, 0).map_err(as_io)?;
        self.close(socket);
        if is_acknowledged { Ok(()) } else { Err(NotComparable::NoAck) }
    }

    fn move_to(&self, cpu: usize) -> io::Result<()> {
        let mut only = CpuSet::new();
        only.set(self.cpus[cpu]);
        Ok(sched_setaffinity(None, &only)?)
    }

    /// Returns a port, with the automatic one of this process as that of the process whose events
    /// are emitted.
    fn seen_port(&self, port: u32) -> u32 {
        self.replayed.filter(|_| port == std::process::id()).unwrap_or(port)
    }

    fn fd(&self, socket: SocketId) -> BorrowedFd<'_> {
        self.sockets[socket.0].as_ref().expect("an open socket").as_fd()
    }
}

/// Sends a request to the world of the replay; returns the result, a process id.
fn request(request: &WorldRequest) -> io::Result<u32> {
    let id = Pid::from_raw(request.encode().cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(getpgid(Some(id))?.as_raw_nonzero().get().cast_unsigned())
}

impl Drop for RunningKernel {
    fn drop(&mut self) {
        // If the process may no longer use its former CPUs, they cannot be restored.
        let _ = sched_setaffinity(None, &self.before);
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(0))
}

fn code(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error())
}

impl KernelUnderTest for RunningKernel {
    fn cpus(&self) -> usize {
        self.cpus.len()
    }

    fn cpu_number(&self, cpu: usize) -> u32 {
        self.cpus[cpu] as u32
    }

    fn own(&self) -> (u32, u32) {
        if let Some(own) = self.replayed {
            return (own, own);
        }
        (std::process::id(), gettid().as_raw_nonzero().get() as u32)
    }

    fn rmem_max(&self) -> u32 {
        self.rmem_max
    }

    fn open(&mut self) -> SocketId {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(CONNECTOR)).expect("a socket");
        self.sockets.push(Some(fd));
        SocketId(self.sockets.len() - 1)
    }

    fn close(&mut self, socket: SocketId) {
        self.sockets[socket.0] = None;
    }

    fn set_privileged(&mut self, is_privileged: bool) {
        let effective = if is_privileged { self.privileges.effective } else { CapabilitySet::empty() };
        set_capabilities(None, CapabilitySets { effective, ..self.privileges }).expect("our own privileges");
    }

    fn bind(&mut self, socket: SocketId, port: u32, groups: u32) -> CallResult<()> {
        bind(self.fd(socket), &SocketAddrNetlink::new(port, groups)).map_err(code)
    }

    fn name(&mut self, socket: SocketId) -> (u32, u32) {
        let name = getsockname(self.fd(socket)).expect("a name");
        let name = SocketAddrNetlink::try_from(name).expect("an address of netlink");
        (self.seen_port(name.pid()), name.groups())
    }

    fn connect(&mut self, socket: SocketId, to: Option<(u32, u32)>) -> CallResult<()> {
        match to {
            Some((port, groups)) => connect(self.fd(socket), &SocketAddrNetlink::new(port, groups)),
            None => connect_unspec(self.fd(socket)),
        }
        .map_err(code)
    }

    fn peer(&mut self, socket: SocketId) -> (u32, u32) {
        let name = getpeername(self.fd(socket)).expect("a name").expect("an address");
        let name = SocketAddrNetlink::try_from(name).expect("an address of netlink");
        (self.seen_port(name.pid()), name.groups())
    }

    fn join(&mut self, socket: SocketId, group: i32) -> CallResult<()> {
        sys::set_option(self.fd(socket), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
            .map_err(|error| errno(&error))
    }

    fn leave(&mut self, socket: SocketId, group: i32) -> CallResult<()> {
        sys::set_option(self.fd(socket), libc::SOL_NETLINK, libc::NETLINK_DROP_MEMBERSHIP, group)
            .map_err(|error| errno(&error))
    }

    fn set_rcvbuf(&mut self, socket: SocketId, bytes: i32) -> CallResult<()> {
        sys::set_option(self.fd(socket), libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)
            .map_err(|error| errno(&error))
    }

    fn force_rcvbuf(&mut self, socket: SocketId, bytes: i32) -> CallResult<()> {
        sys::set_option(self.fd(socket), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
            .map_err(|error| errno(&error))
    }

    fn rcvbuf(&mut self, socket: SocketId) -> i32 {
        sys::option(self.fd(socket), libc::SOL_SOCKET, libc::SO_RCVBUF).expect("SO_RCVBUF")
    }

    fn set_no_enobufs(&mut self, socket: SocketId, on: bool) -> CallResult<()> {
        sys::set_option(self.fd(socket), libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, on.into())
            .map_err(|error| errno(&error))
    }

    fn take_error(&mut self, socket: SocketId) -> i32 {
        sys::option(self.fd(socket), libc::SOL_SOCKET, libc::SO_ERROR).expect("SO_ERROR")
    }

    fn send(&mut self, socket: SocketId, bytes: &[u8], port: u32, groups: u32) -> CallResult<usize> {
        let to = SocketAddrNetlink::new(port, groups);
        sendto(self.fd(socket), bytes, SendFlags::empty(), &to).map_err(code)
    }

    fn send_on(&mut self, socket: SocketId, bytes: &[u8]) -> CallResult<usize> {
        send(self.fd(socket), bytes, SendFlags::empty()).map_err(code)
    }

    fn attach(&mut self, socket: SocketId, program: &[Instruction]) -> CallResult<()> {
        sys::attach(self.fd(socket), program).map_err(|error| errno(&error))
    }

    fn detach(&mut self, socket: SocketId) -> CallResult<()> {
        sys::set_option(self.fd(socket), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
            .map_err(|error| errno(&error))
    }

    fn lock(&mut self, socket: SocketId, on: bool) -> CallResult<()> {
        sys::set_option(self.fd(socket), libc::SOL_SOCKET, libc::SO_LOCK_FILTER, on.into())
            .map_err(|error| errno(&error))
    }

    fn recv(&mut self, socket: SocketId, len: usize, flags: i32) -> CallResult<ReceivedMessage> {
        let mut bytes = vec![0; len];
        let mut control = RecvAncillaryBuffer::default();
        let flags = RecvFlags::from_bits_retain(flags as u32);
        let got = recvmsg(self.fd(socket), &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)
            .map_err(code)?;
        let sender =
            SocketAddrNetlink::try_from(got.address.expect("a sender")).expect("an address of netlink");
        bytes.truncate(got.bytes);
        let (port, groups) = (self.seen_port(sender.pid()), sender.groups());
        Ok(ReceivedMessage { bytes, returned: got.bytes, flags: got.flags.bits() as i32, port, groups })
    }

    fn memory(&mut self, socket: SocketId) -> SocketMemory {
        sys::memory(self.fd(socket)).expect("SO_MEMINFO")
    }

    fn emit(&mut self, cpu: usize, action: EmitAction) {
        if self.replayed.is_some() {
            let result = request(&WorldRequest::of(self.cpu_number(cpu), action)).expect("the world's reply");
            self.children.extend(matches!(action, EmitAction::Child { .. }).then_some(result));
            return;
        }
        // The thread stays on CPU 0, on which the kernel acknowledges its requests.
        if cpu != 0 {
            self.move_to(cpu).expect("a CPU that this process may use");
        }
        match action {
            EmitAction::Rename => set_name(NAME).expect("a name that is short enough"),
            EmitAction::Child { actions, end } => {
                self.children.insert(sys::child(actions, end).expect("a child"));
            }
        }
        if cpu != 0 {
            self.move_to(0).expect("a CPU that this process may use");
        }
    }

    fn is_child(&self, tgid: u32) -> bool {
        self.children.contains(&tgid)
    }
}
