//! The effects of a fault script on the connector: injected, dropped, delayed and truncated
//! datagrams.

use pmon_core::wire::{ByteOrder, Event, EventBody, layout};
use pmon_core::{Cpu, MonoNs, Seq, Task};

use crate::faults::injector::{FaultAction, FaultInjector};
use crate::faults::state::{DelayedDatagram, FaultState};
use crate::netlink::connector::Connector;
use crate::netlink::message::{NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, message};
use crate::netlink::socket_state::SocketState;

impl Connector {
    /// Replaces the fault script, and ends all effects of the previous one.
    pub(crate) fn set_faults(&mut self, injector: FaultInjector) {
        self.release_all();
        self.faults = FaultState { injector, ..FaultState::default() };
        self.for_each_open(|socket| (socket.eintr_calls, socket.eagain_calls) = (0, 0));
    }

    /// Applies the faults that are due before the event that is about to happen on `cpu`.
    #[inline]
    pub(crate) fn inject_faults(&mut self, cpu: Cpu) {
        let event = self.events;
        self.events += 1;
        if self.faults.injector.is_due(event) {
            self.faults.injector.actions_before(event, cpu).into_iter().for_each(|action| self.apply(action));
        }
    }

    fn apply(&mut self, action: FaultAction) {
        let emits_nothing = self.faults.blind > 0 || self.listeners < 1;
        match action {
            // An event that is not emitted has no sequence number either.
            FaultAction::Overrun { .. }
            | FaultAction::NoMemory { .. }
            | FaultAction::Emit { .. }
            | FaultAction::Unknown { .. }
                if emits_nothing => {}
            FaultAction::Overrun { cpu, events } => self.overrun(cpu, events),
            FaultAction::NoMemory { cpu, events } => self.skip_numbers(cpu, events),
            FaultAction::Emit { cpu, events, body } => {
                for _ in 0..events {
                    self.tick();
                    self.emit(cpu, body);
                }
            }
            FaultAction::Eintr { calls } => {
                self.for_each_open(|socket| socket.eintr_calls = socket.eintr_calls.saturating_add(calls))
            }
            FaultAction::Eagain { calls } => {
                self.for_each_open(|socket| socket.eagain_calls = socket.eagain_calls.saturating_add(calls))
            }
            FaultAction::Truncate { bytes } => self.faults.truncate = Some(bytes),
            FaultAction::Noop => self.deliver(&message(NLMSG_NOOP, &[]), 0),
            FaultAction::Error { errno } => {
                // An `nlmsgerr`: the negative errno, and the header of the message that it answers.
                let payload = [&errno.wrapping_neg().to_ne_bytes()[..], &message(NLMSG_DONE, &[])].concat();
                self.deliver(&message(NLMSG_ERROR, &payload), 0);
            }
            FaultAction::OverrunMessage => self.deliver(&message(NLMSG_OVERRUN, &[]), 0),
            FaultAction::Unknown { cpu, what } => {
                self.tick();
                let seq = self.seq.allocate(cpu, 1);
                if let Some(mut datagram) = placeholder(cpu, seq, self.now()).encode(ByteOrder::NATIVE) {
                    datagram[layout::WHAT].copy_from_slice(&what.to_ne_bytes());
                    self.broadcast(cpu, &datagram);
                }
            }
            FaultAction::Forge { cpu, sender } => {
                // The forged event has the number of the next real one, so that only its sender
                // gives it away.
                let seq = self.seq.next(cpu).unwrap_or_default();
                if let Some(datagram) = placeholder(cpu, seq, self.now()).encode(ByteOrder::NATIVE) {
                    self.deliver(&datagram, sender);
                }
            }
            // Of each CPU, at most one datagram is delayed at a time.
            FaultAction::Hold { cpu, .. } if self.faults.delayed.iter().any(|delayed| delayed.cpu == cpu) => {
            }
            FaultAction::Hold { cpu, events } => {
                self.faults.delayed.push(DelayedDatagram { cpu, remaining: events, datagram: None })
            }
            FaultAction::Step { ns } => self.advance(ns),
            FaultAction::Blind { events } => self.faults.blind = self.faults.blind.saturating_add(events),
            FaultAction::End => self.end(),
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

    /// Truncates or delays a datagram where the script says so, and otherwise delivers it.
    #[cold]
    pub(crate) fn broadcast_with_faults(&mut self, cpu: Cpu, datagram: &[u8]) {
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
