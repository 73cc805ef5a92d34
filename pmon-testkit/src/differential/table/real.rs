//! The kernel that runs us.

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
use rustix::thread::{
    CapabilitySet, CapabilitySets, CpuSet, capabilities, gettid, sched_getaffinity, sched_setaffinity,
    set_capabilities, set_name,
};

use super::host::{Deed, Errno, Host, Instruction, Memory, Outcome, Received, Socket};
use super::request::{IGNORE, LISTEN, Raw};
use super::sys;

/// The name that the thread gives itself, again and again.
const NAME: &CStr = c"differential";

/// The kernel that runs us; its CPUs count from the first that we may use.
pub struct Kernel {
    sockets: Vec<Option<OwnedFd>>,
    cpus: Vec<usize>,
    /// CPUs and privileges as they were.
    before: CpuSet,
    privileges: CapabilitySets,
    children: HashSet<u32>,
    rmem_max: u32,
}

/// Why this kernel cannot be compared with the model.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("the model is of Linux {}.{} and later, this is {found}", SINCE.0, SINCE.1)]
    Release { found: String },
    #[error("messages to the group and SO_RCVBUFFORCE take CAP_NET_ADMIN")]
    Privilege,
    #[error("the kernel acknowledges nothing: it is of another namespace, or has been made silent")]
    Unheard,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The release that the model follows. Before 6.6 there are no masks; later the rule changed by which a buffer is full.
const SINCE: (u32, u32) = (6, 18);

impl Kernel {
    /// Binds the calling thread to one CPU, until this is dropped.
    ///
    /// # Errors
    /// [`Unfit`], where the scenarios cannot be played.
    pub fn new() -> Result<Self, Unfit> {
        let found = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let mut parts = found.split(|byte: char| !byte.is_ascii_digit()).map_while(|part| part.parse().ok());
        if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < SINCE {
            return Err(Unfit::Release { found: found.trim().into() });
        }
        let before = sched_getaffinity(None).map_err(io::Error::from)?;
        let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&cpu| before.is_set(cpu)).collect();
        let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max")?;
        let rmem_max = limit.trim().parse().map_err(io::Error::other)?;
        let privileges = capabilities(None).map_err(io::Error::from)?;
        let mut this =
            Self { sockets: Vec::new(), cpus, before, privileges, children: HashSet::new(), rmem_max };
        this.move_to(0)?;
        this.probe()?;
        Ok(this)
    }

    fn probe(&mut self) -> Result<(), Unfit> {
        let socket = self.open();
        let as_io = |errno: Errno| Unfit::Io(io::Error::from_raw_os_error(errno.0));
        self.bind(socket, 0, CN_IDX_PROC).map_err(as_io)?;
        // To a group that nobody is in, and to the kernel.
        match self.send(socket, &Raw::new(LISTEN).bytes(), 0, 1 << 31) {
            Err(Errno(libc::EPERM)) => return Err(Unfit::Privilege),
            sent => sent.map_err(as_io)?,
        };
        let is_heard = self.recv(socket, 128, 0).is_ok();
        self.send(socket, &Raw::new(IGNORE).bytes(), 0, 0).map_err(as_io)?;
        self.close(socket);
        if is_heard { Ok(()) } else { Err(Unfit::Unheard) }
    }

    fn move_to(&self, cpu: usize) -> io::Result<()> {
        let mut only = CpuSet::new();
        only.set(self.cpus[cpu]);
        Ok(sched_setaffinity(None, &only)?)
    }

    fn fd(&self, socket: Socket) -> BorrowedFd<'_> {
        self.sockets[socket.0].as_ref().expect("an open socket").as_fd()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // The CPUs were ours before: if they no longer are, there is nothing to go back to.
        let _ = sched_setaffinity(None, &self.before);
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(0))
}

fn code(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error())
}

impl Host for Kernel {
    fn cpus(&self) -> usize {
        self.cpus.len()
    }

    fn cpu_number(&self, cpu: usize) -> u32 {
        self.cpus[cpu] as u32
    }

    fn own(&self) -> (u32, u32) {
        (std::process::id(), gettid().as_raw_nonzero().get() as u32)
    }

    fn rmem_max(&self) -> u32 {
        self.rmem_max
    }

