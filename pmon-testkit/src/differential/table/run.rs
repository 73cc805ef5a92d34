//! A running scenario: its sockets, its observations, and a witness that receives every event.
//!
//! Other processes emit events, too. Each one fills a buffer and uses a sequence number, and so
//! changes what the scenario observes. The witness is an additional member of the group with a
//! large buffer. If it receives a foreign event, the scenario is repeated.

use std::thread;
use std::time::Duration;

use pmon_core::wire::{ByteOrder, Event, EventBody, EventKind, layout};

use super::kernel::{CallResult, EmitAction, KernelUnderTest, ReceivedMessage, SocketId, SocketMemory};
use super::listener_count::ListenerCount;
use super::normalize::{Normalizer, runs};
use super::request::{IGNORE, INVALID, LISTEN, RawRequest};
use crate::guard;

/// A scenario of the differential table.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Whether the kernel must count no listener at the start. Until the end of the scenario, no
    /// other listener on the machine receives events.
    pub(crate) without_listeners: bool,
    pub(crate) perform: fn(&mut ScenarioRun<'_>),
}

/// A value that a scenario has observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) label: String,
    pub(crate) value: String,
}

/// Why a scenario has no result.
#[derive(Debug, thiserror::Error)]
pub enum Disturbed {
    /// Other processes emitted events in each attempt. Holds the number of attempts, and the last
    /// foreign event.
    #[error("other processes emitted events, in each of {0} attempts; the last: {1}")]
    ForeignEvents(u32, String),
    /// The kernel's count of listeners could not be lowered to zero.
    #[error("the kernel does not stop emitting events")]
    StillListening,
}

/// Maximum number of attempts per scenario.
const MAX_ATTEMPTS: u32 = 50;
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// Size of the witness's buffer in bytes, for 20,000 events.
const WITNESS_BUFFER: i32 = 8 << 20;
/// Maximum number of listeners that the kernel counts, including those that were closed without
/// IGNORE.
const MAX_LISTENERS: u32 = 20_000;

/// A running scenario. Socket 0 is the witness.
pub(crate) struct ScenarioRun<'h> {
    kernel: &'h mut dyn KernelUnderTest,
    names: Normalizer,
    sockets: Vec<SocketId>,
    witness: SocketId,
    listeners: ListenerCount,
    /// `cn_msg.ack` of the acknowledgements that the scenario has caused.
    acks: Vec<u32>,
    observations: Vec<Observation>,
    /// The last foreign event that the witness has received.
    foreign: Option<String>,
}

/// Runs a scenario until no other process disturbs it. Returns its observations. Each retry is
/// reported by [`guard::report_retry`].
///
/// # Errors
/// [`Disturbed`], if every attempt was disturbed.
pub(crate) fn run_scenario(
    kernel: &mut dyn KernelUnderTest,
    scenario: &Scenario,
) -> Result<Vec<Observation>, Disturbed> {
    let mut last = String::new();
    for _ in 0..MAX_ATTEMPTS {
        let mut run = ScenarioRun::new(&mut *kernel);
        let is_ready = run.foreign.is_none() && (!scenario.without_listeners || run.silence());
        if is_ready {
            (scenario.perform)(&mut run);
        }
        let (observations, foreign) = run.end();
        match foreign {
            None if is_ready => return Ok(observations),
            None => return Err(Disturbed::StillListening),
            Some(foreign) => last = foreign,
        }
        guard::report_retry("differential", "other processes emit events");
        thread::sleep(PAUSE);
    }
    Err(Disturbed::ForeignEvents(MAX_ATTEMPTS, last))
}

impl<'h> ScenarioRun<'h> {
    fn new(kernel: &'h mut dyn KernelUnderTest) -> Self {
        let witness = kernel.open();
        let names = Normalizer { own: kernel.own(), ..Normalizer::default() };
        let mut this = Self {
            kernel,
            names,
            sockets: Vec::new(),
            witness,
            listeners: ListenerCount::default(),
            acks: Vec::new(),
            observations: Vec::new(),
            foreign: None,
        };
        this.bound(witness, 0, 1);
        if this.kernel.force_rcvbuf(witness, WITNESS_BUFFER).is_err() {
            this.kernel.set_rcvbuf(witness, WITNESS_BUFFER).expect("a buffer");
        }
        this.request(witness, &RawRequest::new(LISTEN));
        this.drain_witness();
        // Events before the start do not disturb.
        this.foreign = None;
        for cpu in 0..this.kernel.cpus() {
            this.reset_base(cpu);
        }
        this
    }

