//! The scenarios.

mod buffers;
mod charges;
mod masks;
mod members;
mod overruns;
mod reading;
mod requests;
mod silence;

use super::scene::Scenario;

/// All of them.
pub(crate) const SCENARIOS: &[&[Scenario]] = &[
    members::SCENARIOS,
    buffers::SCENARIOS,
    charges::SCENARIOS,
    overruns::SCENARIOS,
    reading::SCENARIOS,
    requests::SCENARIOS,
    masks::SCENARIOS,
    silence::SCENARIOS,
];
