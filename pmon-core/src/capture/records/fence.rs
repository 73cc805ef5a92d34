//! Fences: self-generated events of every CPU.

use serde::{Deserialize, Serialize};

use crate::ids::{Cpu, MonoNs};

/// The recorder made each CPU emit a self-generated event.
///
/// Losses of a CPU between its events of two fences show as gaps. If a fence did not reach a CPU,
/// losses before the CPU's first or after its last other event do not show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Time at which all events had been requested.
    pub time: MonoNs,
    /// Position of the fence in the recording.
    pub position: FencePosition,
    /// CPUs whose event did not arrive.
    pub unreached: Vec<UnreachedCpu>,
}

/// Position of a [`Fence`] in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FencePosition {
    /// The start of the recording.
    Start,
    /// The end of the recording.
    End,
}

impl FencePosition {
    /// Returns the position's name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
        }
    }
}

/// A CPU that a [`Fence`] did not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreachedCpu {
    /// The CPU.
    pub cpu: Cpu,
    /// The reason.
    pub why: UnreachedReason,
}

/// Why a [`Fence`] did not reach a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum UnreachedReason {
    /// The CPU was offline.
    Offline,
    /// The recorder is not allowed to run on the CPU (`cpuset(7)`).
    Forbidden,
    /// The CPU's event did not arrive in time: the CPU was busy, or the event was lost.
    Silent,
}

impl UnreachedReason {
    /// Returns the reason's name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Forbidden => "forbidden",
            Self::Silent => "silent",
        }
    }
}