    fn open(&mut self) -> Socket {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(CONNECTOR)).expect("a socket");
        self.sockets.push(Some(fd));
        Socket(self.sockets.len() - 1)
    }

    fn close(&mut self, socket: Socket) {
        self.sockets[socket.0] = None;
    }

    fn be_privileged(&mut self, is_privileged: bool) {
        let effective = if is_privileged { self.privileges.effective } else { CapabilitySet::empty() };
        set_capabilities(None, CapabilitySets { effective, ..self.privileges }).expect("our own privileges");
    }

    fn bind(&mut self, socket: Socket, port: u32, groups: u32) -> Outcome<()> {
        bind(self.fd(socket), &SocketAddrNetlink::new(port, groups)).map_err(code)
    }

    fn name(&mut self, socket: Socket) -> (u32, u32) {
        let name = getsockname(self.fd(socket)).expect("a name");
        let name = SocketAddrNetlink::try_from(name).expect("an address of netlink");
        (name.pid(), name.groups())
    }

    fn connect(&mut self, socket: Socket, to: Option<(u32, u32)>) -> Outcome<()> {
        match to {
            Some((port, groups)) => connect(self.fd(socket), &SocketAddrNetlink::new(port, groups)),
            None => connect_unspec(self.fd(socket)),
        }
        .map_err(code)
    }

    fn peer(&mut self, socket: Socket) -> (u32, u32) {
        let name = getpeername(self.fd(socket)).expect("a name").expect("an address");
        let name = SocketAddrNetlink::try_from(name).expect("an address of netlink");
        (name.pid(), name.groups())
    }

    fn join(&mut self, socket: Socket, group: i32) -> Outcome<()> {
        sys::set_option(self.fd(socket), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
            .map_err(|error| errno(&error))
    }

    fn leave(&mut self, socket: Socket, group: i32) -> Outcome<()> {
        sys::set_option(self.fd(socket), libc::SOL_NETLINK, libc::NETLINK_DROP_MEMBERSHIP, group)
            .map_err(|error| errno(&error))
    }

    fn set_rcvbuf(&mut self, socket: Socket, bytes: i32) -> Outcome<()> {
        sys::set_option(self.fd(socket), libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)
            .map_err(|error| errno(&error))
    }

    fn force_rcvbuf(&mut self, socket: Socket, bytes: i32) -> Outcome<()> {
        sys::set_option(self.fd(socket), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
            .map_err(|error| errno(&error))
    }

    fn rcvbuf(&mut self, socket: Socket) -> i32 {
        sys::option(self.fd(socket), libc::SOL_SOCKET, libc::SO_RCVBUF).expect("SO_RCVBUF")
    }

    fn set_no_enobufs(&mut self, socket: Socket, on: bool) -> Outcome<()> {
        sys::set_option(self.fd(socket), libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, on.into())
            .map_err(|error| errno(&error))
    }

    fn take_error(&mut self, socket: Socket) -> i32 {
        sys::option(self.fd(socket), libc::SOL_SOCKET, libc::SO_ERROR).expect("SO_ERROR")
    }

    fn send(&mut self, socket: Socket, bytes: &[u8], port: u32, groups: u32) -> Outcome<usize> {
        let to = SocketAddrNetlink::new(port, groups);
        sendto(self.fd(socket), bytes, SendFlags::empty(), &to).map_err(code)
    }

    fn send_on(&mut self, socket: Socket, bytes: &[u8]) -> Outcome<usize> {
        send(self.fd(socket), bytes, SendFlags::empty()).map_err(code)
    }

    fn attach(&mut self, socket: Socket, program: &[Instruction]) -> Outcome<()> {
        sys::attach(self.fd(socket), program).map_err(|error| errno(&error))
    }

    fn detach(&mut self, socket: Socket) -> Outcome<()> {
        sys::set_option(self.fd(socket), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
            .map_err(|error| errno(&error))
    }

    fn lock(&mut self, socket: Socket, on: bool) -> Outcome<()> {
        sys::set_option(self.fd(socket), libc::SOL_SOCKET, libc::SO_LOCK_FILTER, on.into())
            .map_err(|error| errno(&error))
    }

    fn recv(&mut self, socket: Socket, len: usize, flags: i32) -> Outcome<Received> {
        let mut bytes = vec![0; len];
        let mut control = RecvAncillaryBuffer::default();
        let flags = RecvFlags::from_bits_retain(flags as u32);
        let got = recvmsg(self.fd(socket), &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)
            .map_err(code)?;
        let sender =
            SocketAddrNetlink::try_from(got.address.expect("a sender")).expect("an address of netlink");
        bytes.truncate(got.bytes);
        let (port, groups) = (sender.pid(), sender.groups());
        Ok(Received { bytes, returned: got.bytes, flags: got.flags.bits() as i32, port, groups })
    }

    fn memory(&mut self, socket: Socket) -> Memory {
        sys::memory(self.fd(socket)).expect("SO_MEMINFO")
    }

    fn act(&mut self, cpu: usize, deed: Deed) {
        // Scenarios stay on the first, where their requests are acknowledged.
        if cpu != 0 {
            self.move_to(cpu).expect("a CPU that was ours");
        }
        match deed {
            Deed::Rename => set_name(NAME).expect("a name that is short enough"),
            Deed::Child { does, ends } => {
                self.children.insert(sys::child(does, ends).expect("a child"));
            }
        }
        if cpu != 0 {
            self.move_to(0).expect("a CPU that was ours");
        }
    }

    fn is_child(&self, tgid: u32) -> bool {
        self.children.contains(&tgid)
    }
}
