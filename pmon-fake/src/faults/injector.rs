//! The fault injector, which decides before each event which faults of a script are due, and the
//! effects of faults that have not ended yet.

use oorandom::Rand32;
use pmon_core::Cpu;

use crate::faults::losses::Losses;
use crate::faults::place::ComingEvent;
use crate::faults::script::{Fault, FaultCount, FaultRule, FaultScript, Trigger};

/// A fault that is due, with its random number drawn.
#[derive(Debug)]
pub(crate) struct DueFault {
    /// The index of the rule.
    pub(crate) rule: usize,
    pub(crate) fault: Fault,
    pub(crate) cpu: Cpu,
    /// The amount of the fault; for [`Fault::ForeignAck`], the acknowledged number.
    pub(crate) amount: u64,
}

/// A running script: its random state, and the next event that needs a look at its rules.
#[derive(Debug)]
pub(crate) struct FaultInjector {
    script: FaultScript,
    progress: Vec<RuleProgress>,
    random: Rand32,
    /// Number of the next event before which a rule may be due.
    next: u64,
}

/// What a rule has met and done so far.
#[derive(Clone, Copy, Debug, Default)]
struct RuleProgress {
    /// Number of events that matched the place of the trigger.
    matches: u64,
    count: FaultCount,
}

impl Default for FaultInjector {
    fn default() -> Self {
        Self::new(FaultScript::default(), 0)
    }
}

impl FaultInjector {
    pub(crate) fn new(script: FaultScript, seed: u64) -> Self {
        let next = if script.rules().is_empty() { u64::MAX } else { 0 };
        let progress = vec![RuleProgress::default(); script.rules().len()];
        Self { script, progress, random: Rand32::new(seed), next }
    }

    /// Returns whether a rule may be due before event number `event`.
    #[inline]
    pub(crate) fn is_due(&self, event: u64) -> bool {
        event >= self.next
    }

    /// Returns the faults that are due before event number `number`, which happens on `cpu`.
    pub(crate) fn faults_before(&mut self, number: u64, cpu: Cpu, event: &ComingEvent<'_>) -> Vec<DueFault> {
        let Self { script, progress, random, next } = self;
        *next = u64::MAX;
        let mut faults = Vec::new();
        for (rule, FaultRule { trigger, fault, cpu: rule_cpu }) in script.rules().iter().enumerate() {
            let RuleProgress { matches, count } = &mut progress[rule];
            let (is_due, following) = is_due(trigger, number, event, matches, random);
            if is_due {
                count.fired += 1;
                let (fault, amount) = (fault.clone(), draw(fault, random));
                faults.push(DueFault { rule, fault, cpu: rule_cpu.unwrap_or(cpu), amount });
            }
            *next = following.min(*next);
        }
        faults
    }

    /// Counts an effect of a rule.
    pub(crate) fn count_effect(&mut self, rule: usize) {
        self.progress[rule].count.effective += 1;
    }

    /// Returns the counts of the rules in the order of the script.
    pub(crate) fn counts(&self) -> impl Iterator<Item = FaultCount> {
        self.progress.iter().map(|progress| progress.count)
    }

    /// Returns whether a rule depends on the name or the command line of a process.
    pub(crate) fn uses_processes(&self) -> bool {
        self.script.uses_comm() || self.script.uses_args()
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
    pub(crate) losses: Losses,
    /// Whether the event that is happening is lost.
    pub(crate) loses_event: bool,
    /// Whether a place depends on the name or the command line of a process.
    pub(crate) uses_processes: bool,
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
    /// Returns whether datagrams have to be lost, truncated or delayed.
    #[inline]
    pub(crate) fn intercepts_datagrams(&self) -> bool {
        self.loses_event || self.truncate.is_some() || !self.delayed.is_empty()
    }

    /// Notes that a socket has lost the event that is happening.
    pub(crate) fn count_loss(&mut self) {
        let Self { losses, injector, .. } = self;
        losses.first_effects().for_each(|rule| injector.count_effect(rule));
    }

    /// Returns how often each rule has fired.
    pub(crate) fn counts(&self) -> Vec<FaultCount> {
        let counts = self.injector.counts().enumerate();
        counts
            .map(|(rule, count)| FaultCount { is_losing: self.losses.awaits_place(rule), ..count })
            .collect()
    }
}

/// Returns whether the trigger fires before event number `number`, and the next event before which
/// it may fire. `matches` is the number of events that matched the place of the trigger so far.
fn is_due(
    trigger: &Trigger,
    number: u64,
    event: &ComingEvent<'_>,
    matches: &mut u64,
    random: &mut Rand32,
) -> (bool, u64) {
    if let Some(place) = trigger.place() {
        if !place.matches(event) {
            return (false, number + 1);
        }
        *matches += 1;
    }
    match trigger {
        Trigger::At(at) => (*at == number, if number < *at { *at } else { u64::MAX }),
        Trigger::Every { events, from } => match number.checked_sub(*from) {
            None => (false, *from),
            Some(since) => (since % events == 0, number.saturating_add(events - since % events)),
        },
        // Integer arithmetic gives the same result on every machine.
        Trigger::Chance(probability) | Trigger::ChanceOf { probability, .. } => {
            (random.rand_u32() < *probability, number + 1)
        }
        Trigger::Place(place) => {
            let is_over = *matches >= place.number();
            (*matches == place.number(), if is_over { u64::MAX } else { number + 1 })
        }
        Trigger::EveryOf { events, from, .. } => {
            let since = (*matches - 1).checked_sub(*from);
            (since.is_some_and(|since| since.is_multiple_of(*events)), number + 1)
        }
    }
}

fn draw(fault: &Fault, random: &mut Rand32) -> u64 {
    match fault {
        Fault::Lose(amount)
        | Fault::Overrun(amount)
        | Fault::NoMemory(amount)
        | Fault::Burst(amount)
        | Fault::Eintr(amount)
        | Fault::Eagain(amount)
        | Fault::Truncate(amount)
        | Fault::Hold(amount)
        | Fault::Step(amount)
        | Fault::Blind(amount) => amount.draw(random),
        Fault::ForeignAck => random.rand_u32().into(),
        Fault::LoseUntil(_)
        | Fault::Forge
        | Fault::Noop
        | Fault::Error(_)
        | Fault::Overflow
        | Fault::Unknown(_)
        | Fault::End => 0,
    }
}
