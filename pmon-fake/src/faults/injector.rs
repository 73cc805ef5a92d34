//! The fault injector, which decides before each event which faults of a script are due, and the
//! effects of faults that have not ended yet.

use oorandom::Rand32;
use pmon_core::Cpu;

use crate::faults::script::{Fault, FaultRule, FaultScript, Trigger};

/// A fault that is due, with its random number drawn.
#[derive(Debug)]
pub(crate) struct DueFault {
    pub(crate) fault: Fault,
    pub(crate) cpu: Cpu,
    /// The amount of the fault; for [`Fault::ForeignAck`], the acknowledged number.
    pub(crate) amount: u64,
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

    /// Returns the faults that are due before event number `event`, which happens on `cpu`.
    pub(crate) fn faults_before(&mut self, event: u64, cpu: Cpu) -> Vec<DueFault> {
        let Self { script, random, next } = self;
        *next = u64::MAX;
        let mut faults = Vec::new();
        for &FaultRule { trigger, fault, cpu: rule_cpu } in script.rules() {
            let (is_due, following) = is_due(trigger, event, random);
            if is_due {
                faults.push(DueFault { fault, cpu: rule_cpu.unwrap_or(cpu), amount: draw(fault, random) });
            }
            *next = following.min(*next);
        }
        faults
    }
}

/// A running fault script, and its effects on coming events.
#[derive(Debug, Default)]
pub(crate) struct FaultState {
    pub(crate) injector: FaultInjector,
    /// Number of coming events that are not emitted (fault `blind`).
    pub(crate) blind: u64,
    pub(crate) delayed: Vec<DelayedDatagram>,
    /// Length to which the next datagram is truncated (fault `truncate`).
    pub(crate) truncate: Option<usize>,
}

/// A datagram that the fault `hold` keeps back.
#[derive(Debug)]
pub(crate) struct DelayedDatagram {
    pub(crate) cpu: Cpu,
    /// Number of events on other CPUs that come before this datagram.
    pub(crate) remaining: u32,
    /// The datagram, or `None` until its event has happened.
    pub(crate) datagram: Option<Vec<u8>>,
}

impl FaultState {
    /// Returns whether datagrams have to be truncated or delayed.
    #[inline]
    pub(crate) fn intercepts_datagrams(&self) -> bool {
        self.truncate.is_some() || !self.delayed.is_empty()
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

fn draw(fault: Fault, random: &mut Rand32) -> u64 {
    match fault {
        Fault::Overrun(amount)
        | Fault::NoMemory(amount)
        | Fault::Burst(amount)
        | Fault::Eintr(amount)
        | Fault::Eagain(amount)
        | Fault::Truncate(amount)
        | Fault::Hold(amount)
        | Fault::Step(amount)
        | Fault::Blind(amount) => amount.draw(random),
        Fault::ForeignAck => random.rand_u32().into(),
        Fault::Forge | Fault::Noop | Fault::Error(_) | Fault::Overflow | Fault::Unknown(_) | Fault::End => 0,
    }
}
