//! The kernel's side of the proc connector: who listens, the numbers of each CPU, and who gets what.
//!
//! After `drivers/connector/cn_proc.c` and `connector.c` of Linux 6.18; `pmon-testkit/src/differential` compares the two.

use std::cmp::Reverse;

use pmon_core::batch::Batch;
use pmon_core::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event, EventBody, layout, u32_at, u64_at};
use pmon_core::{Cpu, MonoNs, Seq};
use rustix::io::Errno;

use crate::netlink::fault_actions::FaultState;
use crate::netlink::filter::ClassicFilter;
use crate::netlink::member::SocketState;
use crate::netlink::multicast::Multicast;
use crate::netlink::receive_queue::{RMEM_MAX, charge, charge_alone};
use crate::netlink::request;
use crate::netlink::sequence_numbers::SequenceNumbers;

/// The multicast group of process events, as a bit of `sockaddr_nl.nl_groups`.
pub(crate) const GROUP: u32 = 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) numbers: SequenceNumbers,
    now: MonoNs,
    /// How far the clock moves with each event, in ns.
    pub(crate) pace: u64,
    /// The CPU on which whatever happens now happens.
    pub(crate) cpu: Cpu,
    /// `proc_event_num_listeners`: without one, nothing is emitted, and no number used.
    pub(crate) listeners: i32,
    pub(crate) members: Vec<SocketState>,
    /// Whether somebody has ever had a filter: without one, nobody needs to ask in what order members hear.
    is_filtered: bool,
    /// How often somebody has joined a first group.
    joins: u64,
    /// Events that happened, by verb or by frame: the place that a fault script means.
    pub(crate) happened: u64,
    pub(crate) trouble: FaultState,
    /// `net.core.rmem_max`.
    pub(crate) rmem_max: u32,
}

impl Connector {
    pub(crate) fn new(cpus: u32) -> Self {
        Self {
            numbers: SequenceNumbers::new(cpus),
            now: MonoNs(0),
            pace: 1_000,
            cpu: Cpu(0),
            listeners: 0,
            members: Vec::new(),
            is_filtered: false,
            joins: 0,
            happened: 0,
            trouble: FaultState::default(),
            rmem_max: RMEM_MAX,
        }
    }

    pub(crate) fn now(&self) -> MonoNs {
        self.now
    }

    /// The clock goes on; it never goes back.
    pub(crate) fn at(&mut self, time: MonoNs) {
        self.now = self.now.max(time);
    }