    /// Notes that the witness receives nothing: another process has lowered the count of listeners.
    fn note_not_received(&mut self) {
        self.foreign = Some("the witness receives nothing".into());
    }

    /// Makes numbers of a CPU relative to its next one.
    fn reset_base(&mut self, cpu: usize) {
        self.drain_witness();
        self.kernel.emit(cpu, EmitAction::Rename);
        let number = self.kernel.cpu_number(cpu);
        let last = self.drain_witness().into_iter().rfind(|event| event.cpu.0 == number);
        let Some(base) = last.map(|event| event.seq.0) else { return self.note_not_received() };
        match self.names.base.get_mut(cpu) {
            Some(entry) => entry.1 = base,
            None => self.names.base.push((number, base)),
        }
    }

    /// Lowers the kernel's count of listeners to zero, and makes numbers relative to the next one.
    /// Returns whether the kernel emits no more events.
    fn silence(&mut self) -> bool {
        let lowerer = self.socket();
        let is_silent = (0..MAX_LISTENERS).any(|_| {
            self.send(lowerer, &RawRequest::new(INVALID));
            self.send(lowerer, &RawRequest::new(IGNORE));
            self.drain_witness();
            self.kernel.emit(0, EmitAction::Rename);
            self.drain_witness().is_empty()
        });
        if is_silent {
            // The acknowledgement of a short subscription shows the number.
            let prober = self.socket();
            self.request(prober, &RawRequest::new(LISTEN));
            let acks = self.drain_witness();
            match acks.last() {
                Some(ack) => self.names.base[0].1 = ack.seq.0,
                None => self.note_not_received(),
            }
            self.request(prober, &RawRequest::new(IGNORE));
            self.kernel.close(prober);
            self.kernel.close(lowerer);
            self.sockets.clear();
            self.names.ports.truncate(1);
        }
        is_silent
    }

    /// Returns the events that the witness has received since the last call, and notes foreign
    /// ones.
    fn drain_witness(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.kernel.recv(self.witness, 128, libc::MSG_DONTWAIT) {
                Ok(received) if received.port == 0 => {
                    match Event::decode(&received.bytes, ByteOrder::NATIVE) {
                        Ok(event) => {
                            if !self.is_own(&event) {
                                self.foreign = Some(format!("{event:?}"));
                            }
                            events.push(event);
                        }
                        // A filter of the scenario has truncated it.
                        Err(_) if self.is_own_rename(&received.bytes) => {}
                        Err(why) => self.foreign = Some(why.to_string()),
                    }
                }
                Ok(received) => {
                    if !self.names.ports.contains(&received.port) {
                        self.foreign = Some(format!("a message of port {}", received.port));
                    }
                }
                Err(errno) if errno.0 == libc::EAGAIN => return events,
                Err(errno) => self.foreign = Some(format!("the witness: {errno}")),
            }
        }
    }

    fn is_own(&self, event: &Event) -> bool {
        let is_own =
            |task: pmon_core::Task| task.tid.0 == self.names.own.1 || self.kernel.is_child(task.tgid.0);
        match event.body {
            EventBody::Ack { ack, .. } => self.acks.contains(&ack),
            EventBody::Fork { parent, child } => is_own(parent) || is_own(child),
            _ => event.task().is_some_and(is_own),
        }
    }

    /// Returns whether a truncated datagram is the COMM event of the scenario's thread.
    fn is_own_rename(&self, bytes: &[u8]) -> bool {
        let is = |at: usize, value: u32| bytes.get(at..at + 4) == Some(&value.to_ne_bytes());
        is(36, EventKind::Comm.what().unwrap_or(0)) && is(52, self.names.own.1)
    }

    /// Closes all sockets, and restores the kernel's count of listeners.
    fn end(mut self) -> (Vec<Observation>, Option<String>) {
        for socket in std::mem::take(&mut self.sockets) {
            self.kernel.close(socket);
        }
        while self.listeners.difference != 0 {
            let socket = self.kernel.open();
            let requests: &[u32] = if self.listeners.difference > 0 { &[INVALID, IGNORE] } else { &[LISTEN] };
            for &operation in requests {
                self.request(socket, &RawRequest::new(operation));
            }
            self.kernel.close(socket);
        }
        // An event of another CPU may have reached a socket, but not yet the witness. It reaches
        // the witness before the next event of that CPU.
        for cpu in 0..self.kernel.cpus() {
            self.kernel.emit(cpu, EmitAction::Rename);
        }
        self.drain_witness();
        self.kernel.close(self.witness);
        (self.observations, self.foreign)
    }

    fn request(&mut self, socket: SocketId, request: &RawRequest) {
        self.send_to(socket, &request.bytes(), 0, 0).expect("a request sent");
    }

    fn bound(&mut self, socket: SocketId, port: u32, groups: u32) {
        self.kernel.bind(socket, port, groups).expect("bound");
        let port = self.kernel.name(socket).0;
        self.names.ports.push(port);
    }
}

