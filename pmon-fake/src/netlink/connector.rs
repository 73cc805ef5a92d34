//! The kernel's side of the proc connector: the listener count, the emission of events, and their
//! delivery to sockets.
//!
//! After `drivers/connector/cn_proc.c` and `connector.c` of Linux 6.18; the `differential` tool of
//! `pmon-testkit` compares the two.

use std::cmp::Reverse;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pmon_core::batch::Batch;
use pmon_core::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event, EventBody, layout, u32_at, u64_at};
use pmon_core::{Cpu, MonoNs, Seq};
use rustix::io::Errno;

use crate::faults::injector::FaultState;
use crate::faults::place::{ComingEvent, EventProcess};
use crate::netlink::filter::ClassicFilter;
use crate::netlink::message::{PROC_GROUP, set_seq};
use crate::netlink::multicast::Multicast;
use crate::netlink::receive_queue::{RMEM_MAX, truesize, truesize_unicast};
use crate::netlink::request;
use crate::netlink::sequence_numbers::SequenceNumbers;
use crate::netlink::socket_state::SocketState;

/// The state that all sockets of a fake kernel share.
#[derive(Debug, Default)]
pub(crate) struct Connector {
    pub(crate) seq: SequenceNumbers,
    pub(crate) now: MonoNs,
    /// The time that passes with each event, in ns.
    pub(crate) event_ns: u64,
    /// The CPU on which the next event of this kernel happens.
    pub(crate) current_cpu: Cpu,
    /// The count of listeners (`proc_event_num_listeners`). Below 1, no event is emitted and no
    /// sequence number used.
    pub(crate) listeners: i32,
    pub(crate) sockets: Vec<SocketState>,
    /// Whether any socket has ever had a filter. Without one, the order of delivery makes no
    /// difference.
    has_filters: bool,
    /// How often a socket has joined its first group.
    joins: u64,
    /// Events that happened so far, emitted or not: the event number that a fault script refers to.
    pub(crate) events: u64,
    pub(crate) faults: FaultState,
    /// The maximum of `SO_RCVBUF` in bytes (`net.core.rmem_max`).
    pub(crate) rmem_max: u32,
}

