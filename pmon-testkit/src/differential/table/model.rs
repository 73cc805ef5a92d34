//! Scenarios on the fake kernel.

use std::collections::HashSet;

use pmon_core::{Cpu, Task};
use pmon_fake::{RecvFlags, SockFilter};

use super::kernel::{
    CallResult, ChildAction, ChildEnd, EmitAction, Errno, Instruction, KernelUnderTest, ReceivedMessage,
    SocketId, SocketMemory,
};
use super::running::RunningKernel;

/// User and group ID that children take.
const UNPRIVILEGED_ID: u32 = 65534;
/// Number of CPUs of [`ModelKernel::default`].
const CPUS: usize = 2;
/// Value of `net.core.rmem_max` of [`ModelKernel::default`].
const RMEM_MAX: u32 = 4 << 20;

/// The fake kernel, with a process that runs the scenarios.
pub struct ModelKernel {
    pub(super) kernel: pmon_fake::Kernel,
    own: Task,
    cpus: usize,
    rmem_max: u32,
    sockets: Vec<Option<pmon_fake::Socket>>,
    children: HashSet<u32>,
    is_privileged: bool,
}

impl Default for ModelKernel {
    fn default() -> Self {
        Self::of(CPUS, RMEM_MAX)
    }
}

impl ModelKernel {
    /// Creates a kernel with as many CPUs as the running one, and the same limit of buffers.
    pub fn like(kernel: &RunningKernel) -> Self {
        Self::of(kernel.cpus(), kernel.rmem_max())
    }

    pub(super) fn of(cpus: usize, rmem_max: u32) -> Self {
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

    fn at(&mut self, socket: SocketId) -> &mut pmon_fake::Socket {
        self.sockets[socket.0].as_mut().expect("an open socket")
    }

    /// Renames the process, on the current CPU.
    pub(super) fn rename(&mut self) {
        self.kernel.rename(self.own, "differential");
    }

    /// Starts a child that performs actions and exits, on the current CPU; returns its id.
    pub(super) fn child(&mut self, actions: &[ChildAction], end: ChildEnd) -> u32 {
        let child = self.kernel.fork(self.own);
        self.children.insert(child.tgid.0);
        for emit in actions {
            match emit {
                ChildAction::Session => self.kernel.setsid(child),
                ChildAction::Group => self.kernel.setgid(child, UNPRIVILEGED_ID, UNPRIVILEGED_ID),
                ChildAction::User => self.kernel.setuid(child, UNPRIVILEGED_ID, UNPRIVILEGED_ID),
            }
        }
        match end {
            ChildEnd::Code(code) => self.kernel.exit(child, code),
            ChildEnd::Killed => self.kernel.kill(child.tgid, libc::SIGKILL as u8, false),
            ChildEnd::Aborted => self.kernel.kill(child.tgid, libc::SIGABRT as u8, false),
        }
        child.tgid.0
    }
}

fn code(error: pmon_fake::Errno) -> Errno {
    Errno(error.raw_os_error())
}

impl KernelUnderTest for ModelKernel {
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

    fn open(&mut self) -> SocketId {
        let (kernel, owner) = (&self.kernel, self.own.tgid);
        let socket = match self.is_privileged {
            true => kernel.socket_of(owner),
            false => kernel.unprivileged_socket_of(owner),
        };
        self.sockets.push(Some(socket));
        SocketId(self.sockets.len() - 1)
    }

    fn close(&mut self, socket: SocketId) {
        self.sockets[socket.0] = None;
    }

    fn set_privileged(&mut self, is_privileged: bool) {
        self.is_privileged = is_privileged;
    }

    fn bind(&mut self, socket: SocketId, port: u32, groups: u32) -> CallResult<()> {
        self.at(socket).bind(port, groups).map_err(code)
    }

    fn name(&mut self, socket: SocketId) -> (u32, u32) {
        self.at(socket).name()
    }

    fn connect(&mut self, socket: SocketId, to: Option<(u32, u32)>) -> CallResult<()> {
        match to {
            Some((port, groups)) => self.at(socket).connect(port, groups).map_err(code),
            None => {
                self.at(socket).disconnect();
                Ok(())
            }
        }
    }

    fn peer(&mut self, socket: SocketId) -> (u32, u32) {
        self.at(socket).peer_name()
    }

    fn join(&mut self, socket: SocketId, group: i32) -> CallResult<()> {
        self.at(socket).add_membership(group).map_err(code)
    }

    fn leave(&mut self, socket: SocketId, group: i32) -> CallResult<()> {
        self.at(socket).drop_membership(group).map_err(code)
    }

    fn set_rcvbuf(&mut self, socket: SocketId, bytes: i32) -> CallResult<()> {
        self.at(socket).set_rcvbuf(bytes);
        Ok(())
    }

    fn force_rcvbuf(&mut self, socket: SocketId, bytes: i32) -> CallResult<()> {
        self.at(socket).force_rcvbuf(bytes).map_err(code)
    }

    fn rcvbuf(&mut self, socket: SocketId) -> i32 {
        self.at(socket).memory().rcvbuf as i32
    }

    fn set_no_enobufs(&mut self, socket: SocketId, on: bool) -> CallResult<()> {
        self.at(socket).set_no_enobufs(on);
        Ok(())
    }

    fn take_error(&mut self, socket: SocketId) -> i32 {
        self.at(socket).take_error().map_or(0, |error| error.raw_os_error())
    }

    fn send(&mut self, socket: SocketId, bytes: &[u8], port: u32, groups: u32) -> CallResult<usize> {
        self.at(socket).send_to(bytes, port, groups).map_err(code)
    }

    fn send_on(&mut self, socket: SocketId, bytes: &[u8]) -> CallResult<usize> {
        self.at(socket).send(bytes).map_err(code)
    }

    fn attach(&mut self, socket: SocketId, program: &[Instruction]) -> CallResult<()> {
        let instruction = |&Instruction { code, jt, jf, k }: &_| SockFilter { code, jt, jf, k };
        let program: Vec<_> = program.iter().map(instruction).collect();
        self.at(socket).attach_filter(&program).map_err(code)
    }

    fn detach(&mut self, socket: SocketId) -> CallResult<()> {
        self.at(socket).detach_filter().map_err(code)
    }

    fn lock(&mut self, socket: SocketId, on: bool) -> CallResult<()> {
        self.at(socket).lock_filter(on).map_err(code)
    }

    fn recv(&mut self, socket: SocketId, len: usize, flags: i32) -> CallResult<ReceivedMessage> {
        let mut bytes = vec![0; len];
        let got =
            self.at(socket).recv(&mut bytes, RecvFlags::from_bits_retain(flags as u32)).map_err(code)?;
        bytes.truncate(got.len);
        let flags = if got.truncated { libc::MSG_TRUNC } else { 0 };
        Ok(ReceivedMessage { bytes, returned: got.len, flags, port: got.sender, groups: got.groups })
    }

    fn memory(&mut self, socket: SocketId) -> SocketMemory {
        let memory = self.at(socket).memory();
        SocketMemory { used: memory.rmem_alloc, rcvbuf: memory.rcvbuf, drops: memory.drops }
    }

    fn emit(&mut self, cpu: usize, action: EmitAction) {
        self.kernel.run_on(Cpu(cpu as u32));
        match action {
            EmitAction::Rename => self.rename(),
            EmitAction::Child { actions, end } => {
                self.child(actions, end);
            }
        }
        self.kernel.run_on(Cpu(0));
    }

    fn is_child(&self, tgid: u32) -> bool {
        self.children.contains(&tgid)
    }
}
