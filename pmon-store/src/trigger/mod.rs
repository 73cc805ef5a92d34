//! Triggers: conditions on events that request a clip of the recording around the event.

use std::time::Duration;

use pmon_core::MonoNs;
use pmon_core::Tgid;

/// A request for a clip by a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerFired {
    /// Name of the trigger, of letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Time of the event.
    pub at: MonoNs,
    /// Time span before the event that the clip shall cover.
    pub before: Duration,
    /// Time span after the event that the clip shall cover.
    pub after: Duration,
    /// The process of the event.
    pub process: Option<ProcessSummary>,
}

/// The process of an event that fired a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessSummary {
    /// Process ID.
    pub pid: Tgid,
    /// Parent of the process.
    pub ppid: Option<Tgid>,
    /// Name of the first thread.
    pub comm: Option<Vec<u8>>,
    /// Path of the executable.
    pub exe: Option<Vec<u8>>,
    /// Raw wait status, if the event is the exit of the process.
    pub status: Option<u32>,
}
