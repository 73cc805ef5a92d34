//! A scenario that is being played: its sockets, what was seen, and a witness who hears everything.
//!
//! Other processes of a live host emit events too, and every event that fills a buffer or takes a number disturbs. A
//! witness, a further member of the group with a large buffer, hears them: a scenario that was disturbed is played again.

use std::thread;
use std::time::Duration;

use pmon_core::wire::{ByteOrder, Event, EventBody, EventKind};

use super::count::Count;
use super::host::{Deed, Host, Memory, Outcome, Received, Socket};
use super::request::{IGNORE, INVALID, LISTEN, Raw};
use super::show::{Names, runs};

/// A scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Whether the kernel must count no listener when it begins. While it lasts, other listeners hear nothing.
    pub(crate) from_silence: bool,
    pub(crate) play: fn(&mut Scene<'_>),
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) seen: String,
}

/// Why a scenario was not played to its end undisturbed.
#[derive(Debug, thiserror::Error)]
pub enum Disturbed {
    #[error("other processes emitted events, in each of {0} tries; the last: {1}")]
    Others(u32, String),
    #[error("the kernel does not fall silent")]
    NotSilent,
}

/// How often a scenario is tried, and the pause between.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);
/// The witness's buffer: 20,000 events.
const WITNESS: i32 = 8 << 20;
/// More listeners than the kernel counts, those included that have gone without a word.
const COUNTED: u32 = 20_000;

/// A scenario that is being played. Sockets count from 0, which is the witness.
pub(crate) struct Scene<'h> {
    host: &'h mut dyn Host,
    names: Names,
    sockets: Vec<Socket>,
    witness: Socket,
    count: Count,
    /// `cn_msg.ack` of what the requests are acknowledged with.
    acks: Vec<u32>,
    lines: Vec<Line>,
    /// What the witness heard of others.
    foreign: Option<String>,
}

/// Plays a scenario until it is undisturbed; gives what was seen.
///
/// # Errors
/// [`Disturbed`], if it never is.
pub(crate) fn play(host: &mut dyn Host, scenario: &Scenario) -> Result<Vec<Line>, Disturbed> {
    let mut last = String::new();
    for _ in 0..TRIES {
        let mut scene = Scene::new(&mut *host);
        let is_ready = scene.foreign.is_none() && (!scenario.from_silence || scene.fall_silent());
        if is_ready {
            (scenario.play)(&mut scene);
        }
        let (lines, foreign) = scene.end();
        match foreign {
            None if is_ready => return Ok(lines),
            None => return Err(Disturbed::NotSilent),
            Some(foreign) => last = foreign,
        }
        thread::sleep(PAUSE);
    }
    Err(Disturbed::Others(TRIES, last))
}

impl<'h> Scene<'h> {
    fn new(host: &'h mut dyn Host) -> Self {
        let witness = host.open();
        let names = Names { own: host.own(), ..Names::default() };
        let mut this = Self {
            host,
            names,
            sockets: Vec::new(),
            witness,
            count: Count::default(),
            acks: Vec::new(),
            lines: Vec::new(),
            foreign: None,
        };
        this.bound(witness, 0, 1);
        if this.host.force_rcvbuf(witness, WITNESS).is_err() {
            this.host.set_rcvbuf(witness, WITNESS).expect("a buffer");
        }
        this.ask(witness, &Raw::new(LISTEN));
        this.drain_witness();
        // What was before is none of the scenario's business.
        this.foreign = None;
        for cpu in 0..this.host.cpus() {
            this.rebase(cpu);
        }
        this
    }

    /// The witness hears nothing: somebody has made the kernel silent.
    fn is_unheard(&mut self) {
        self.foreign = Some("the witness hears nothing".into());
    }

    /// Counts numbers of a CPU from the next one on.
    fn rebase(&mut self, cpu: usize) {
        self.drain_witness();
        self.host.act(cpu, Deed::Rename);
        let number = self.host.cpu_number(cpu);
        let last = self.drain_witness().into_iter().rfind(|event| event.cpu.0 == number);
        let Some(base) = last.map(|event| event.seq.0) else { return self.is_unheard() };
        match self.names.base.get_mut(cpu) {
            Some(entry) => entry.1 = base,
            None => self.names.base.push((number, base)),
        }
    }

    /// Makes the kernel count no listener; numbers count from the next one on.
    fn fall_silent(&mut self) -> bool {
        let taker = self.socket();
        let is_silent = (0..COUNTED).any(|_| {
            self.send(taker, &Raw::new(INVALID));
            self.send(taker, &Raw::new(IGNORE));
            self.drain_witness();
            self.host.act(0, Deed::Rename);
            self.drain_witness().is_empty()
        });
        if is_silent {
            // One that is counted for a moment: its ack tells the number.
            let teller = self.socket();
            self.ask(teller, &Raw::new(LISTEN));
            let told = self.drain_witness();
            match told.last() {
                Some(ack) => self.names.base[0].1 = ack.seq.0,
                None => self.is_unheard(),
            }
            self.ask(teller, &Raw::new(IGNORE));
            self.host.close(teller);
            self.host.close(taker);
            self.sockets.clear();
            self.names.ports.truncate(1);
        }
        is_silent
    }

