//! Selects processes, and counts those that are left out because too little is known of them.

use pmon_analysis::filter::LifeFilter;
use pmon_analysis::life::Life;
use pmon_core::MonoNs;

use super::QueryOutcome;
use crate::args::ProcessArgs;

/// Selects the processes that satisfy the options.
#[derive(Clone, Debug)]
pub(crate) struct ProcessSelector {
    filter: LifeFilter,
    undecided: u64,
}

impl ProcessSelector {
    /// Creates a selector.
    pub(crate) fn new(args: &ProcessArgs) -> Self {
        Self { filter: args.life_filter(), undecided: 0 }
    }

    /// Returns whether a process is selected. `now` is the end of the recording.
    pub(crate) fn selects(&mut self, life: &Life, now: MonoNs) -> bool {
        let is_selected = self.filter.matches(life, now);
        if !is_selected && self.filter.may_match(life, now) {
            self.undecided += 1;
        }
        is_selected
    }

    /// Notes how many processes were left out although they may satisfy the options.
    pub(crate) fn note(&self, outcome: &mut QueryOutcome) {
        outcome.undecided = self.undecided;
    }
}