/// Locks the connector, also after a panic of another thread, which has failed its test anyway.
pub(crate) fn lock(connector: &Mutex<Connector>) -> MutexGuard<'_, Connector> {
    connector.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connector {
    pub(crate) fn new(cpus: u32) -> Self {
        Self { seq: SequenceNumbers::new(cpus), event_ns: 1_000, rmem_max: RMEM_MAX, ..Self::default() }
    }

    /// Advances the clock to `time`, unless it is past it already.
    pub(crate) fn advance_to(&mut self, time: MonoNs) {
        self.now = self.now.max(time);
    }

    /// Emits an event of this kernel on the current CPU.
    pub(crate) fn emit_own(&mut self, body: EventBody, process: EventProcess<'_>) {
        let (cpu, time) = (self.current_cpu, self.now);
        self.inject_faults(cpu, || ComingEvent {
            event: Some(Event { time, seq: Seq(0), cpu, body }),
            process,
        });
        self.tick();
        if !self.suppresses_event() {
            self.emit(cpu, body);
            self.release_due(cpu);
        }
    }

    /// Emits an external event with its time and CPU, and its number as [`SequenceNumbers`] maps
    /// it; returns `false` if the event is not emitted.
    #[inline]
    pub(crate) fn emit_external(&mut self, event: &Event, process: EventProcess<'_>) -> bool {
        let coming = || ComingEvent { event: Some(*event), process };
        let Some(seq) = self.begin_external(event.cpu, event.seq, event.time, coming) else { return false };
        let Some(datagram) = (Event { seq, ..*event }).encode(ByteOrder::NATIVE) else {
            self.faults.loses_event = false;
            return false;
        };
        self.broadcast(event.cpu, &datagram);
        self.release_due(event.cpu);
        true
    }

    /// Emits an external, encoded event, which is pushed to `batch` instead of being queued if the
    /// kernel has one socket and that accepts it directly; returns `false` if the event was queued.
    #[inline]
    pub(crate) fn emit_external_into(&mut self, bytes: &[u8; EVENT_DATAGRAM_LEN], batch: &mut Batch) -> bool {
        let cpu = Cpu(u32_at(bytes, layout::CPU.start));
        let external = Seq(u32_at(bytes, layout::CN_SEQ.start));
        let time = u64_at(bytes, layout::TIMESTAMP_NS.start);
        let coming =
            || ComingEvent { event: Event::decode(bytes, ByteOrder::NATIVE).ok(), ..ComingEvent::default() };
        let Some(seq) = self.begin_external(cpu, external, MonoNs(time), coming) else { return true };
        let mut copy;
        let mut bytes = bytes;
        if seq != external {
            copy = *bytes;
            set_seq(&mut copy, seq);
            bytes = &copy;
        }
        if !self.faults.intercepts_datagrams()
            && let [socket] = &*self.sockets
            && socket.accepts_directly()
        {
            return batch.push(bytes, 0);
        }
        self.broadcast(cpu, bytes);
        self.release_due(cpu);
        false
    }

    /// Emits an external datagram of any form; one that is an event is numbered as such.
    pub(crate) fn emit_external_datagram(&mut self, datagram: &[u8], process: EventProcess<'_>) {
        let Ok(event) = Event::decode(datagram, ByteOrder::NATIVE) else {
            self.inject_faults(self.current_cpu, ComingEvent::default);
            return self.broadcast(self.current_cpu, datagram);
        };
        let coming = || ComingEvent { event: Some(event), process };
        let Some(seq) = self.begin_external(event.cpu, event.seq, event.time, coming) else { return };
        if seq == event.seq {
            self.broadcast(event.cpu, datagram);
        } else {
            let mut copy = datagram.to_vec();
            set_seq(&mut copy, seq);
            self.broadcast(event.cpu, &copy);
        }
        self.release_due(event.cpu);
    }

    /// Applies due faults and advances the clock for an external event; returns its number here, or
    /// `None` if it is not emitted.
    #[inline]
    fn begin_external<'a>(
        &mut self,
        cpu: Cpu,
        seq: Seq,
        time: MonoNs,
        event: impl FnOnce() -> ComingEvent<'a>,
    ) -> Option<Seq> {
        self.inject_faults(cpu, event);
        self.advance_to(time);
        if self.suppresses_event() {
            self.seq.omit_suppressed(cpu);
            return None;
        }
        Some(self.seq.map_external(cpu, seq))
    }

    /// Makes `events` events of `cpu` happen and be dropped for lack of buffer space.
    pub(crate) fn overrun(&mut self, cpu: Cpu, events: u64) {
        self.skip_numbers(cpu, events);
        self.drop_datagrams(events);
    }

    /// Uses the numbers of `events` events that have no datagram, as when the kernel has no memory
    /// for one.
    pub(crate) fn skip_numbers(&mut self, cpu: Cpu, events: u64) {
        self.advance(self.event_ns.saturating_mul(events));
        self.seq.allocate(cpu, events);
    }

    /// Counts `events` drops on each socket in the group, and reports `ENOBUFS` there.
    pub(crate) fn drop_datagrams(&mut self, events: u64) {
        for socket in self.sockets.iter_mut().filter(|socket| socket.is_in_proc_group()) {
            socket.queue.force_drops(events);
        }
    }

    /// Ends the input: each socket is at end of file once its queue is empty.
    pub(crate) fn end(&mut self) {
        self.release_all();
        for socket in &mut self.sockets {
            socket.ended = true;
            socket.queue.notify_waiter();
        }
    }

    /// Attaches a filter to socket `id`.
    pub(crate) fn attach_filter(&mut self, id: usize, filter: ClassicFilter) {
        self.sockets[id].filter = Some(filter);
        self.has_filters = true;
    }

    /// Sets the groups of a socket (`netlink_update_subscriptions`).
    pub(crate) fn set_groups(&mut self, id: usize, groups: u32) {
        let socket = &mut self.sockets[id];
        if socket.groups == 0 && groups != 0 {
            self.joins += 1;
            socket.join_order = self.joins;
        }
        socket.groups = groups;
    }

    pub(crate) fn is_port_free(&self, port: u32) -> bool {
        !self.sockets.iter().any(|socket| socket.bound && socket.port == port)
    }

    /// Multicasts a datagram of socket `from` to `groups`, except to its sender and to the socket
    /// at port `except`.
    pub(crate) fn multicast(&mut self, from: usize, datagram: &[u8], groups: u32, except: u32) {
        let sender = self.sockets[from].port;
        let is_addressed = |socket: &SocketState| {
            socket.groups & groups != 0 && socket.port != sender && socket.port != except
        };
        if self.has_filters {
            let multicast = Multicast::new(datagram, sender, groups, self.current_cpu);
            return self.deliver_filtered(multicast, is_addressed);
        }
        for socket in self.sockets.iter_mut().filter(|socket| is_addressed(socket)) {
            socket.queue.deliver(datagram, sender, groups);
        }
    }

    /// Sends a datagram of socket `from` to the socket at `port`; `groups` are those it was also
    /// multicast to.
    ///
    /// Returns the length that the receiver's filter left, or the whole length if the filter
    /// rejected the datagram.
    pub(crate) fn unicast(
        &mut self,
        from: usize,
        datagram: &[u8],
        port: u32,
        groups: u32,
    ) -> Result<usize, Errno> {
        let (sender, cpu) = (self.sockets[from].port, self.current_cpu);
        let accepts_sender = |socket: &SocketState| socket.peer.is_none_or(|(peer, _)| peer == sender);
        let receiver = self.sockets.iter_mut().find(|socket| socket.bound && socket.port == port);
        let receiver = receiver.filter(|socket| accepts_sender(socket)).ok_or(Errno::CONNREFUSED)?;
        let mut len = datagram.len();
        let truesize = if groups == 0 { truesize_unicast(len) } else { truesize(len) };
        if let Some(filter) = &mut receiver.filter {
            match filter.run(datagram, cpu) {
                0 => return Ok(len),
                kept => len = len.min(kept),
            }
        }
        // A unicast is never dropped: its sender blocks, or gets EAGAIN.
        if !receiver.queue.has_room(truesize) {
            return Err(Errno::AGAIN);
        }
        receiver.queue.enqueue(&datagram[..len], truesize, sender, groups);
        Ok(len)
    }

    /// Handles a datagram that socket `id` sent to the kernel (`cn_rx_skb`).
    pub(crate) fn request(&mut self, id: usize, datagram: &[u8]) {
        let Some(request) = request::parse(datagram) else { return };
        let (change, err) = self.sockets[id].apply_request(&request);
        self.listeners += change;
        if self.listeners >= 1 {
            self.tick();
            self.emit(self.current_cpu, EventBody::Ack { ack: request.ack.wrapping_add(1), err });
        }
    }

    /// Numbers an event of this kernel and broadcasts it.
    pub(crate) fn emit(&mut self, cpu: Cpu, body: EventBody) {
        let event = Event { time: self.now, seq: self.seq.allocate(cpu, 1), cpu, body };
        if let Some(datagram) = event.encode(ByteOrder::NATIVE) {
            self.broadcast(cpu, &datagram);
        }
    }

    /// Advances the clock by the time of one event.
    pub(crate) fn tick(&mut self) {
        self.advance(self.event_ns);
    }

    pub(crate) fn advance(&mut self, ns: u64) {
        self.now.0 = self.now.0.saturating_add(ns);
    }

    /// Returns whether the event that happens now is not emitted, and counts it against the fault
    /// `blind`.
    #[inline]
    fn suppresses_event(&mut self) -> bool {
        let is_suppressed = if self.faults.blind > 0 {
            self.faults.blind -= 1;
            true
        } else {
            self.listeners < 1
        };
        if is_suppressed {
            self.faults.loses_event = false;
        }
        is_suppressed
    }

    /// Sends a datagram of the kernel to the group, subject to the faults `lose`, `truncate` and
    /// `hold`.
    #[inline]
    pub(crate) fn broadcast(&mut self, cpu: Cpu, datagram: &[u8]) {
        if self.faults.intercepts_datagrams() {
            return self.broadcast_with_faults(cpu, datagram);
        }
        self.deliver(datagram, 0);
    }

    /// Delivers a datagram to each member of the group (`do_one_broadcast`).
    #[inline]
    pub(crate) fn deliver(&mut self, datagram: &[u8], sender: u32) {
        let is_addressed = |socket: &SocketState| socket.is_addressed_by_kernel() && socket.port != sender;
        if self.has_filters {
            let cpu = if sender == 0 { Cpu(u32_at(datagram, layout::CPU.start)) } else { self.current_cpu };
            return self.deliver_filtered(Multicast::new(datagram, sender, PROC_GROUP, cpu), is_addressed);
        }
        for socket in self.sockets.iter_mut().filter(|socket| is_addressed(socket)) {
            if sender != 0 || socket.mask_selects(datagram) {
                socket.queue.deliver(datagram, sender, PROC_GROUP);
            }
        }
    }

    /// Drops an event as if the buffer of each socket that it is sent to were full; returns whether
    /// there is such a socket.
    pub(crate) fn lose(&mut self, cpu: Cpu, datagram: &[u8]) -> bool {
        let dropped =
            |connector: &Self| -> u64 { connector.sockets.iter().map(|socket| socket.queue.dropped).sum() };
        let before = dropped(self);
        let multicast = Multicast::new(datagram, 0, PROC_GROUP, cpu).lost(self.faults.losses.overrun());
        self.deliver_filtered(multicast, SocketState::is_addressed_by_kernel);
        dropped(self) > before
    }

    /// Delivers a multicast to the addressed sockets in the kernel's order: the one that joined
    /// last comes first.
    #[cold]
    fn deliver_filtered(
        &mut self,
        mut multicast: Multicast<'_>,
        is_addressed: impl Fn(&SocketState) -> bool,
    ) {
        let mut sockets: Vec<_> = self.sockets.iter_mut().filter(|socket| is_addressed(socket)).collect();
        sockets.sort_by_key(|socket| Reverse(socket.join_order));
        sockets.into_iter().for_each(|socket| multicast.deliver(socket));
    }
}