    /// What the witness has heard since it was last asked. It notes what was of others.
    fn drain_witness(&mut self) -> Vec<Event> {
        let mut heard = Vec::new();
        loop {
            match self.host.recv(self.witness, 128, libc::MSG_DONTWAIT) {
                Ok(received) if received.port == 0 => {
                    match Event::decode(&received.bytes, ByteOrder::NATIVE) {
                        Ok(event) => {
                            if !self.is_own(&event) {
                                self.foreign = Some(format!("{event:?}"));
                            }
                            heard.push(event);
                        }
                        // One that a filter of the scenario has cut.
                        Err(_) if self.is_own_rename(&received.bytes) => {}
                        Err(why) => self.foreign = Some(why.to_string()),
                    }
                }
                Ok(received) => {
                    if !self.names.ports.contains(&received.port) {
                        self.foreign = Some(format!("a message of port {}", received.port));
                    }
                }
                Err(errno) if errno.0 == libc::EAGAIN => return heard,
                Err(errno) => self.foreign = Some(format!("the witness: {errno}")),
            }
        }
    }

    fn is_own(&self, event: &Event) -> bool {
        let is_own =
            |task: pmon_core::Task| task.tid.0 == self.names.own.1 || self.host.is_child(task.tgid.0);
        match event.body {
            EventBody::Ack { ack, .. } => self.acks.contains(&ack),
            EventBody::Fork { parent, child } => is_own(parent) || is_own(child),
            _ => event.task().is_some_and(is_own),
        }
    }

    /// Whether it begins as the event of our thread's name does.
    fn is_own_rename(&self, bytes: &[u8]) -> bool {
        let is = |at: usize, value: u32| bytes.get(at..at + 4) == Some(&value.to_ne_bytes());
        is(36, EventKind::Comm.what().unwrap_or(0)) && is(52, self.names.own.1)
    }

    /// Puts the kernel's count right, and closes.
    fn end(mut self) -> (Vec<Line>, Option<String>) {
        for socket in std::mem::take(&mut self.sockets) {
            self.host.close(socket);
        }
        while self.count.made != 0 {
            let socket = self.host.open();
            let requests: &[u32] = if self.count.made > 0 { &[INVALID, IGNORE] } else { &[LISTEN] };
            for &operation in requests {
                self.ask(socket, &Raw::new(operation));
            }
            self.host.close(socket);
        }
        // An event of another CPU may have reached a socket, and not the witness yet: before the next of that CPU, it has.
        for cpu in 0..self.host.cpus() {
            self.host.act(cpu, Deed::Rename);
        }
        self.drain_witness();
        self.host.close(self.witness);
        (self.lines, self.foreign)
    }

    fn ask(&mut self, socket: Socket, request: &Raw) {
        self.send_to(socket, &request.bytes(), 0, 0).expect("a request sent");
    }

    fn bound(&mut self, socket: Socket, port: u32, groups: u32) {
        self.host.bind(socket, port, groups).expect("bound");
        let port = self.host.name(socket).0;
        self.names.ports.push(port);
    }
}

