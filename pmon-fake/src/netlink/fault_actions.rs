//! The effects of a fault script on the connector: injected, dropped, delayed and truncated
//! datagrams.

use pmon_core::wire::{ByteOrder, Comm, Event, EventBody, layout};
use pmon_core::{Cpu, MonoNs, Seq, Task};

use crate::faults::injector::{DelayedDatagram, DueFault, FaultInjector, FaultState};
use crate::faults::losses::Losses;
use crate::faults::place::{ComingEvent, EventPlace};
use crate::faults::script::{Fault, MAX_BURST};
use crate::netlink::connector::Connector;
use crate::netlink::message::{NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, message};
use crate::netlink::socket_state::SocketState;

/// Process id and netlink port of the processes that a script invents.
const INVENTED_ID: u32 = 4711;

impl Connector {
    /// Replaces the fault script, and ends all effects of the previous one.
    pub(crate) fn set_faults(&mut self, injector: FaultInjector) {
        self.release_all();
        let uses_processes = injector.uses_processes();
        let losses = Losses::after(&self.faults.losses);
        self.faults = FaultState { injector, uses_processes, losses, ..FaultState::default() };
        self.for_each_open(|socket| (socket.eintr_calls, socket.eagain_calls) = (0, 0));
    }

    /// Applies the faults that are due before the event that is about to happen on `cpu`.
    #[inline]
    pub(crate) fn inject_faults<'a>(&mut self, cpu: Cpu, event: impl FnOnce() -> ComingEvent<'a>) {
        let number = self.events;
        self.events += 1;
        if self.faults.injector.is_due(number) || !self.faults.losses.is_empty() {
            self.inject_due(number, cpu, &event());
        }
    }

    #[cold]
    fn inject_due(&mut self, number: u64, cpu: Cpu, event: &ComingEvent<'_>) {
        // A loss ends first, so that its rule can begin another one before the same event.
        self.faults.losses.end_before(event);
        if self.faults.injector.is_due(number) {
            for due in self.faults.injector.faults_before(number, cpu, event) {
                let rule = due.rule;
                if self.apply(due) {
                    self.faults.injector.count_effect(rule);
                }
            }
        }
        // Not before, because a fault can add events, and those are not lost.
        self.faults.loses_event = self.faults.losses.take_event();
    }

    /// Loses the next `events` events.
    pub(crate) fn lose_next(&mut self, events: u64) {
        self.faults.losses.begin_overrun();
        self.faults.losses.lose(None, events);
    }

    /// Loses the next events up to the one that `place` names.
    pub(crate) fn lose_until(&mut self, place: EventPlace) {
        self.faults.uses_processes |= place.uses_comm() || place.uses_args();
        self.faults.losses.begin_overrun();
        self.faults.losses.lose_until(None, place);
    }

    /// Injects a fault; returns whether it has an effect, as far as that is known already.
    fn apply(&mut self, DueFault { rule, fault, cpu, amount }: DueFault) -> bool {
        let has_effect = self.has_effect(&fault, cpu, amount);
        let emits_nothing = self.faults.blind > 0 || self.listeners < 1;
        let calls = u32::try_from(amount).unwrap_or(u32::MAX);
        match fault {
            // An event that is not emitted has no sequence number either.
            Fault::Overrun(_)
            | Fault::NoMemory(_)
            | Fault::Burst(_)
            | Fault::ForeignAck
            | Fault::Unknown(_)
                if emits_nothing => {}
            Fault::Lose(_) => self.faults.losses.lose(Some(rule), amount),
            Fault::LoseUntil(place) => self.faults.losses.lose_until(Some(rule), place),
            Fault::Overrun(_) => self.overrun(cpu, amount),
            Fault::NoMemory(_) => self.skip_numbers(cpu, amount),
            Fault::Burst(_) => {
                let task = Task::new(INVENTED_ID, INVENTED_ID);
                let comm = Comm(*b"burst\0\0\0\0\0\0\0\0\0\0\0");
                for _ in 0..amount.min(MAX_BURST.into()) {
                    self.tick();
                    self.emit(cpu, EventBody::Comm { task, comm });
                }
            }
            Fault::Eintr(_) => {
                self.for_each_open(|socket| socket.eintr_calls = socket.eintr_calls.saturating_add(calls));
            }
            Fault::Eagain(_) => {
                self.for_each_open(|socket| socket.eagain_calls = socket.eagain_calls.saturating_add(calls));
            }
            Fault::Truncate(_) => self.faults.truncate = Some(amount as usize),
            Fault::ForeignAck => {
                self.tick();
                self.emit(cpu, EventBody::Ack { ack: amount as u32, err: 0 });
            }
            Fault::Forge => {
                // The forged event has the number of the next real one, and differs from an event
                // of the kernel only by its sender.
                let seq = self.seq.next(cpu).unwrap_or_default();
                if let Some(datagram) = placeholder(cpu, seq, self.now).encode(ByteOrder::NATIVE) {
                    self.deliver(&datagram, INVENTED_ID);
                }
            }
            Fault::Noop => self.deliver(&message(NLMSG_NOOP, &[]), 0),
            Fault::Error(errno) => {
                // An `nlmsgerr`: the negative errno, and the header of the message that it answers.
                let payload = [&errno.wrapping_neg().to_ne_bytes()[..], &message(NLMSG_DONE, &[])].concat();
                self.deliver(&message(NLMSG_ERROR, &payload), 0);
            }
            Fault::Overflow => self.deliver(&message(NLMSG_OVERRUN, &[]), 0),
            Fault::Unknown(what) => {
                self.tick();
                let seq = self.seq.allocate(cpu, 1);
                if let Some(mut datagram) = placeholder(cpu, seq, self.now).encode(ByteOrder::NATIVE) {
                    datagram[layout::WHAT].copy_from_slice(&what.to_ne_bytes());
                    self.broadcast(cpu, &datagram);
                }
            }
            // Of each CPU, at most one datagram is delayed at a time.
            Fault::Hold(_) if self.faults.delayed.iter().any(|delayed| delayed.cpu == cpu) => {}
            Fault::Hold(_) => {
                let delayed = DelayedDatagram { cpu, remaining: calls, datagram: None };
                self.faults.delayed.push(delayed);
            }
            Fault::Step(_) => self.advance(amount),
            Fault::Blind(_) => self.faults.blind = self.faults.blind.saturating_add(amount),
            Fault::End => self.end(),
        }
        has_effect
    }

    /// Returns whether a fault that is injected now affects a socket. Of a loss, this is not known
    /// before an event is lost.
    fn has_effect(&self, fault: &Fault, cpu: Cpu, amount: u64) -> bool {
        let is_emitting = self.faults.blind == 0 && self.listeners >= 1;
        let is_open = || self.sockets.iter().any(|socket| socket.open && !socket.ended);
        let is_received = || self.sockets.iter().any(|socket| socket.is_addressed_by_kernel());
        match fault {
            Fault::Lose(_) | Fault::LoseUntil(_) => false,
            Fault::Eintr(_) | Fault::Eagain(_) => amount > 0 && is_open(),
            Fault::Step(_) => amount > 0,
            Fault::End => is_open(),
            Fault::Overrun(_) | Fault::ForeignAck | Fault::Unknown(_) => is_emitting && is_received(),
            Fault::NoMemory(_) | Fault::Burst(_) => amount > 0 && is_emitting && is_received(),
            Fault::Blind(_) => amount > 0 && self.listeners >= 1 && is_received(),
            Fault::Hold(_) => is_received() && !self.faults.delayed.iter().any(|delayed| delayed.cpu == cpu),
            Fault::Truncate(_) | Fault::Forge | Fault::Noop | Fault::Error(_) | Fault::Overflow => {
                is_received()
            }
        }
    }

    fn for_each_open(&mut self, change: impl FnMut(&mut SocketState)) {
        self.sockets.iter_mut().filter(|socket| socket.open).for_each(change);
    }

    /// Delivers all delayed datagrams.
    pub(crate) fn release_all(&mut self) {
        for delayed in std::mem::take(&mut self.faults.delayed) {
            delayed.datagram.into_iter().for_each(|datagram| self.deliver(&datagram, 0));
        }
    }

    /// Loses, truncates, delays or delivers a datagram, as the faults in effect require.
    #[cold]
    pub(crate) fn broadcast_with_faults(&mut self, cpu: Cpu, datagram: &[u8]) {
        if std::mem::take(&mut self.faults.loses_event) {
            if self.lose(cpu, datagram) {
                self.faults.count_loss();
            }
            return;
        }
        let kept = self.faults.truncate.take().unwrap_or(usize::MAX).min(datagram.len());
        let datagram = &datagram[..kept];
        // Datagrams of one CPU stay in order.
        self.release(|delayed| delayed.cpu == cpu);
        match self.faults.delayed.iter_mut().find(|delayed| delayed.cpu == cpu && delayed.datagram.is_none())
        {
            Some(delayed) => delayed.datagram = Some(datagram.to_vec()),
            None => self.deliver(datagram, 0),
        }
    }

    /// Counts an event of `cpu` for the datagrams delayed on other CPUs, and delivers those that
    /// are due.
    #[inline]
    pub(crate) fn release_due(&mut self, cpu: Cpu) {
        if self.faults.delayed.is_empty() {
            return;
        }
        for delayed in &mut self.faults.delayed {
            if delayed.cpu != cpu && delayed.datagram.is_some() {
                delayed.remaining = delayed.remaining.saturating_sub(1);
            }
        }
        self.release(|delayed| delayed.remaining == 0);
    }

    /// Delivers the delayed datagrams that `is_due` selects.
    fn release(&mut self, is_due: impl Fn(&DelayedDatagram) -> bool) {
        let mut at = 0;
        while let Some(delayed) = self.faults.delayed.get(at) {
            if delayed.datagram.is_none() || !is_due(delayed) {
                at += 1;
                continue;
            }
            let delayed = self.faults.delayed.remove(at);
            delayed.datagram.into_iter().for_each(|datagram| self.deliver(&datagram, 0));
        }
    }
}

/// Returns an event that stands for one that no process caused.
fn placeholder(cpu: Cpu, seq: Seq, time: MonoNs) -> Event {
    Event { time, seq, cpu, body: EventBody::Sid { task: Task::default() } }
}
