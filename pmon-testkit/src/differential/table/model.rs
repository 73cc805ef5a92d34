//! The fake kernel.

use std::collections::HashSet;

use pmon_core::{Cpu, Task};
use pmon_fake::{RecvFlags, SockFilter};

use super::host::{Act, Deed, End, Errno, Host, Instruction, Memory, Outcome, Received, Socket};
use super::real::Kernel;

/// `nobody`, whom children become.
const NOBODY: u32 = 65534;
/// What the fake kernel has, unless it is told: [`Model::like`] does.
const CPUS: usize = 2;
const RMEM_MAX: u32 = 4 << 20;

/// The fake kernel, with a process that plays on it.
pub struct Model {
    kernel: pmon_fake::Kernel,
    own: Task,
    cpus: usize,
    rmem_max: u32,
    sockets: Vec<Option<pmon_fake::Socket>>,
    children: HashSet<u32>,
    is_privileged: bool,
}

impl Model {
    pub fn new() -> Self {
        Self::of(CPUS, RMEM_MAX)
    }

    /// With as many CPUs as that host has, and the same bound of buffers.
    pub fn like(host: &Kernel) -> Self {
        Self::of(host.cpus(), host.rmem_max())
    }

    fn of(cpus: usize, rmem_max: u32) -> Self {
        let mut kernel = pmon_fake::Kernel::new(cpus as u32);
        kernel.set_rmem_max(rmem_max);
        let own = kernel.add_process("differential");
        Self {
            kernel,
            own,
            cpus,
            rmem_max,
            sockets: Vec::new(),
            children: HashSet::new(),
            is_privileged: true,
        }
    }

    fn at(&mut self, socket: Socket) -> &mut pmon_fake::Socket {
        self.sockets[socket.0].as_mut().expect("an open socket")
    }

    fn child(&mut self, does: &[Act], ends: End) {
        let child = self.kernel.fork(self.own);
        self.children.insert(child.tgid.0);
        for act in does {
            match act {
                Act::Session => self.kernel.setsid(child),
                Act::Group => self.kernel.setgid(child, NOBODY, NOBODY),
                Act::User => self.kernel.setuid(child, NOBODY, NOBODY),
            }
        }
        match ends {
            End::Code(code) => self.kernel.exit(child, code),
            End::Killed => self.kernel.kill(child.tgid, libc::SIGKILL as u8, false),
            End::Aborted => self.kernel.kill(child.tgid, libc::SIGABRT as u8, false),
        }
    }
}

fn code(error: pmon_fake::Errno) -> Errno {
    Errno(error.raw_os_error())
}

impl Host for Model {
    fn cpus(&self) -> usize {
        self.cpus
    }

    fn cpu_number(&self, cpu: usize) -> u32 {
        cpu as u32
    }

    fn own(&self) -> (u32, u32) {
        (self.own.tgid.0, self.own.tid.0)
    }

    fn rmem_max(&self) -> u32 {
        self.rmem_max
    }

    fn open(&mut self) -> Socket {
        let (kernel, owner) = (&self.kernel, self.own.tgid);
        let socket = match self.is_privileged {
            true => kernel.socket_of(owner),
            false => kernel.unprivileged_socket_of(owner),
        };
        self.sockets.push(Some(socket));
        Socket(self.sockets.len() - 1)
    }

    fn close(&mut self, socket: Socket) {
        self.sockets[socket.0] = None;
    }

    fn be_privileged(&mut self, is_privileged: bool) {
        self.is_privileged = is_privileged;
    }

    fn bind(&mut self, socket: Socket, port: u32, groups: u32) -> Outcome<()> {
        self.at(socket).bind(port, groups).map_err(code)
    }

    fn name(&mut self, socket: Socket) -> (u32, u32) {
        self.at(socket).name()
    }

    fn connect(&mut self, socket: Socket, to: Option<(u32, u32)>) -> Outcome<()> {
        match to {
            Some((port, groups)) => self.at(socket).connect(port, groups).map_err(code),
            None => {
                self.at(socket).disconnect();
                Ok(())
            }
        }
    }

    fn peer(&mut self, socket: Socket) -> (u32, u32) {
        self.at(socket).peer_name()
    }

    fn join(&mut self, socket: Socket, group: i32) -> Outcome<()> {
        self.at(socket).add_membership(group).map_err(code)
    }

    fn leave(&mut self, socket: Socket, group: i32) -> Outcome<()> {
        self.at(socket).drop_membership(group).map_err(code)
    }

    fn set_rcvbuf(&mut self, socket: Socket, bytes: i32) -> Outcome<()> {
        self.at(socket).set_rcvbuf(bytes);
        Ok(())
    }

    fn force_rcvbuf(&mut self, socket: Socket, bytes: i32) -> Outcome<()> {
        self.at(socket).force_rcvbuf(bytes).map_err(code)
    }

    fn rcvbuf(&mut self, socket: Socket) -> i32 {
        self.at(socket).memory().rcvbuf as i32
    }

    fn set_no_enobufs(&mut self, socket: Socket, on: bool) -> Outcome<()> {
        self.at(socket).set_no_enobufs(on);
        Ok(())
    }

    fn take_error(&mut self, socket: Socket) -> i32 {
        self.at(socket).take_error().map_or(0, |error| error.raw_os_error())
    }

    fn send(&mut self, socket: Socket, bytes: &[u8], port: u32, groups: u32) -> Outcome<usize> {
        self.at(socket).send_to(bytes, port, groups).map_err(code)
    }

    fn send_on(&mut self, socket: Socket, bytes: &[u8]) -> Outcome<usize> {
        self.at(socket).send(bytes).map_err(code)
    }

    fn attach(&mut self, socket: Socket, program: &[Instruction]) -> Outcome<()> {
        let instruction = |&Instruction { code, jt, jf, k }: &_| SockFilter { code, jt, jf, k };
        let program: Vec<_> = program.iter().map(instruction).collect();
        self.at(socket).attach_filter(&program).map_err(code)
    }

    fn detach(&mut self, socket: Socket) -> Outcome<()> {
        self.at(socket).detach_filter().map_err(code)
    }

    fn lock(&mut self, socket: Socket, on: bool) -> Outcome<()> {
        self.at(socket).lock_filter(on).map_err(code)
    }

    fn recv(&mut self, socket: Socket, len: usize, flags: i32) -> Outcome<Received> {
        let mut bytes = vec![0; len];
        let got =
            self.at(socket).recv(&mut bytes, RecvFlags::from_bits_retain(flags as u32)).map_err(code)?;
        bytes.truncate(got.len);
        let flags = if got.truncated { libc::MSG_TRUNC } else { 0 };
        Ok(Received { bytes, returned: got.len, flags, port: got.sender, groups: got.groups })
    }

    fn memory(&mut self, socket: Socket) -> Memory {
        let memory = self.at(socket).memory();
        Memory { used: memory.rmem_alloc, rcvbuf: memory.rcvbuf, drops: memory.drops }
    }

    fn act(&mut self, cpu: usize, deed: Deed) {
        self.kernel.run_on(Cpu(cpu as u32));
        match deed {
            Deed::Rename => self.kernel.rename(self.own, "differential"),
            Deed::Child { does, ends } => self.child(does, ends),
        }
        self.kernel.run_on(Cpu(0));
    }

    fn is_child(&self, tgid: u32) -> bool {
        self.children.contains(&tgid)
    }
}
