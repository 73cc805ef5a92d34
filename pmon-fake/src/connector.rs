//! The kernel's side of the proc connector: who listens, the numbers of each CPU, and who gets what.
//!
//! After `drivers/connector/cn_proc.c` and `connector.c` of Linux 6.18; `examples/differential` compares the two.

use pmon_core::batch::Batch;
use pmon_core::wire::{Body, ByteOrder, EVENT_FRAME, Event, Kind};
use pmon_core::{Cpu, MonoNs, Seq};
use rustix::io::Errno;

use crate::faults::{Action, Faults};
use crate::request;
use crate::sock::{RMEM_MAX, Sock};

/// The multicast group of process events, as a bit of `sockaddr_nl.nl_groups`.
pub(crate) const GROUP: u32 = 1;
/// `PROC_EVENT_ALL`.
const ALL: u32 = 0xE000_03C7;
/// `PROC_EVENT_NONZERO_EXIT`: exits other than of success.
const NONZERO_EXIT: u32 = 0x2000_0000;
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;
/// Where in a datagram `cn_msg.seq` is, `proc_event.what`, `.cpu` and `.timestamp_ns`, and the `exit_code` of an exit.
const SEQ: usize = 24;
const WHAT: usize = 36;
const CPU: usize = 40;
const TIME: usize = 44;
const EXIT_CODE: usize = 60;
/// No host has so many CPUs. What a frame claims to come from beyond is delivered, but not counted.
const MAX_CPUS: usize = 8192;

/// See the module.
#[derive(Debug)]
pub(crate) struct Connector {
    cpus: Vec<Count>,
    now: MonoNs,
    /// How far the clock moves with each event, in ns.
    pub(crate) pace: u64,
    /// The CPU on which whatever happens now happens.
    pub(crate) cpu: Cpu,
    /// `proc_event_num_listeners`: without one, nothing is emitted, and no number used.
    pub(crate) listeners: i32,
    members: Vec<Member>,
    /// Events that happened, by verb or by frame: the place that a fault script means.
    happened: u64,
    faults: Faults,
    blind: u64,
    held: Vec<Held>,
    cut: Option<usize>,
    /// `net.core.rmem_max`.
    pub(crate) rmem_max: u32,
}

/// The numbers of a CPU.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    next: u32,
    /// A number was given out before the first frame came,
    numbered: bool,
    /// which it has.
    framed: bool,
    /// What is added to the numbers of frames.
    shift: u32,
}

/// An open socket.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) sock: Sock,
    pub(crate) port: u32,
    /// Whether the port is this socket's: after `EADDRINUSE`, it shows one that is another's.
    pub(crate) bound: bool,
    pub(crate) groups: u32,
    /// `sk_user_data`: what it last asked for.
    input: Option<Input>,
    pub(crate) open: bool,
    /// Whether its owner has `CAP_NET_ADMIN`.
    pub(crate) admin: bool,
    /// Calls that will be interrupted, or find nothing.
    pub(crate) interrupted: u32,
    pub(crate) starved: u32,
    /// Nothing will come any more.
    pub(crate) ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Input {
    operation: u32,
    mask: u32,
}

/// A datagram that is kept back until so many of other CPUs were delivered.
#[derive(Debug)]
struct Held {
    cpu: Cpu,
    until: u32,
    datagram: Vec<u8>,
}

impl Connector {
    pub(crate) fn new(cpus: u32) -> Self {
        Self {
            cpus: vec![Count::default(); (cpus as usize).clamp(1, MAX_CPUS)],
            now: MonoNs(0),
            pace: 1_000,
            cpu: Cpu(0),
            listeners: 0,
            members: Vec::new(),
            happened: 0,
            faults: Faults::default(),
            blind: 0,
            held: Vec::new(),
            cut: None,
            rmem_max: RMEM_MAX,
        }
    }

    pub(crate) fn cpus(&self) -> u32 {
        self.cpus.len() as u32
    }

    pub(crate) fn now(&self) -> MonoNs {
        self.now
    }