/// The actions of scenarios.
impl ScenarioRun<'_> {
    pub(crate) fn kernel(&mut self) -> &mut dyn KernelUnderTest {
        &mut *self.kernel
    }

    /// Opens a socket that has no port yet.
    pub(crate) fn socket(&mut self) -> SocketId {
        let socket = self.kernel.open();
        self.sockets.push(socket);
        socket
    }

    /// Opens a socket with a port, in no group.
    pub(crate) fn sender(&mut self) -> SocketId {
        let socket = self.socket();
        self.bound(socket, 0, 0);
        socket
    }

    /// Opens a member of the group that sends no request.
    pub(crate) fn member(&mut self) -> SocketId {
        let socket = self.socket();
        self.bound(socket, 0, 1);
        socket
    }

    /// Opens a member of the group that has subscribed, and has received the acknowledgement.
    pub(crate) fn listener(&mut self) -> SocketId {
        let socket = self.member();
        self.request(socket, &RawRequest::new(LISTEN));
        self.received(socket);
        socket
    }

    /// Opens a listener with a buffer of that size, as for `SO_RCVBUFFORCE`.
    pub(crate) fn listener_with(&mut self, bytes: i32, no_enobufs: bool) -> SocketId {
        let socket = self.listener();
        self.kernel.force_rcvbuf(socket, bytes).expect("SO_RCVBUFFORCE");
        self.kernel.set_no_enobufs(socket, no_enobufs).expect("NETLINK_NO_ENOBUFS");
        socket
    }

    pub(crate) fn close(&mut self, socket: SocketId) {
        self.sockets.retain(|&other| other != socket);
        self.kernel.close(socket);
    }

    /// Sends a request to the kernel. Returns the result as text.
    pub(crate) fn send(&mut self, socket: SocketId, request: &RawRequest) -> String {
        self.send_bytes(socket, &request.bytes(), 0, 0)
    }

    pub(crate) fn send_bytes(&mut self, socket: SocketId, bytes: &[u8], port: u32, groups: u32) -> String {
        match self.send_to(socket, bytes, port, groups) {
            Ok(sent) => sent.to_string(),
            Err(errno) => errno.to_string(),
        }
    }

    fn send_to(&mut self, socket: SocketId, bytes: &[u8], port: u32, groups: u32) -> CallResult<usize> {
        if let Some(ack) = bytes.get(layout::CN_ACK) {
            let ack = u32::from_ne_bytes(ack.try_into().expect("four bytes")).wrapping_add(1);
            if !self.acks.contains(&ack) {
                self.acks.push(ack);
            }
        }
        let outcome = self.kernel.send(socket, bytes, port, groups);
        if port == 0 && outcome.is_ok() {
            self.listeners.sent(socket, bytes);
        }
        let name = self.kernel.name(socket).0;
        if !self.names.ports.contains(&name) {
            self.names.ports.push(name);
        }
        outcome
    }

    /// Calls `connect(2)`. Returns the result, the port and the peer as text.
    pub(crate) fn connect(&mut self, socket: SocketId, to: Option<(u32, u32)>) -> String {
        let outcome = self.kernel.connect(socket, to);
        let (name, peer) = (self.kernel.name(socket), self.kernel.peer(socket));
        if name.0 != 0 && !self.names.ports.contains(&name.0) {
            self.names.ports.push(name.0);
        }
        let label = outcome.map_or_else(|errno| errno.to_string(), |()| "done".into());
        let [name, peer] =
            [name, peer].map(|(port, groups)| format!("{}, groups {groups:#x}", self.names.port(port)));
        format!("{label}: {name}; peer {peer}")
    }

    /// Calls `send(2)`, without an address. Returns the result as text.
    pub(crate) fn send_on(&mut self, socket: SocketId, bytes: &[u8]) -> String {
        self.kernel.send_on(socket, bytes).map_or_else(|errno| errno.to_string(), |sent| sent.to_string())
    }

    /// Emits that many COMM events on the first CPU.
    pub(crate) fn rename(&mut self, times: usize) {
        (0..times).for_each(|_| self.kernel.emit(0, EmitAction::Rename));
    }

    pub(crate) fn recv(&mut self, socket: SocketId) -> String {
        self.recv_by(socket, 1 << 18, 0)
    }

    pub(crate) fn recv_by(&mut self, socket: SocketId, len: usize, flags: i32) -> String {
        let outcome = self.receive(socket, len, flags);
        self.names.outcome(&outcome)
    }

    pub(crate) fn receive(
        &mut self,
        socket: SocketId,
        len: usize,
        flags: i32,
    ) -> CallResult<ReceivedMessage> {
        self.kernel.recv(socket, len, flags | libc::MSG_DONTWAIT)
    }

    /// Receives until `EAGAIN`. Returns each event and error as text.
    pub(crate) fn received(&mut self, socket: SocketId) -> String {
        runs(&self.take(socket, |names, outcome| names.outcome(outcome)))
    }

    /// Receives until `EAGAIN`. Returns the length of each datagram, and each error, as text.
    pub(crate) fn received_lengths(&mut self, socket: SocketId) -> String {
        runs(&self.take(socket, |_, outcome| match outcome {
            Ok(received) => format!("{} B", received.bytes.len()),
            Err(errno) => errno.to_string(),
        }))
    }

    fn take(
        &mut self,
        socket: SocketId,
        text: impl Fn(&Normalizer, &CallResult<ReceivedMessage>) -> String,
    ) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            match self.receive(socket, 1 << 18, 0) {
                Err(errno) if errno.0 == libc::EAGAIN => return texts,
                outcome => texts.push(text(&self.names, &outcome)),
            }
        }
    }

    /// Returns the events that the witness has received since the last call, as text.
    pub(crate) fn witness(&mut self) -> String {
        let received: Vec<_> = self.drain_witness().iter().map(|event| self.names.event(event)).collect();
        runs(&received)
    }

    /// Returns how many numbers a CPU's events have used since the start. The call uses one more.
    pub(crate) fn numbers(&mut self, cpu: usize) -> i64 {
        self.drain_witness();
        self.kernel.emit(cpu, EmitAction::Rename);
        let Some(&(number, base)) = self.names.base.get(cpu) else { return 0 };
        let received = self.drain_witness();
        let Some(last) = received.iter().rfind(|event| event.cpu.0 == number) else {
            self.note_not_received();
            return 0;
        };
        i64::from(last.seq.0.wrapping_sub(base).cast_signed()) - 1
    }

    /// Performs an action while the witness is not a member of the group.
    pub(crate) fn without_witness(&mut self, label: impl FnOnce(&mut Self)) {
        self.kernel.leave(self.witness, 1).expect("left");
        label(self);
        self.kernel.join(self.witness, 1).expect("joined");
    }

    pub(crate) fn names(&self) -> &Normalizer {
        &self.names
    }

    pub(crate) fn note(&mut self, label: impl Into<String>, value: impl ToString) {
        self.observations.push(Observation { label: label.into(), value: value.to_string() });
    }

    /// Notes the used buffer space of a socket, the size of its buffer, and its drops.
    pub(crate) fn note_memory(&mut self, label: impl Into<String>, socket: SocketId) {
        let SocketMemory { used, rcvbuf, drops } = self.kernel.memory(socket);
        self.note(label, format!("{used} of {rcvbuf} B, {drops} drops"));
    }
}