    /// An event of the current CPU, caused by a verb; `None` if nobody listens.
    pub(crate) fn happen(&mut self, body: EventBody) -> Option<Event> {
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

    /// An event that happened elsewhere, as it was there but for its number, if there have been others; whether it is emitted.
    #[inline]
    pub(crate) fn frame(&mut self, event: &Event) -> bool {
        let Some(seq) = self.number(event.cpu, event.seq, event.time) else { return false };
        let Some(frame) = (Event { seq, ..*event }).encode(ByteOrder::NATIVE) else { return false };
        self.broadcast(event.cpu, &frame);
        self.settle_held(event.cpu);
        true
    }

    /// The same of an event as [`Event::encode`] gives it, received by the only socket at once: nothing is queued if nothing was. `false`
    /// if it is queued.
    #[inline]
    pub(crate) fn frame_into(&mut self, frame: &[u8; EVENT_DATAGRAM_LEN], batch: &mut Batch) -> bool {
        let (cpu, seq) = (Cpu(u32_at(frame, layout::CPU.start)), Seq(u32_at(frame, layout::CN_SEQ.start)));
        let time = u64_at(frame, layout::TIMESTAMP_NS.start);
        let Some(number) = self.number(cpu, seq, MonoNs(time)) else { return true };
        let mut copy;
        let mut frame = frame;
        if number != seq {
            copy = *frame;
            renumber(&mut copy, number);
            frame = &copy;
        }
        if !self.trouble.is_in_the_way()
            && let [member] = &*self.members
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
        if self.is_silent() {
            self.numbers.silence(cpu);
            return None;
        }
        Some(self.numbers.of_frame(cpu, seq))
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

    /// So many events of that CPU happen and are dropped for want of room.
    pub(crate) fn overrun(&mut self, cpu: Cpu, events: u64) {
        self.skip(cpu, events);
        self.lose(events);
    }

    /// Events that have their numbers, but no datagram: the kernel had no memory for it.
    pub(crate) fn skip(&mut self, cpu: Cpu, events: u64) {
        self.pass(self.pace.saturating_mul(events));
        self.numbers.give(cpu, events);
    }

    /// Each listener drops so many datagrams that have no number, or one that is skipped anyhow.
    pub(crate) fn lose(&mut self, events: u64) {
        for member in self.members.iter_mut().filter(|member| member.listens()) {
            member.sock.lose(events);
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

    pub(crate) fn open(&mut self, admin: bool) -> usize {
        self.members.push(SocketState::new(admin));
        self.members.len() - 1
    }

    /// `close`. The kernel's count of listeners stays as it is.
    pub(crate) fn close(&mut self, id: usize) {
        self.members[id].close();
    }

    pub(crate) fn member(&mut self, id: usize) -> &mut SocketState {
        &mut self.members[id]
    }

    /// `SO_ATTACH_FILTER`.
    pub(crate) fn attach(&mut self, id: usize, filter: ClassicFilter) {
        self.members[id].filter = Some(filter);
        self.is_filtered = true;
    }

    /// The groups that it is in from now on (`netlink_update_subscriptions`).
    pub(crate) fn set_groups(&mut self, id: usize, groups: u32) {
        let member = &mut self.members[id];
        if member.groups == 0 && groups != 0 {
            self.joins += 1;
            member.joined = self.joins;
        }
        member.groups = groups;
    }

    /// Whether no other socket has that port.
    pub(crate) fn is_free(&self, port: u32) -> bool {
        !self.members.iter().any(|member| member.bound && member.port == port)
    }

    /// A multicast from user space, to all but its sender and the socket with that other port.
    pub(crate) fn multicast(&mut self, from: usize, datagram: &[u8], groups: u32, but: u32) {
        let sender = self.members[from].port;
        let is_addressed =
            |member: &SocketState| member.groups & groups != 0 && member.port != sender && member.port != but;
        if self.is_filtered {
            return self.filter_to(Multicast::new(datagram, sender, groups, self.cpu), is_addressed);
        }
        for member in self.members.iter_mut().filter(|member| is_addressed(member)) {
            member.sock.deliver(datagram, sender, groups);
        }
    }

    /// A datagram from user space for one socket; it says which group it also went to. How many bytes went there, or were not wanted.
    pub(crate) fn unicast(
        &mut self,
        from: usize,
        datagram: &[u8],
        port: u32,
        groups: u32,
    ) -> Result<usize, Errno> {
        let (sender, cpu) = (self.members[from].port, self.cpu);
        let is_heard = |member: &SocketState| member.peer.is_none_or(|(peer, _)| peer == sender);
        let to = self.members.iter_mut().find(|member| member.bound && member.port == port);
        let to = to.filter(|member| is_heard(member)).ok_or(Errno::CONNREFUSED)?;
        let mut len = datagram.len();
        let charge = if groups == 0 { charge_alone(len) } else { charge(len) };
        if let Some(filter) = &mut to.filter {
            match filter.run(datagram, cpu) {
                0 => return Ok(len),
                kept => len = len.min(kept),
            }
        }
        // The sender waits, or is told to; nothing is dropped.
        if !to.sock.has_room(charge) {
            return Err(Errno::AGAIN);
        }
        to.sock.deliver_charged(&datagram[..len], charge, sender, groups);
        Ok(len)
    }

    /// A datagram from that socket for the kernel (`cn_rx_skb`).
    pub(crate) fn request(&mut self, id: usize, datagram: &[u8]) {
        let Some(request) = request::parse(datagram) else { return };
        let (listeners, err) = self.members[id].ask(&request);
        self.listeners += listeners;
        if self.listeners >= 1 {
            self.tick();
            self.emit(self.cpu, EventBody::Ack { ack: request.ack.wrapping_add(1), err });
        }
    }

    /// SequenceNumbers an event and sends it.
    pub(crate) fn emit(&mut self, cpu: Cpu, body: EventBody) -> Event {
        let event = Event { time: self.now, seq: self.numbers.give(cpu, 1), cpu, body };
        if let Some(frame) = event.encode(ByteOrder::NATIVE) {
            self.broadcast(cpu, &frame);
        }
        event
    }

    pub(crate) fn tick(&mut self) {
        self.pass(self.pace);
    }

    /// So many ns pass.
    pub(crate) fn pass(&mut self, ns: u64) {
        self.now.0 = self.now.0.saturating_add(ns);
    }

    /// Whether what happens now is not emitted.
    #[inline]
    fn is_silent(&mut self) -> bool {
        if self.trouble.blind > 0 {
            self.trouble.blind -= 1;
            return true;
        }
        self.listeners < 1
    }

    /// Sends to all who listen, or keeps back.
    #[inline]
    pub(crate) fn broadcast(&mut self, cpu: Cpu, datagram: &[u8]) {
        if self.trouble.is_in_the_way() {
            return self.broadcast_faulty(cpu, datagram);
        }
        self.deliver(datagram, 0);
    }

    /// To each member of the group (`do_one_broadcast`).
    #[inline]
    pub(crate) fn deliver(&mut self, datagram: &[u8], sender: u32) {
        // A socket that is not bound is taken for the one that sends.
        let is_addressed = |member: &SocketState| {
            member.listens() && member.port != 0 && member.port != sender && !member.ended
        };
        if self.is_filtered {
            let cpu = if sender == 0 { Cpu(u32_at(datagram, layout::CPU.start)) } else { self.cpu };
            return self.filter_to(Multicast::new(datagram, sender, GROUP, cpu), is_addressed);
        }
        for member in self.members.iter_mut().filter(|member| is_addressed(member)) {
            if sender != 0 || member.wants(datagram) {
                member.sock.deliver(datagram, sender, GROUP);
            }
        }
    }

    /// To those who are addressed, in the order in which the kernel has them.
    #[cold]
    fn filter_to(&mut self, mut message: Multicast<'_>, is_addressed: impl Fn(&SocketState) -> bool) {
        let mut members: Vec<_> = self.members.iter_mut().filter(|member| is_addressed(member)).collect();
        members.sort_by_key(|member| Reverse(member.joined));
        members.into_iter().for_each(|member| message.deliver(member));
    }
}

/// Writes another number into an event's datagram: `nlmsg_seq`, and `cn_msg.seq`.
fn renumber(datagram: &mut [u8], seq: Seq) {
    for field in [layout::NLMSG_SEQ, layout::CN_SEQ] {
        if let Some(bytes) = datagram.get_mut(field) {
            bytes.copy_from_slice(&seq.0.to_ne_bytes());
        }
    }
}