    /// The clock goes on; it never goes back.
    pub(crate) fn at(&mut self, time: MonoNs) {
        self.now = self.now.max(time);
    }

    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.settle();
        (self.faults, self.blind, self.cut) = (faults, 0, None);
        self.each(|member| (member.interrupted, member.starved) = (0, 0));
    }

    /// The next number of that CPU.
    pub(crate) fn set_next(&mut self, cpu: Cpu, seq: Seq) {
        if let Some(count) = self.count(cpu) {
            *count = Count { next: seq.0, ..Count::default() };
        }
    }

    pub(crate) fn next(&self, cpu: Cpu) -> Option<Seq> {
        self.cpus.get(cpu.0 as usize).map(|count| Seq(count.next))
    }

    /// An event of the current CPU, caused by a verb; `None` if nobody listens.
    pub(crate) fn happen(&mut self, body: Body) -> Option<Event> {
        let cpu = self.cpu;
        self.inject(cpu);
        self.tick();
        if self.is_silent() {
            return None;
        }
        let event = self.emit(cpu, body);
        self.settle_held(cpu);
        Some(event)
    }

    /// An event that happened elsewhere, as it was there but for its number, if there have been others.
    #[inline]
    pub(crate) fn frame(&mut self, event: &Event) {
        let Some(seq) = self.number(event.cpu, event.seq, event.time) else { return };
        if let Some(frame) = (Event { seq, ..*event }).encode(ByteOrder::NATIVE) {
            self.broadcast(event.cpu, &frame);
            self.settle_held(event.cpu);
        }
    }

    /// The same of an event as [`Event::encode`] gives it, received by the only socket at once: nothing is queued if nothing was. `false`
    /// if it is queued.
    #[inline]
    pub(crate) fn frame_into(&mut self, frame: &[u8; EVENT_FRAME], batch: &mut Batch) -> bool {
        let (cpu, seq) = (Cpu(u32_at(frame, CPU)), Seq(u32_at(frame, SEQ)));
        let time = u64::from_ne_bytes(*frame[TIME..].first_chunk().unwrap_or(&[0; 8]));
        let Some(number) = self.number(cpu, seq, MonoNs(time)) else { return true };
        let mut copy;
        let mut frame = frame;
        if number != seq {
            copy = *frame;
            renumber(&mut copy, number);
            frame = &copy;
        }
        let is_direct = self.cut.is_none() && self.held.is_empty();
        if let ([member], true) = (&mut *self.members, is_direct)
            && member.takes_all()
        {
            return batch.push(frame, 0);
        }
        self.broadcast(cpu, frame);
        self.settle_held(cpu);
        false
    }

    /// The number here of an event that happened elsewhere; `None` if it is not emitted.
    #[inline]
    fn number(&mut self, cpu: Cpu, seq: Seq, time: MonoNs) -> Option<Seq> {
        self.inject(cpu);
        self.at(time);
        let is_silent = self.is_silent();
        let number = self.renumbered(cpu, seq, is_silent);
        (!is_silent).then_some(number)
    }

    /// The same of a datagram of any form.
    pub(crate) fn raw_frame(&mut self, datagram: &[u8]) {
        let Ok(event) = Event::decode(datagram, ByteOrder::NATIVE) else {
            self.inject(self.cpu);
            return self.broadcast(self.cpu, datagram);
        };
        let Some(seq) = self.number(event.cpu, event.seq, event.time) else { return };
        if seq == event.seq {
            self.broadcast(event.cpu, datagram);
        } else {
            let mut copy = datagram.to_vec();
            renumber(&mut copy, seq);
            self.broadcast(event.cpu, &copy);
        }
        self.settle_held(event.cpu);
    }

    /// So many frames that are not delivered: the numbers behind them move up.
    pub(crate) fn leave_out(&mut self, cpu: Cpu, events: u32) {
        if let Some(count) = self.count(cpu) {
            count.shift = count.shift.wrapping_sub(events);
        }
    }

    /// So many events of that CPU happen and are dropped for want of room.
    pub(crate) fn overrun(&mut self, cpu: Cpu, events: u64) {
        self.skip(cpu, events);
        self.lose(events);
    }

    /// Events that have their numbers, but no datagram: the kernel had no memory for it.
    pub(crate) fn skip(&mut self, cpu: Cpu, events: u64) {
        self.now.0 += self.pace * events;
        if let Some(count) = self.count(cpu) {
            count.advance(events as u32);
        }
    }

    /// Each listener drops so many datagrams that have no number, or one that is skipped anyhow.
    pub(crate) fn lose(&mut self, events: u64) {
        for member in self.members.iter_mut().filter(|member| member.listens()) {
            member.sock.lose(events);
        }
    }

    /// Nothing is kept back any longer.
    pub(crate) fn settle(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.deliver(&held.datagram, 0);
        }
    }

    /// From now on nothing comes, and each socket says so once it is empty.
    pub(crate) fn end(&mut self) {
        self.settle();
        for member in &mut self.members {
            member.ended = true;
            member.sock.wake_sleeper();
        }
    }

    /// The events that have happened so far, by verb or by frame.
    pub(crate) fn happened(&self) -> u64 {
        self.happened
    }

    pub(crate) fn open(&mut self, admin: bool) -> usize {
        self.members.push(Member {
            sock: Sock::default(),
            port: 0,
            bound: false,
            groups: 0,
            input: None,
            open: true,
            admin,
            interrupted: 0,
            starved: 0,
            ended: false,
        });
        self.members.len() - 1
    }

    /// `close`. The kernel's count of listeners stays as it is.
    pub(crate) fn close(&mut self, id: usize) {
        let member = &mut self.members[id];
        member.open = false;
        member.bound = false;
        member.groups = 0;
        member.input = None;
        member.sock = Sock::default();
    }

    pub(crate) fn member(&mut self, id: usize) -> &mut Member {
        &mut self.members[id]
    }

    /// Whether no other socket has that port.
    pub(crate) fn is_free(&self, port: u32) -> bool {
        !self.members.iter().any(|member| member.bound && member.port == port)
    }

    /// A multicast from user space, to all but its sender and the socket with that other port.
    pub(crate) fn multicast(&mut self, from: usize, datagram: &[u8], groups: u32, but: u32) {
        let sender = self.members[from].port;
        for member in &mut self.members {
            if member.groups & groups != 0 && member.port != sender && member.port != but {
                member.sock.deliver(datagram, sender, groups);
            }
        }
    }

    /// A datagram from user space for one socket; it says which group it also went to.
    pub(crate) fn unicast(
        &mut self,
        from: usize,
        datagram: &[u8],
        port: u32,
        groups: u32,
    ) -> Result<(), Errno> {
        let sender = self.members[from].port;
        let to = self.members.iter_mut().find(|member| member.bound && member.port == port);
        let sock = &mut to.ok_or(Errno::CONNREFUSED)?.sock;
        // The sender waits, or is told to; nothing is dropped.
        if !sock.has_room(datagram.len()) {
            return Err(Errno::AGAIN);
        }
        sock.deliver(datagram, sender, groups);
        Ok(())
    }

    /// A datagram from that socket for the kernel (`cn_rx_skb`, `cn_proc_mcast_ctl`).
    pub(crate) fn request(&mut self, id: usize, datagram: &[u8]) {
        let Some(request) = request::parse(datagram) else { return };
        let member = &mut self.members[id];
        let mask = match request.mask.map(|mask| mask & ALL) {
            None | Some(0) => ALL,
            Some(mask) => mask,
        };
        let before = member.input.replace(Input { operation: request.operation, mask });
        let mut err = 0;
        match request.operation {
            LISTEN if before.is_none_or(|input| input.operation != LISTEN) => self.listeners += 1,
            LISTEN => {}
            IGNORE => {
                self.listeners -= i32::from(before.is_some_and(|input| input.operation != IGNORE));
                member.input = Some(Input { operation: IGNORE, mask: 0 });
            }
            _ => err = Errno::INVAL.raw_os_error() as u32,
        }
        if self.listeners >= 1 {
            self.tick();
            self.emit(self.cpu, Body::Ack { ack: request.ack.wrapping_add(1), err });
        }
    }

    /// Numbers an event and sends it.
    pub(crate) fn emit(&mut self, cpu: Cpu, body: Body) -> Event {
        let seq = match self.count(cpu) {
            Some(count) => {
                let seq = count.next;
                count.advance(1);
                seq
            }
            None => 0,
        };
        let event = Event { time: self.now, seq: Seq(seq), cpu, body };
        if let Some(frame) = event.encode(ByteOrder::NATIVE) {
            self.broadcast(cpu, &frame);
        }
        event
    }

    pub(crate) fn tick(&mut self) {
        self.now.0 += self.pace;
    }

    /// What the script has before the event that is about to happen.
    #[inline]
    fn inject(&mut self, cpu: Cpu) {
        let happens = self.happened;
        self.happened += 1;
        if self.faults.is_due(happens) {
            for action in self.faults.before(happens, cpu) {
                self.apply(action);
            }
        }
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Overrun { cpu, events } => self.overrun(cpu, events),
            Action::NoMemory { cpu, events } => self.skip(cpu, events),
            Action::Emit { cpu, events, body } => {
                for _ in 0..events {
                    self.tick();
                    self.emit(cpu, body);
                }
            }
            Action::Interrupt { calls } => self.each(|member| member.interrupted += calls),
            Action::Starve { calls } => self.each(|member| member.starved += calls),
            Action::Cut { bytes } => self.cut = Some(bytes),
            Action::Datagram { bytes, sender } => self.deliver(&bytes, sender),
            Action::Unknown { cpu, what } => {
                let event = self.unnumbered(cpu);
                if let Some(mut frame) = event.encode(ByteOrder::NATIVE) {
                    frame[36..40].copy_from_slice(&what.to_ne_bytes());
                    self.broadcast(cpu, &frame);
                }
            }
            Action::Forge { cpu, sender } => {
                // Plausible: it has the number that comes next.
                let seq = self.next(cpu).unwrap_or_default();
                let event = Event { time: self.now, seq, cpu, body: Body::Sid { task: Default::default() } };
                if let Some(frame) = event.encode(ByteOrder::NATIVE) {
                    self.deliver(&frame, sender);
                }
            }
            Action::Hold { cpu, until } => {
                self.held.push(Held { cpu, until, datagram: Vec::new() });
            }
            Action::Step { ns } => self.now.0 += ns,
            Action::Blind { events } => self.blind += events,
            Action::End => self.end(),
        }
    }

    fn each(&mut self, change: impl FnMut(&mut Member)) {
        self.members.iter_mut().filter(|member| member.open).for_each(change);
    }

    /// An event that takes a number and says nothing.
    fn unnumbered(&mut self, cpu: Cpu) -> Event {
        self.tick();
        let seq = self.next(cpu).unwrap_or_default();
        if let Some(count) = self.count(cpu) {
            count.advance(1);
        }
        Event { time: self.now, seq, cpu, body: Body::Sid { task: Default::default() } }
    }

    /// Whether what happens now is not emitted.
    #[inline]
    fn is_silent(&mut self) -> bool {
        if self.blind > 0 {
            self.blind -= 1;
            return true;
        }
        self.listeners < 1
    }

    #[inline]
    fn renumbered(&mut self, cpu: Cpu, seq: Seq, is_silent: bool) -> Seq {
        let Some(count) = self.count(cpu) else { return seq };
        if is_silent {
            count.shift = count.shift.wrapping_sub(u32::from(count.framed));
            return seq;
        }
        if !std::mem::replace(&mut count.framed, true) && count.numbered {
            count.shift = count.next.wrapping_sub(seq.0);
        }
        let seq = seq.0.wrapping_add(count.shift);
        count.next = seq.wrapping_add(1);
        Seq(seq)
    }

    #[inline]
    fn count(&mut self, cpu: Cpu) -> Option<&mut Count> {
        let index = cpu.0 as usize;
        if index >= self.cpus.len() && index < MAX_CPUS {
            self.cpus.resize(index + 1, Count::default());
        }
        self.cpus.get_mut(index)
    }

    /// Sends to all who listen, or keeps back.
    #[inline]
    fn broadcast(&mut self, cpu: Cpu, datagram: &[u8]) {
        if self.cut.is_some() || !self.held.is_empty() {
            return self.broadcast_faulty(cpu, datagram);
        }
        self.deliver(datagram, 0);
    }

    #[cold]
    fn broadcast_faulty(&mut self, cpu: Cpu, datagram: &[u8]) {
        let kept = self.cut.take().unwrap_or(usize::MAX).min(datagram.len());
        let datagram = &datagram[..kept];
        // Of one CPU, none overtakes another.
        self.release(|held| held.cpu == cpu && !held.datagram.is_empty());
        match self.held.iter_mut().find(|held| held.cpu == cpu && held.datagram.is_empty()) {
            Some(held) => held.datagram = datagram.to_vec(),
            None => self.deliver(datagram, 0),
        }
    }

    /// To each member of the group (`do_one_broadcast`).
    #[inline]
    fn deliver(&mut self, datagram: &[u8], sender: u32) {
        for member in &mut self.members {
            // A socket that is not bound is taken for the one that sends.
            let is_addressed = member.listens() && member.port != 0 && member.port != sender;
            if is_addressed && !member.ended && (sender != 0 || member.wants(datagram)) {
                member.sock.deliver(datagram, sender, GROUP);
            }
        }
    }

    /// After an event of that CPU: what was kept back for as long as this is delivered.
    #[inline]
    fn settle_held(&mut self, cpu: Cpu) {
        if self.held.is_empty() {
            return;
        }
        for held in self.held.iter_mut().filter(|held| held.cpu != cpu && !held.datagram.is_empty()) {
            held.until = held.until.saturating_sub(1);
        }
        self.release(|held| held.until == 0 && !held.datagram.is_empty());
    }

    fn release(&mut self, is_due: impl Fn(&Held) -> bool) {
        let mut at = 0;
        while at < self.held.len() {
            if is_due(&self.held[at]) {
                let held = self.held.remove(at);
                self.deliver(&held.datagram, 0);
            } else {
                at += 1;
            }
        }
    }
}

