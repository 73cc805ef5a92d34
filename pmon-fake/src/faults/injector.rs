//! What goes wrong, where, and how much of it: a script at work.

use oorandom::Rand32;
use pmon_core::wire::{Comm, EventBody};
use pmon_core::{Cpu, Task};

use crate::faults::script::{Amount, Fault, FaultRule, FaultScript, MAX_BURST, Trigger};

/// The processes that cause what nobody asked for, and other listeners, have these ids.
const STRANGER: u32 = 4711;
/// The message that says that some were lost.
pub(crate) const NLMSG_OVERRUN: u16 = 4;

/// Something to be done to the connector.
#[derive(Debug)]
pub(crate) enum FaultAction {
    /// Events are dropped for want of room.
    Overrun { cpu: Cpu, events: u64 },
    /// Events have no memory.
    NoMemory { cpu: Cpu, events: u64 },
    /// Events happen.
    Emit { cpu: Cpu, events: u64, body: EventBody },
    /// An event of a kind that nobody knows happens.
    Unknown { cpu: Cpu, what: u32 },
    /// Calls end with `EINTR`.
    Interrupt { calls: u32 },
    /// Calls end with `EAGAIN`.
    Starve { calls: u32 },
    /// The next datagram has no more bytes than this.
    Cut { bytes: usize },
    /// A datagram that is no event comes.
    Datagram { bytes: Vec<u8>, sender: u32 },
    /// User space sends what looks like an event.
    Forge { cpu: Cpu, sender: u32 },
    /// The CPU's next event comes after so many of other CPUs.
    Hold { cpu: Cpu, until: u32 },
    /// The clock goes on.
    Step { ns: u64 },
    /// Events are not emitted.
    Blind { events: u64 },
    /// Nothing comes any more.
    End,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FaultInjector {
    script: FaultScript,
    random: Rand32,
    /// No rule is due before this event.
    next: u64,
}

impl Default for FaultInjector {
    fn default() -> Self {
        Self { script: FaultScript::default(), random: Rand32::new(0), next: u64::MAX }
    }
}

impl FaultInjector {
    pub(crate) fn new(script: FaultScript, seed: u64) -> Self {
        let next = if script.rules().is_empty() { u64::MAX } else { 0 };
        Self { script, random: Rand32::new(seed), next }
    }

    /// Whether anything may be due before event number `happens`.
    #[inline]
    pub(crate) fn is_due(&self, happens: u64) -> bool {
        happens >= self.next
    }

    /// What is to be done before that event, which is of `cpu`.
    pub(crate) fn before(&mut self, happens: u64, cpu: Cpu) -> Vec<FaultAction> {
        let Self { script, random, next } = self;
        *next = u64::MAX;
        let mut actions = Vec::new();
        for rule in script.rules() {
            let (is_due, again) = is_due(rule.trigger, happens, random);
            if is_due {
                actions.extend(action(rule, cpu, random));
            }
            *next = again.min(*next);
        }
        actions
    }
}

/// Whether that place is before event number `happens`, and the next event before which it may be.
fn is_due(place: Trigger, happens: u64, random: &mut Rand32) -> (bool, u64) {
    match place {
        Trigger::At(at) => (at == happens, if happens < at { at } else { u64::MAX }),
        Trigger::Every { events, from } => match happens.checked_sub(from) {
            None => (false, from),
            Some(since) => (since % events == 0, happens.saturating_add(events - since % events)),
        },
        // In whole numbers: the same on every machine.
        Trigger::Chance(of) => (random.rand_u32() < of, happens + 1),
    }
}

fn action(rule: &FaultRule, happening_on: Cpu, random: &mut Rand32) -> Option<FaultAction> {
    let cpu = rule.cpu.unwrap_or(happening_on);
    let mut draw = |amount: Amount| amount.draw(random);
    Some(match rule.fault {
        Fault::Overrun(events) => FaultAction::Overrun { cpu, events: draw(events) },
        Fault::NoMemory(events) => FaultAction::NoMemory { cpu, events: draw(events) },
        Fault::Burst(events) => {
            let body = EventBody::Comm {
                task: Task::new(STRANGER, STRANGER),
                comm: Comm(*b"burst\0\0\0\0\0\0\0\0\0\0\0"),
            };
            FaultAction::Emit { cpu, events: draw(events).min(MAX_BURST.into()), body }
        }
        Fault::Eintr(calls) => FaultAction::Interrupt { calls: draw(calls) as u32 },
        Fault::Eagain(calls) => FaultAction::Starve { calls: draw(calls) as u32 },
        Fault::Truncate(bytes) => FaultAction::Cut { bytes: draw(bytes) as usize },
        Fault::ForeignAck => {
            FaultAction::Emit { cpu, events: 1, body: EventBody::Ack { ack: random.rand_u32(), err: 0 } }
        }
        Fault::Forge => FaultAction::Forge { cpu, sender: STRANGER },
        Fault::Noop => FaultAction::Datagram { bytes: message(1, &[]), sender: 0 },
        Fault::Error(errno) => {
            // An `nlmsgerr`: the negative errno, and the header of what it is the answer to.
            let error = errno.wrapping_neg().to_ne_bytes();
            FaultAction::Datagram { bytes: message(2, &[&error[..], &message(3, &[])].concat()), sender: 0 }
        }
        Fault::Overflow => FaultAction::Datagram { bytes: message(NLMSG_OVERRUN, &[]), sender: 0 },
        Fault::Unknown(what) => FaultAction::Unknown { cpu, what },
        Fault::Hold(events) => FaultAction::Hold { cpu, until: draw(events) as u32 },
        Fault::Step(ns) => FaultAction::Step { ns: draw(ns) },
        Fault::Blind(events) => FaultAction::Blind { events: draw(events) },
        Fault::End => FaultAction::End,
    })
}

/// A netlink message of that type.
pub(crate) fn message(nlmsg_type: u16, payload: &[u8]) -> Vec<u8> {
    let len = (pmon_core::wire::NLMSGHDR_LEN + payload.len()) as u32;
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(nlmsg_type.to_ne_bytes());
    bytes.resize(pmon_core::wire::NLMSGHDR_LEN, 0);
    bytes.extend(payload);
    bytes
}
