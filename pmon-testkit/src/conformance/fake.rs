//! The fake kernel: its socket in this process, and as a descriptor.

use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, SubscribeOp, SubscribeRequest};
use pmon_core::{Cpu, Task};
use pmon_fake::{Errno, FdSocket, FdSource, Kernel, OverrunSignal, Socket};

use super::Host;

const CPUS: u32 = 2;
/// Room for more than any check needs.
const ROOM: i32 = 1 << 20;

/// A kernel on which a process does what it is told.
struct Machine {
    kernel: Kernel,
    task: Task,
}

impl Machine {
    fn new() -> Self {
        let mut kernel = Kernel::new(CPUS);
        let task = kernel.add_process("conformance");
        Self { kernel, task }
    }

    fn emit(&mut self, cpu: Cpu, name: &str) {
        self.kernel.run_on(cpu);
        self.kernel.rename(self.task, name);
    }

    fn forge(&mut self, datagram: &[u8]) -> u32 {
        let mut socket = self.kernel.socket();
        socket.bind(0, 0).unwrap();
        // To the group, and to somebody who is not there.
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

/// A [`Socket`].
pub struct InProcess {
    machine: Machine,
    socket: Socket,
    hushed: bool,
}

impl InProcess {
    pub fn open(hushed: bool) -> Self {
        let machine = Machine::new();
        let mut socket = machine.kernel.socket();
        socket.bind(0, 1).unwrap();
        socket.force_rcvbuf(ROOM).unwrap();
        socket.set_no_enobufs(hushed);
        Self { machine, socket, hushed }
    }
}

impl Host for InProcess {
    type Source = Socket;

    fn tells_overruns(&self) -> bool {
        !self.hushed
    }

    fn knows_senders(&self) -> bool {
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

    fn forge(&mut self, datagram: &[u8]) -> Result<u32, String> {
        Ok(self.machine.forge(datagram))
    }

    fn squeeze(&mut self) {
        self.socket.force_rcvbuf(0).unwrap();
    }

    fn relieve(&mut self) {
        self.socket.force_rcvbuf(ROOM).unwrap();
    }

    fn lost(&mut self) -> u64 {
        self.socket.memory().drops.into()
    }

    fn source(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

/// An [`FdSource`], and the wire that it reads from.
pub struct Descriptor {
    machine: Machine,
    pumped: Pumped,
}

/// Whatever can come to the source has come whenever it is read.
pub struct Pumped {
    wire: FdSocket,
    source: FdSource,
}

impl Source for Pumped {
    type Error = std::io::Error;

    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        self.wire.pump()?;
        Ok(self.source.receive(batch)?)
    }

    fn drops(&mut self) -> std::io::Result<Option<u64>> {
        Ok(self.source.drops()?)
    }
}

impl Descriptor {
    pub fn open() -> Self {
        let machine = Machine::new();
        let mut wire = machine.kernel.fd_socket().unwrap();
        wire.set_overrun_signal(OverrunSignal::Message);
        wire.socket().force_rcvbuf(ROOM).unwrap();
        let source = FdSource::new(wire.consumer().unwrap());
        Self { machine, pumped: Pumped { wire, source } }
    }

    fn request(&mut self, operation: SubscribeOp, ack: u32) {
        self.pumped.source.send(&request(operation, ack)).unwrap();
        self.pumped.wire.pump().unwrap();
    }
}

impl Host for Descriptor {
    type Source = Pumped;

    fn tells_overruns(&self) -> bool {
        true
    }

    fn knows_senders(&self) -> bool {
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

    fn forge(&mut self, datagram: &[u8]) -> Result<u32, String> {
        Ok(self.machine.forge(datagram))
    }

    fn squeeze(&mut self) {
        self.pumped.wire.socket().force_rcvbuf(0).unwrap();
    }

    fn relieve(&mut self) {
        self.pumped.wire.socket().force_rcvbuf(ROOM).unwrap();
    }

    fn lost(&mut self) -> u64 {
        self.pumped.wire.socket().memory().drops.into()
    }

    fn source(&mut self) -> &mut Pumped {
        &mut self.pumped
    }
}
