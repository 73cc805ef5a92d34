//! The sources of the fake kernel: a socket in this process, and a file descriptor.

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, SubscribeOp, SubscribeRequest};
use pmon_core::{Cpu, Task};
use pmon_fake::{Errno, FdSocket, FdSource, Kernel, OverrunSignal, Socket};

use super::SourceUnderTest;

const CPUS: u32 = 2;
/// A buffer size that suffices for every check.
const LARGE_BUFFER: i32 = 1 << 20;

/// A fake kernel with one process.
struct FakeMachine {
    kernel: Kernel,
    task: Task,
}

impl FakeMachine {
    fn new() -> Self {
        let mut kernel = Kernel::new(CPUS);
        let task = kernel.add_process("conformance");
        Self { kernel, task }
    }

    fn emit(&mut self, cpu: Cpu, name: &str) {
        self.kernel.run_on(cpu);
        self.kernel.rename(self.task, name);
    }

    fn send_to_group(&mut self, datagram: &[u8]) -> u32 {
        let mut socket = self.kernel.socket();
        socket.bind(0, 0).unwrap();
        // No socket has the port 999, so only the group receives it.
        assert_eq!(socket.send_to(datagram, 999, 1), Err(Errno::CONNREFUSED));
        socket.name().0
    }
}

fn request(operation: SubscribeOp, ack: u32) -> Vec<u8> {
    SubscribeRequest::new(operation, ack).encode(0, ByteOrder::NATIVE)
}

fn send(socket: &mut Socket, request: &[u8]) {
    assert_eq!(socket.send(request), Ok(request.len()));
}

/// The fake kernel's [`Socket`].
pub struct InProcess {
    machine: FakeMachine,
    socket: Socket,
    no_enobufs: bool,
}

impl InProcess {
    /// Opens a socket, perhaps with `NETLINK_NO_ENOBUFS`.
    pub fn open(no_enobufs: bool) -> Self {
        let machine = FakeMachine::new();
        let mut socket = machine.kernel.socket();
        socket.bind(0, 1).unwrap();
        socket.force_rcvbuf(LARGE_BUFFER).unwrap();
        socket.set_no_enobufs(no_enobufs);
        Self { machine, socket, no_enobufs }
    }
}

impl SourceUnderTest for InProcess {
    type Source = Socket;

    fn reports_overruns(&self) -> bool {
        !self.no_enobufs
    }

    fn reports_senders(&self) -> bool {
        true
    }

    fn cpus(&self) -> Vec<Cpu> {
        (0..CPUS).map(Cpu).collect()
    }

    fn tid(&self) -> u32 {
        self.machine.task.tid.0
    }

    fn emit(&mut self, cpu: Cpu, name: &str) {
        self.machine.emit(cpu, name);
    }

    fn listen(&mut self, ack: u32) {
        send(&mut self.socket, &request(SubscribeOp::Listen, ack));
    }

    fn ignore(&mut self) {
        send(&mut self.socket, &request(SubscribeOp::Ignore, 0));
    }

    fn send_to_group(&mut self, datagram: &[u8]) -> Result<u32, String> {
        Ok(self.machine.send_to_group(datagram))
    }

    fn shrink_buffer(&mut self) {
        self.socket.force_rcvbuf(0).unwrap();
    }

    fn enlarge_buffer(&mut self) {
        self.socket.force_rcvbuf(LARGE_BUFFER).unwrap();
    }

    fn dropped(&mut self) -> u64 {
        self.socket.memory().drops.into()
    }

    fn source(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

/// An [`FdSource`], and the socket that it reads from.
pub struct Descriptor {
    machine: FakeMachine,
    source: PumpedSource,
}

/// An [`FdSource`] that moves all queued datagrams to its descriptor before each call.
pub struct PumpedSource {
    fd_socket: FdSocket,
    descriptor: FdSource,
}

impl Source for PumpedSource {
    type Error = std::io::Error;

    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        self.fd_socket.pump()?;
        Ok(self.descriptor.receive(batch)?)
    }

    fn drops(&mut self) -> std::io::Result<Option<u64>> {
        Ok(self.descriptor.drops()?)
    }
}

impl Descriptor {
    /// Opens a descriptor that reports overruns by a message.
    pub fn open() -> Self {
        let machine = FakeMachine::new();
        let mut fd_socket = machine.kernel.fd_socket().unwrap();
        fd_socket.set_overrun_signal(OverrunSignal::Message);
        fd_socket.socket().force_rcvbuf(LARGE_BUFFER).unwrap();
        let descriptor = FdSource::new(fd_socket.consumer().unwrap());
        Self { machine, source: PumpedSource { fd_socket, descriptor } }
    }

    fn request(&mut self, operation: SubscribeOp, ack: u32) {
        self.source.descriptor.send(&request(operation, ack)).unwrap();
        self.source.fd_socket.pump().unwrap();
    }
}

impl SourceUnderTest for Descriptor {
    type Source = PumpedSource;

    fn reports_overruns(&self) -> bool {
        true
    }

    fn reports_senders(&self) -> bool {
        false
    }

    fn cpus(&self) -> Vec<Cpu> {
        (0..CPUS).map(Cpu).collect()
    }

    fn tid(&self) -> u32 {
        self.machine.task.tid.0
    }

    fn emit(&mut self, cpu: Cpu, name: &str) {
        self.machine.emit(cpu, name);
    }

    fn listen(&mut self, ack: u32) {
        self.request(SubscribeOp::Listen, ack);
    }

    fn ignore(&mut self) {
        self.request(SubscribeOp::Ignore, 0);
    }

    fn send_to_group(&mut self, datagram: &[u8]) -> Result<u32, String> {
        Ok(self.machine.send_to_group(datagram))
    }

    fn shrink_buffer(&mut self) {
        self.source.fd_socket.socket().force_rcvbuf(0).unwrap();
    }

    fn enlarge_buffer(&mut self) {
        self.source.fd_socket.socket().force_rcvbuf(LARGE_BUFFER).unwrap();
    }

    fn dropped(&mut self) -> u64 {
        self.source.fd_socket.socket().memory().drops.into()
    }

    fn source(&mut self) -> &mut PumpedSource {
        &mut self.source
    }
}