/// What a scenario does.
impl Scene<'_> {
    pub(crate) fn host(&mut self) -> &mut dyn Host {
        &mut *self.host
    }

    /// A socket that has no port yet.
    pub(crate) fn socket(&mut self) -> Socket {
        let socket = self.host.open();
        self.sockets.push(socket);
        socket
    }

    /// A socket with a port, in no group.
    pub(crate) fn speaker(&mut self) -> Socket {
        let socket = self.socket();
        self.bound(socket, 0, 0);
        socket
    }

    /// A member of the group that asks for nothing.
    pub(crate) fn member(&mut self) -> Socket {
        let socket = self.socket();
        self.bound(socket, 0, 1);
        socket
    }

    /// A member that has asked, and has taken what came.
    pub(crate) fn listener(&mut self) -> Socket {
        let socket = self.member();
        self.ask(socket, &Raw::new(LISTEN));
        self.heard(socket);
        socket
    }

    /// A listener whose buffer is of so many bytes, as `SO_RCVBUFFORCE` takes them.
    pub(crate) fn listener_with(&mut self, bytes: i32, no_enobufs: bool) -> Socket {
        let socket = self.listener();
        self.host.force_rcvbuf(socket, bytes).expect("SO_RCVBUFFORCE");
        self.host.set_no_enobufs(socket, no_enobufs).expect("NETLINK_NO_ENOBUFS");
        socket
    }

    pub(crate) fn close(&mut self, socket: Socket) {
        self.sockets.retain(|&other| other != socket);
        self.host.close(socket);
    }

    /// Sends a request to the kernel.
    pub(crate) fn send(&mut self, socket: Socket, request: &Raw) -> String {
        self.send_bytes(socket, &request.bytes(), 0, 0)
    }

    pub(crate) fn send_bytes(&mut self, socket: Socket, bytes: &[u8], port: u32, groups: u32) -> String {
        match self.send_to(socket, bytes, port, groups) {
            Ok(sent) => sent.to_string(),
            Err(errno) => errno.to_string(),
        }
    }

    fn send_to(&mut self, socket: Socket, bytes: &[u8], port: u32, groups: u32) -> Outcome<usize> {
        if let Some(ack) = bytes.get(28..32) {
            let ack = u32::from_ne_bytes(ack.try_into().expect("four bytes")).wrapping_add(1);
            if !self.acks.contains(&ack) {
                self.acks.push(ack);
            }
        }
        let outcome = self.host.send(socket, bytes, port, groups);
        if port == 0 && outcome.is_ok() {
            self.count.sent(socket, bytes);
        }
        let name = self.host.name(socket).0;
        if !self.names.ports.contains(&name) {
            self.names.ports.push(name);
        }
        outcome
    }

    /// `connect(2)`, and where it stands then: its port, and its peer.
    pub(crate) fn connect(&mut self, socket: Socket, to: Option<(u32, u32)>) -> String {
        let outcome = self.host.connect(socket, to);
        let (name, peer) = (self.host.name(socket), self.host.peer(socket));
        if name.0 != 0 && !self.names.ports.contains(&name.0) {
            self.names.ports.push(name.0);
        }
        let what = outcome.map_or_else(|errno| errno.to_string(), |()| "done".into());
        let [name, peer] =
            [name, peer].map(|(port, groups)| format!("{}, groups {groups:#x}", self.names.port(port)));
        format!("{what}: {name}; peer {peer}")
    }

    /// `send(2)`, without an address.
    pub(crate) fn send_on(&mut self, socket: Socket, bytes: &[u8]) -> String {
        self.host.send_on(socket, bytes).map_or_else(|errno| errno.to_string(), |sent| sent.to_string())
    }

    /// So many renames, on the first CPU.
    pub(crate) fn rename(&mut self, times: usize) {
        (0..times).for_each(|_| self.host.act(0, Deed::Rename));
    }

    pub(crate) fn recv(&mut self, socket: Socket) -> String {
        self.recv_by(socket, 1 << 18, 0)
    }

    pub(crate) fn recv_by(&mut self, socket: Socket, len: usize, flags: i32) -> String {
        let outcome = self.receive(socket, len, flags);
        self.names.outcome(&outcome)
    }

    pub(crate) fn receive(&mut self, socket: Socket, len: usize, flags: i32) -> Outcome<Received> {
        self.host.recv(socket, len, flags | libc::MSG_DONTWAIT)
    }

    /// All that waits, in words, until `EAGAIN`.
    pub(crate) fn heard(&mut self, socket: Socket) -> String {
        runs(&self.take(socket, |names, outcome| names.outcome(outcome)))
    }

    /// All that waits, in short: how many datagrams and errors, in their order.
    pub(crate) fn tally(&mut self, socket: Socket) -> String {
        runs(&self.take(socket, |_, outcome| match outcome {
            Ok(received) => format!("{} B", received.bytes.len()),
            Err(errno) => errno.to_string(),
        }))
    }

    fn take(&mut self, socket: Socket, text: impl Fn(&Names, &Outcome<Received>) -> String) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            match self.receive(socket, 1 << 18, 0) {
                Err(errno) if errno.0 == libc::EAGAIN => return texts,
                outcome => texts.push(text(&self.names, &outcome)),
            }
        }
    }

    /// What the witness has heard since it was last asked.
    pub(crate) fn witness(&mut self) -> String {
        let heard: Vec<_> = self.drain_witness().iter().map(|event| self.names.event(event)).collect();
        runs(&heard)
    }

    /// Numbers that a CPU's events have taken since the start. It takes one itself.
    pub(crate) fn numbers(&mut self, cpu: usize) -> i64 {
        self.drain_witness();
        self.host.act(cpu, Deed::Rename);
        let Some(&(number, base)) = self.names.base.get(cpu) else { return 0 };
        let heard = self.drain_witness();
        let Some(last) = heard.iter().rfind(|event| event.cpu.0 == number) else {
            self.is_unheard();
            return 0;
        };
        i64::from(last.seq.0.wrapping_sub(base).cast_signed()) - 1
    }

    /// Does something while the witness is no member.
    pub(crate) fn without_witness(&mut self, what: impl FnOnce(&mut Self)) {
        self.host.leave(self.witness, 1).expect("left");
        what(self);
        self.host.join(self.witness, 1).expect("joined");
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn note(&mut self, what: impl Into<String>, seen: impl ToString) {
        self.lines.push(Line { what: what.into(), seen: seen.to_string() });
    }

    /// Memory and drops.
    pub(crate) fn note_memory(&mut self, what: impl Into<String>, socket: Socket) {
        let Memory { used, rcvbuf, drops } = self.host.memory(socket);
        self.note(what, format!("{used} of {rcvbuf} B, {drops} drops"));
    }
}
