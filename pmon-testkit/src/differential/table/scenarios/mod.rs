//! The scenarios.

mod buffers;
mod charges;
mod filters;
mod masks;
mod members;
mod overruns;
mod peers;
mod programs;
mod reading;
mod requests;
mod silence;

use super::run::Scenario;

/// All of them.
pub(crate) const SCENARIOS: &[&[Scenario]] = &[
    members::SCENARIOS,
    buffers::SCENARIOS,
    charges::SCENARIOS,
    overruns::SCENARIOS,
    reading::SCENARIOS,
    requests::SCENARIOS,
    masks::SCENARIOS,
    peers::SCENARIOS,
    filters::SCENARIOS,
    programs::SCENARIOS,
    silence::SCENARIOS,
];
