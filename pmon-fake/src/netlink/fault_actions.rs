//! What a script has done to the connector: what happens besides, what is kept back, and what is cut.

use pmon_core::Cpu;
use pmon_core::wire::{ByteOrder, Event, EventBody, layout};

use crate::faults::injector::{FaultAction, FaultInjector};
use crate::netlink::connector::Connector;
use crate::netlink::member::SocketState;

/// What a script has begun and not ended.
#[derive(Debug, Default)]
pub(crate) struct FaultState {
    faults: FaultInjector,
    /// So many events are not emitted.
    pub(crate) blind: u64,
    held: Vec<DelayedDatagram>,
    cut: Option<usize>,
}

/// A datagram that is kept back until so many of other CPUs were delivered; none yet, if its event has not happened.
#[derive(Debug)]
struct DelayedDatagram {
    cpu: Cpu,
    until: u32,
    datagram: Option<Vec<u8>>,
}

impl FaultState {
    /// Whether datagrams do not simply go to all who listen.
    #[inline]
    pub(crate) fn is_in_the_way(&self) -> bool {
        self.cut.is_some() || !self.held.is_empty()
    }
}

impl Connector {
    pub(crate) fn set_faults(&mut self, faults: FaultInjector) {
        self.settle();
        self.trouble = FaultState { faults, ..FaultState::default() };
        self.each(|member| (member.interrupted, member.starved) = (0, 0));
    }

    /// What the script has before the event that is about to happen.
    #[inline]
    pub(crate) fn inject(&mut self, cpu: Cpu) {
        let happens = self.happened;
        self.happened += 1;
        if self.trouble.faults.is_due(happens) {
            self.trouble.faults.before(happens, cpu).into_iter().for_each(|action| self.apply(action));
        }
    }

    fn apply(&mut self, action: FaultAction) {
        let is_silent = self.trouble.blind > 0 || self.listeners < 1;
        match action {
            // What nobody is told of has no number.
            FaultAction::Overrun { .. }
            | FaultAction::NoMemory { .. }
            | FaultAction::Emit { .. }
            | FaultAction::Unknown { .. }
                if is_silent => {}
            FaultAction::Overrun { cpu, events } => self.overrun(cpu, events),
            FaultAction::NoMemory { cpu, events } => self.skip(cpu, events),
            FaultAction::Emit { cpu, events, body } => {
                for _ in 0..events {
                    self.tick();
                    self.emit(cpu, body);
                }
            }
            FaultAction::Interrupt { calls } => {
                self.each(|member| member.interrupted = member.interrupted.saturating_add(calls))
            }
            FaultAction::Starve { calls } => {
                self.each(|member| member.starved = member.starved.saturating_add(calls))
            }
            FaultAction::Cut { bytes } => self.trouble.cut = Some(bytes),
            FaultAction::Datagram { bytes, sender } => self.deliver(&bytes, sender),
            FaultAction::Unknown { cpu, what } => {
                self.tick();
                let seq = self.numbers.give(cpu, 1);
                if let Some(mut frame) = nothing(cpu, seq, self.now()).encode(ByteOrder::NATIVE) {
                    frame[layout::WHAT].copy_from_slice(&what.to_ne_bytes());
                    self.broadcast(cpu, &frame);
                }
            }
            FaultAction::Forge { cpu, sender } => {
                // Plausible: it has the number that comes next.
                let seq = self.numbers.next(cpu).unwrap_or_default();
                if let Some(frame) = nothing(cpu, seq, self.now()).encode(ByteOrder::NATIVE) {
                    self.deliver(&frame, sender);
                }
            }
            // Of a CPU, one is held back at a time.
            FaultAction::Hold { cpu, .. } if self.trouble.held.iter().any(|held| held.cpu == cpu) => {}
            FaultAction::Hold { cpu, until } => {
                self.trouble.held.push(DelayedDatagram { cpu, until, datagram: None })
            }
            FaultAction::Step { ns } => self.pass(ns),
            FaultAction::Blind { events } => self.trouble.blind = self.trouble.blind.saturating_add(events),
            FaultAction::End => self.end(),
        }
    }

    fn each(&mut self, change: impl FnMut(&mut SocketState)) {
        self.members.iter_mut().filter(|member| member.open).for_each(change);
    }

    /// Nothing is kept back any longer.
    pub(crate) fn settle(&mut self) {
        for held in std::mem::take(&mut self.trouble.held) {
            held.datagram.into_iter().for_each(|datagram| self.deliver(&datagram, 0));
        }
    }

    #[cold]
    pub(crate) fn broadcast_faulty(&mut self, cpu: Cpu, datagram: &[u8]) {
        let kept = self.trouble.cut.take().unwrap_or(usize::MAX).min(datagram.len());
        let datagram = &datagram[..kept];
        // Of one CPU, none overtakes another.
        self.release(|held| held.cpu == cpu);
        match self.trouble.held.iter_mut().find(|held| held.cpu == cpu && held.datagram.is_none()) {
            Some(held) => held.datagram = Some(datagram.to_vec()),
            None => self.deliver(datagram, 0),
        }
    }

    /// After an event of that CPU: what was kept back for as long as this is delivered.
    #[inline]
    pub(crate) fn settle_held(&mut self, cpu: Cpu) {
        if self.trouble.held.is_empty() {
            return;
        }
        for held in self.trouble.held.iter_mut().filter(|held| held.cpu != cpu && held.datagram.is_some()) {
            held.until = held.until.saturating_sub(1);
        }
        self.release(|held| held.until == 0);
    }

    /// Delivers what was kept back, if it is due.
    fn release(&mut self, is_due: impl Fn(&DelayedDatagram) -> bool) {
        let mut at = 0;
        while let Some(held) = self.trouble.held.get(at) {
            if held.datagram.is_none() || !is_due(held) {
                at += 1;
                continue;
            }
            let held = self.trouble.held.remove(at);
            held.datagram.into_iter().for_each(|datagram| self.deliver(&datagram, 0));
        }
    }
}

/// An event that says nothing.
fn nothing(cpu: Cpu, seq: pmon_core::Seq, time: pmon_core::MonoNs) -> Event {
    Event { time, seq, cpu, body: EventBody::Sid { task: Default::default() } }
}