impl Count {
    fn advance(&mut self, events: u32) {
        self.next = self.next.wrapping_add(events);
        if self.framed {
            self.shift = self.shift.wrapping_add(events);
        } else {
            self.numbered = true;
        }
    }
}

impl Member {
    fn listens(&self) -> bool {
        self.groups & GROUP != 0
    }

    /// Whether it hears everything, and would have it at once.
    #[inline]
    fn takes_all(&self) -> bool {
        self.listens()
            && self.port != 0
            && self.starved == 0
            && !self.ended
            && matches!(self.input, None | Some(Input { operation: LISTEN, mask: ALL }))
            && self.sock.is_idle()
    }

    /// `cn_filter`, for what the kernel sends.
    #[inline]
    fn wants(&self, datagram: &[u8]) -> bool {
        match self.input {
            None | Some(Input { operation: LISTEN, mask: ALL }) => true,
            Some(Input { operation: IGNORE, .. }) => false,
            Some(Input { mask, .. }) => {
                let (what, code) = (u32_at(datagram, WHAT), u32_at(datagram, EXIT_CODE));
                let is_failure = mask & NONZERO_EXIT != 0 && Some(what) == Kind::Exit.what() && code != 0;
                mask == ALL || is_failure || mask & what != 0
            }
        }
    }
}

/// A field of a datagram; 0 where it ends before.
#[inline]
fn u32_at(datagram: &[u8], at: usize) -> u32 {
    datagram.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// Writes another number into an event's datagram: `nlmsg_seq`, and `cn_msg.seq`.
fn renumber(datagram: &mut [u8], seq: Seq) {
    for at in [8, SEQ] {
        if let Some(bytes) = datagram.get_mut(at..at + 4) {
            bytes.copy_from_slice(&seq.0.to_ne_bytes());
        }
    }
}
