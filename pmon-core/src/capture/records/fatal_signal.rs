//! Where the signal came from that killed a process.

use crate::wire::Comm;

/// What is known of the signal that killed a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FatalSignal {
    /// Whether the OOM killer had selected the process (`signal->oom_mm`); `None` if that is
    /// unknown.
    pub oom_victim: Option<bool>,
    /// Origin of the signal.
    pub origin: SignalOrigin,
}

/// Origin of a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignalOrigin {
    /// The recorder could not determine the origin.
    #[default]
    Unknown,
    /// The kernel sent the signal on its own: for a fault, for a timer, for input of a terminal, or
    /// to free memory.
    Kernel {
        /// Cause of the signal (`si_code` in `sigaction(2)`).
        code: i32,
    },
    /// A process sent the signal.
    Process {
        /// Cause of the signal (`si_code` in `sigaction(2)`).
        code: i32,
        /// The process.
        sender: SignalSender,
    },
}

/// A process that sent a signal, as it was then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSender {
    /// Process ID in the initial PID namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
    /// Real user ID.
    pub uid: u32,
    /// Name of the first thread.
    pub comm: Comm,
}

impl FatalSignal {
    /// Returns whether the OOM killer killed the process; `None` if that is unknown.
    ///
    /// A process that another one has killed can be selected afterwards, because it still has
    /// memory.
    pub fn is_oom_kill(&self) -> Option<bool> {
        match self.origin {
            SignalOrigin::Process { .. } => self.oom_victim.map(|_| false),
            SignalOrigin::Unknown | SignalOrigin::Kernel { .. } => self.oom_victim,
        }
    }
}
