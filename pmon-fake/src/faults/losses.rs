//! The faults that lose real events, and for how long.

use super::place::{ComingEvent, EventPlace};

/// The losses that are in effect. An event that several of them cover is lost once.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    active: Vec<ActiveLoss>,
    /// The number of the latest overrun: consecutive lost events are one overrun.
    overrun: u64,
    /// Whether the next lost event continues that overrun.
    continues: bool,
}

#[derive(Debug)]
struct ActiveLoss {
    /// The rule of the script, or `None` for a verb of the kernel.
    rule: Option<usize>,
    end: LossEnd,
    /// Whether a socket has lost an event.
    has_effect: bool,
}

/// When a loss ends.
#[derive(Debug)]
enum LossEnd {
    /// After this many more events.
    After(u64),
    /// Before the event that the place names.
    At {
        place: EventPlace,
        /// Number of matching events so far.
        matches: u64,
    },
}

impl Losses {
    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Creates a state without losses, whose overruns are numbered after those of `previous`.
    pub(crate) fn after(previous: &Self) -> Self {
        Self { overrun: previous.overrun, ..Self::default() }
    }

    /// Lets the next lost event begin an overrun of its own.
    pub(crate) fn begin_overrun(&mut self) {
        self.continues = false;
    }

    /// Returns the number of the overrun that the current lost event belongs to; the first is 1.
    pub(crate) fn overrun(&self) -> u64 {
        self.overrun
    }

    /// Loses the next `events` events.
    pub(crate) fn lose(&mut self, rule: Option<usize>, events: u64) {
        // A rule has one loss at a time, so that their number is bounded.
        if let Some(ActiveLoss { end: LossEnd::After(left), has_effect, .. }) = self.of_rule(rule) {
            (*left, *has_effect) = (events.max(*left), false);
        } else if events > 0 {
            self.push(rule, LossEnd::After(events));
        }
    }

    /// Loses the next events up to the one that `place` names.
    pub(crate) fn lose_until(&mut self, rule: Option<usize>, place: EventPlace) {
        if rule.is_none() || self.of_rule(rule).is_none() {
            self.push(rule, LossEnd::At { place, matches: 0 });
        }
    }

    fn of_rule(&mut self, rule: Option<usize>) -> Option<&mut ActiveLoss> {
        let is_same = |loss: &&mut ActiveLoss| {
            loss.rule == rule && (rule.is_some() || matches!(loss.end, LossEnd::After(_)))
        };
        self.active.iter_mut().find(is_same)
    }

    fn push(&mut self, rule: Option<usize>, end: LossEnd) {
        self.active.push(ActiveLoss { rule, end, has_effect: false });
    }

    /// Ends the losses that do not cover the event that is about to happen.
    pub(crate) fn end_before(&mut self, event: &ComingEvent<'_>) {
        self.active.retain_mut(|loss| match &mut loss.end {
            LossEnd::After(left) => *left > 0,
            LossEnd::At { place, matches } => {
                *matches += u64::from(place.matches(event));
                *matches < place.number()
            }
        });
    }

    /// Returns whether the event that is about to happen is lost, and counts it.
    pub(crate) fn take_event(&mut self) -> bool {
        for loss in &mut self.active {
            if let LossEnd::After(left) = &mut loss.end {
                *left = left.saturating_sub(1);
            }
        }
        let is_lost = !self.active.is_empty();
        let continues = std::mem::replace(&mut self.continues, is_lost);
        self.overrun += u64::from(is_lost && !continues);
        is_lost
    }

    /// Notes that a socket has lost the event that is happening; returns the rules of which this is
    /// the first effect.
    pub(crate) fn first_effects(&mut self) -> impl Iterator<Item = usize> {
        self.active.iter_mut().filter_map(|loss| {
            let is_first = !std::mem::replace(&mut loss.has_effect, true);
            loss.rule.filter(|_| is_first)
        })
    }

    /// Returns whether the loss of a rule waits for its place.
    pub(crate) fn awaits_place(&self, rule: usize) -> bool {
        self.active.iter().any(|loss| loss.rule == Some(rule) && matches!(loss.end, LossEnd::At { .. }))
    }
}
