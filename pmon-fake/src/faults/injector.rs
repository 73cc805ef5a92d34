//! The fault injector: decides before each event which faults of a script are due.

use oorandom::Rand32;
use pmon_core::wire::{Comm, EventBody};
use pmon_core::{Cpu, Task};

use crate::faults::script::{Amount, Fault, FaultRule, FaultScript, MAX_BURST, Trigger};

/// Process id and netlink port of the processes and listeners that a script invents.
const INVENTED_ID: u32 = 4711;

/// What the connector has to do for a fault, with all random amounts drawn.
#[derive(Debug)]
pub(crate) enum FaultAction {
    Overrun { cpu: Cpu, events: u64 },
    NoMemory { cpu: Cpu, events: u64 },
    Emit { cpu: Cpu, events: u64, body: EventBody },
    Unknown { cpu: Cpu, what: u32 },
    Eintr { calls: u32 },
    Eagain { calls: u32 },
    Truncate { bytes: usize },
    Noop,
    Error { errno: i32 },
    OverrunMessage,
    Forge { cpu: Cpu, sender: u32 },
    Hold { cpu: Cpu, events: u32 },
    Step { ns: u64 },
    Blind { events: u64 },
    End,
}

/// A running script: its random state, and the next event that needs a look at its rules.
#[derive(Debug)]
pub(crate) struct FaultInjector {
    script: FaultScript,
    random: Rand32,
    /// Number of the next event before which a rule may be due.
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

    /// Returns whether a rule may be due before event number `event`.
    #[inline]
    pub(crate) fn is_due(&self, event: u64) -> bool {
        event >= self.next
    }

    /// Returns the actions that are due before event number `event`, which happens on `cpu`.
    pub(crate) fn actions_before(&mut self, event: u64, cpu: Cpu) -> Vec<FaultAction> {
        let Self { script, random, next } = self;
        *next = u64::MAX;
        let mut actions = Vec::new();
        for rule in script.rules() {
            let (is_due, following) = is_due(rule.trigger, event, random);
            if is_due {
                actions.push(action(rule, cpu, random));
            }
            *next = following.min(*next);
        }
        actions
    }
}

/// Returns whether the trigger fires before event number `event`, and the next event before which
/// it may fire.
fn is_due(trigger: Trigger, event: u64, random: &mut Rand32) -> (bool, u64) {
    match trigger {
        Trigger::At(at) => (at == event, if event < at { at } else { u64::MAX }),
        Trigger::Every { events, from } => match event.checked_sub(from) {
            None => (false, from),
            Some(since) => (since % events == 0, event.saturating_add(events - since % events)),
        },
        // Integer arithmetic gives the same result on every machine.
        Trigger::Chance(probability) => (random.rand_u32() < probability, event + 1),
    }
}

fn action(rule: &FaultRule, event_cpu: Cpu, random: &mut Rand32) -> FaultAction {
    let cpu = rule.cpu.unwrap_or(event_cpu);
    let mut draw = |amount: Amount| amount.draw(random);
    match rule.fault {
        Fault::Overrun(events) => FaultAction::Overrun { cpu, events: draw(events) },
        Fault::NoMemory(events) => FaultAction::NoMemory { cpu, events: draw(events) },
        Fault::Burst(events) => {
            let body = EventBody::Comm {
                task: Task::new(INVENTED_ID, INVENTED_ID),
                comm: Comm(*b"burst\0\0\0\0\0\0\0\0\0\0\0"),
            };
            FaultAction::Emit { cpu, events: draw(events).min(MAX_BURST.into()), body }
        }
        Fault::Eintr(calls) => FaultAction::Eintr { calls: draw(calls) as u32 },
        Fault::Eagain(calls) => FaultAction::Eagain { calls: draw(calls) as u32 },
        Fault::Truncate(bytes) => FaultAction::Truncate { bytes: draw(bytes) as usize },
        Fault::ForeignAck => {
            FaultAction::Emit { cpu, events: 1, body: EventBody::Ack { ack: random.rand_u32(), err: 0 } }
        }
        Fault::Forge => FaultAction::Forge { cpu, sender: INVENTED_ID },
        Fault::Noop => FaultAction::Noop,
        Fault::Error(errno) => FaultAction::Error { errno },
        Fault::Overflow => FaultAction::OverrunMessage,
        Fault::Unknown(what) => FaultAction::Unknown { cpu, what },
        Fault::Hold(events) => FaultAction::Hold { cpu, events: draw(events) as u32 },
        Fault::Step(ns) => FaultAction::Step { ns: draw(ns) },
        Fault::Blind(events) => FaultAction::Blind { events: draw(events) },
        Fault::End => FaultAction::End,
    }
}
